"""Pure modules do no I/O, start no thread, read no clock and roll no dice."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PURE = (
    "miner/errors.py miner/header.py miner/target.py miner/untrusted.py miner/params.py miner/transaction.py "
    "miner/block.py miner/address.py miner/work.py miner/header_rules.py miner/rules.py miner/seal.py "
    "miner/template_fields.py miner/template.py miner/pace.py miner/estimate.py miner/backends/known_hits.py "
    "miner/backends/choice.py "
    "miner/stratum_params.py miner/stratum_wire.py miner/stratum_jobs.py miner/stratum_events.py "
    "miner/stratum.py kernels/sha256.py kernels/program.py kernels/sums.py kernels/trace.py kernels/search.py"
).split()

HARMLESS = set(
    "ast collections contextlib dataclasses enum functools hashlib itertools json math operator re reprlib "
    "struct typing".split()
) | {"collections.abc"}

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", PURE)
def test_a_pure_module_imports_only_pure_ones(path: str) -> None:
    pure_modules = {name.removesuffix(".py").replace("/", ".") for name in PURE} | {"kernels", "miner"}
    foreign = imports(ast.parse((ROOT / path).read_text())) - HARMLESS - pure_modules
    assert not foreign, f"{path} is pure and imports {sorted(foreign)}"


@pytest.mark.parametrize("path", PURE)
def test_a_pure_module_calls_nothing_that_reads_or_writes(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS
