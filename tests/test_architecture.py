"""Imports run one way: ops <- neurons, encode <- layers <- models <- compress, learn, measure, deploy <- recipes <- cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "bitspike"
LEVELS = [
    {"errors", "options"},
    {"ops", "data", "engine"},
    {"neurons", "encode"},
    {"layers"},
    {"models"},
    {"compress", "learn", "measure", "deploy"},
    {"recipes"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FORBIDDEN = {
    ("deploy", "learn"),
    ("engine", "learn"),
    ("deploy", "compress"),
    ("learn", "deploy"),
    ("compress", "learn"),
}
NUMPY_ONLY = {("engine", "deploy")}  # the graph's dataclasses, imported when a graph is asked for


def imported_packages(path: Path) -> set[str]:
    package = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(SOURCE).parts)
            if node.level == depth:  # from the top package
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                found.update(names)
            elif node.level == 0 and node.module and node.module.split(".")[0] == "bitspike":
                found.update(node.module.split(".")[1:2])
    return found - {package}


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*/**/*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    package = path.relative_to(SOURCE).parts[0]
    for other in imported_packages(path):
        if other not in LEVEL or (package, other) in NUMPY_ONLY:
            continue
        assert LEVEL[other] <= LEVEL[package], f"{package} imports {other}, which stands above it"
        assert (package, other) not in FORBIDDEN, f"{package} must not import {other}"


@pytest.mark.parametrize("module", ["bitspike", "bitspike.engine", "bitspike.deploy", "bitspike.data", "bitspike.cli"])
def test_light_packages_do_not_load_torch(module):
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
