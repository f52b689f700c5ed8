"""The counted cost of a hash, as `python -m bench cost` prints it."""

import pytest

from bench import cost

# The figures of docs/sha256d.md, which tests/test_sha256d_doc.py holds to the program.
TABLE = """\
   versions  additions      logic      total
          1       1042       1805       2847
          2        964       1653       2617
          4        925       1577       2502
          8      905.5       1539     2444.5
"""


def test_the_table_is_operations_per_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main([]) == 0
    assert capsys.readouterr().out == TABLE


def test_one_number_of_versions_is_shown_by_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--versions", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["level", "add", "rotate", "shift", "logic"]
    assert lines[-1].split() == ["varying", "per", "version", "886", "868", "80", "553"]


def test_the_program_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(["--versions", "1", "--listing"])
    assert "  h1_a_3_v0 = h1_a_3_v0_known + nonce\n" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--versions", "3"], ["--listing"]])
def test_wrong_words_are_a_matter_of_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cost.main(argv)
    assert exit_.value.code == 2
    assert "--versions" in capsys.readouterr().err
