"""What the documents say is true: commands, links, examples."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_reference import render

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/vectors/*.md")])


def test_the_command_line_page_is_what_the_parser_says() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == render(), "run: python -m tests.cli_reference > docs/cli.md"


def test_every_command_and_option_has_a_help_text() -> None:
    for line in render().splitlines():
        assert not line.endswith(": "), line


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in re.findall(r"^## (miner \w+)$", render(), re.MULTILINE):
        assert command in readme, f"README.md says nothing of `{command}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 8
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accepted") == 3
    assert done.stdout.splitlines()[-1].startswith("3 ")


def test_two_nodes_race_to_one_chain() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "two_nodes.py", "2"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "both hold" in done.stdout


def test_the_changelog_starts_with_what_is_unreleased() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
