"""What was found to be fastest on a device, kept from one run to the next.

One JSON file in the user's cache folder: {key: value}. It is a convenience: a file that is missing, damaged
or cannot be written costs a moment of measuring at the next start and is never an error.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

FILE = "NONCEFORGE_TUNING"
"""Environment variable: another place for the file."""


def path() -> Path:
    """Where the file is kept: XDG Base Directory Specification, 0.8."""
    if named := os.environ.get(FILE):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nonceforge" / "tuning.json"


def recall(key: str) -> str | None:
    """The value kept under this key."""
    return _read().get(key)


def remember(key: str, value: str) -> None:
    """Keep a value; another process's at the same moment may win."""
    kept, file = _read() | {key: value}, path()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as new:
            json.dump(kept, new, indent=1, sort_keys=True)
        os.replace(new.name, file)


def _read() -> dict[str, str]:
    try:
        kept = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in kept.items() if isinstance(v, str)} if isinstance(kept, dict) else {}
