"""The layers, as a diagram that fails when the code departs from it.

`bench -> miner -> kernels`, never back. Inside `miner` a module imports only
from lines above its own; names on one line never from each other. A new module
adds its name here. `miner` itself, the root, hands out names lazily: only an
outsider imports it, and `node`, which is written as one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("bench", "miner", "kernels")
"""From top to bottom: each may import those after it."""

MINER = """
errors waiting
header target untrusted
params transaction
block address
work
header_rules
rules
template_fields stratum_params
template stratum_wire stratum_jobs
stratum_events
stratum
lock news seal estimate meter pace
backends.protocol backends.pieces backends.choice backends.known_hits backends.thread_clock
backends.forms
backends.tuned backends.nvml backends.launches backends.cuda_errors
backends.python backends.numpy backends.numba backends.cuda backends.opencl backends.selftest
backends.worker
backends.multiprocess
backends
store chain grind
dispatch
lane
stats run
engine
sources
sources.connection
sources.jsonrpc sources.pool_link
sources.node_client
sources.node_jobs sources.long_poll sources.pool_shares
sources.local sources.rpc sources.pool
sources.opening
view
live
commands
commands.chain commands.grind commands.devices commands.bench commands.kernel
commands.mine
node
cli
__main__
"""

LINE_OF = {name: number for number, line in enumerate(MINER.split("\n")) for name in line.split()}


def modules(package: str) -> dict[str, Path]:
    """Dotted name inside the package -> file; the package itself is ""."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function; `from a import b` may mean a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports name their module in full"
            assert node.module is not None
            is_package = (ROOT / node.module.replace(".", "/") / "__init__.py").exists()
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                exists = (ROOT / (submodule.replace(".", "/") + ".py")).exists()
                yield submodule if is_package and exists else node.module


def miner_imports(path: Path) -> set[str]:
    """Modules of `miner` that a file imports, named without it; the root is ""."""
    names = (name for name in imported(path) if name.split(".")[0] == "miner")
    return {name.partition(".")[2] for name in names}


def test_the_diagram_names_every_module_that_there_is() -> None:
    missing = set(modules("miner")) - set(LINE_OF) - {""}
    assert not missing, f"add to the diagram: {sorted(missing)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards_only(package: str) -> None:
    above = PACKAGES[: PACKAGES.index(package)]
    for name, path in modules(package).items():
        wrong = {top for other in imported(path) if (top := other.split(".")[0]) in above}
        assert not wrong, f"{package}.{name} imports {wrong}"


@pytest.mark.parametrize("name", sorted(set(modules("miner")) - {"", "node"}))
def test_a_module_imports_only_from_lines_above_its_own(name: str) -> None:
    path = modules("miner")[name]
    for other in sorted(miner_imports(path)):
        if other == "" and name == "cli":
            continue  # for the version
        assert other != "", f"{name} imports the root, which hands out everything"
        assert LINE_OF[other] < LINE_OF[name], f"{name} imports {other}, which is not above it"


def test_the_reference_node_is_written_as_an_outsider() -> None:
    path = modules("miner").get("node")
    if path is not None:
        assert miner_imports(path) <= {""}


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "common", "base", "manager", "managers", "helpers", "misc"}
    for package in PACKAGES:
        for name in modules(package):
            assert not vague & set(name.split(".")), f"{package}.{name}"
