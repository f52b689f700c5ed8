"""docs/sha256d.md is a program: its code runs from top to bottom and prints what it says that it prints."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sha256d.md"

BLOCK = re.compile(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text())


def test_every_block_of_code_is_followed_by_what_it_prints() -> None:
    assert len(BLOCKS) == PAGE.read_text().count("```python") > 5


@pytest.fixture(scope="module")
def namespace() -> dict[str, object]:
    """What the blocks so far have defined."""
    return {}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number: int, namespace: dict[str, object]) -> None:
    code, printed = BLOCKS[number]
    for earlier in range(namespace.setdefault("blocks run", 0), number):  # type: ignore[call-overload]  # an int
        exec(BLOCKS[earlier][0], namespace)
    out = StringIO()
    with redirect_stdout(out):
        exec(code, namespace)
    namespace["blocks run"] = number + 1
    assert out.getvalue() == printed
