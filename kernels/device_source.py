"""The search Program as CUDA C and OpenCL C: one body, and an entry point per language around it.

`scan.cu` and `scan.cl` hold what differs: the words' arithmetic, geometry, atomics and result slots. Between
their markers this module writes the struct of uniform words, which is a launch parameter by value, and the
straight-line body, which reads like FIPS 180-4 with the mining shortcuts taken:

    const word h1_T1_18_v0 = Sigma1_onto(h1_e_17_v0, add(h1_Ch_18_v0, add(h1_e_14_v0, ...)));

A GPU has two integer pipes of equal width: logic, shifts and three-input adds go to the ALU pipe; the
multiply-add pipe idles, unless an add is written as a * 1 + b with a 1 that the compiler cannot see.
A `Placement` says what moves there; docs/gpu.md derives why each of them pays, and what it costs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kernels.device_body import DEFAULT_PLACEMENT, PIPES, PLACEMENTS, VERSIONS, Pipes, Writer, rotates
from kernels.program import Program
from kernels.search import given, search

__all__ = ["DEFAULT_PLACEMENT", "PLACEMENTS", "VERSIONS", "DeviceSource", "Pipes", "device_source", "source"]

LANGUAGES = ("cuda", "opencl")


@dataclass(frozen=True)
class DeviceSource:
    """One translation unit, and how the host fills its launch parameters."""

    text: str
    fields: tuple[str, ...]
    """The uniform words, uint32 each, in the order of the struct."""
    versions: int
    program: Program

    def uniforms(self, midstates: Sequence[Sequence[int]], tail: bytes) -> list[int]:
        """The values of `fields` for one work: a midstate per version, and header bytes 64-75."""
        if len(midstates) != self.versions:
            raise ValueError(f"{len(midstates)} midstates for a kernel of {self.versions} versions")
        shared, own = self.program.prologue(given(midstates, tail))
        words = dict(zip((n.name for n in self.program.uniforms), shared, strict=True))
        for nodes, values in zip(self.program.per_version, own, strict=True):
            words |= zip((n.name for n in nodes), values, strict=True)
        return [words[name] if name in words else _opaque(name) for name in self.fields]


def _opaque(field: str) -> int:
    """one = 1, and right_n = 2**(32 - n): a product with it holds x >> n in its upper half."""
    return 1 if field == "one" else 1 << 32 - int(field.removeprefix("right_"))


@cache
def device_source(
    language: str,
    versions: int = 1,
    placement: str = DEFAULT_PLACEMENT,
    *,
    any_target: bool = False,
    pipes: Pipes = PIPES,
) -> DeviceSource:
    """The whole source of a search over `versions` siblings, entry point `scan`.

    Without `any_target` it finds the hashes below 2**224, those whose top word is zero: every target of
    difficulty 1 and above. With it the top word is compared with the bound that the launch gives.
    OpenCL knows no placement: its compilers place by themselves.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r}: not one of {', '.join(LANGUAGES)}")
    if placement not in PLACEMENTS:
        raise ValueError(f"placement {placement!r}: not one of {', '.join(PLACEMENTS)}")
    if versions not in VERSIONS:
        raise ValueError(f"{versions} versions: a GPU kernel takes one of {', '.join(map(str, VERSIONS))}")
    chosen = PLACEMENTS[placement if language == "cuda" else "none"]
    program = search(versions)
    writer = Writer(program, chosen, rotates(program, chosen, pipes))
    body = "\n".join(writer.lines())
    fields = writer.fields()
    parts = {
        "DEFINES": f"#define VERSIONS {versions}\n#define ANY_TARGET {int(any_target)}",
        "UNIFORMS": "\n".join(f"  word {name};" for name in fields),
        "BODY": body,
    }
    shell = resources.files("kernels").joinpath({"cuda": "scan.cu", "opencl": "scan.cl"}[language])
    text = re.sub(r"//@(\w+)@", lambda m: parts[m[1]], shell.read_text(encoding="utf-8"))
    return DeviceSource(text, fields, versions, writer.program)


def source(language: str, *, versions: int = 1, placement: str | None = None) -> str:
    """The text that `miner kernel` prints; ValueError for what does not exist."""
    return device_source(language, versions, placement or DEFAULT_PLACEMENT).text
