"""JSON to frozen dataclasses and back, refusing what does not fit in one sentence.            (pure)

A results file may come from a stranger, a later version or a full disk. Each mistake is a
ValueError that names the place: `rows[2].rounds[0].seconds is "fast", not a number`.
"""

import json
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_SHOWN = 60
"""Characters of an offending value that an error repeats."""


def encode(value: object) -> Any:
    """What `json.dumps` takes, for a dataclass of numbers, texts, tuples and further dataclasses."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], raw: object, where: str = "") -> T:
    """The value of type `kind` that `raw`, as parsed from JSON, stands for; else ValueError.

    Unknown keys are refused too: a file that says more than is understood is not understood.
    """
    value: T = _decode(kind, raw, where)
    return value


def _decode(kind: Any, raw: object, where: str) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _decode_optional(kind, raw, where)
    if typing.get_origin(kind) is tuple:
        return _decode_tuple(typing.get_args(kind), raw, where)
    if is_dataclass(kind):
        return _decode_fields(kind, raw, where)
    # JSON has one kind of number: 3 is a fine float. But true is not 1.
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind or raw != raw:  # NaN, which Python's parser lets in, differs from itself
        raise ValueError(f"{where or 'the file'} is {_shown(raw)}, not {_WORDS[kind]}")
    return raw


def _decode_optional(kind: Any, raw: object, where: str) -> Any:
    (inner,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return None if raw is None else _decode(inner, raw, where)


def _decode_tuple(kinds: Sequence[Any], raw: object, where: str) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise ValueError(f"{where} is {_shown(raw)}, not a list")
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(raw)
    if len(kinds) != len(raw):
        raise ValueError(f"{where} has {len(raw)} items, not {len(kinds)}")
    pairs = zip(kinds, raw, strict=True)
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


def _decode_fields(kind: Any, raw: object, where: str) -> Any:
    name = where or "the file"
    if not isinstance(raw, dict):
        raise ValueError(f"{name} is {_shown(raw)}, not an object")
    types_of = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for what, keys in (("lacks", set(names) - set(raw)), ("has an unknown", set(raw) - set(names))):
        if keys:
            raise ValueError(f"{name} {what} {sorted(keys)[0]!r:.{_SHOWN}}")
    prefix = f"{where}." if where else ""
    values = {key: _decode(types_of[key], raw[key], prefix + key) for key in names}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if where else str(error)) from None


def _shown(raw: object) -> str:
    text = json.dumps(raw)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
