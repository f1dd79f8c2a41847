"""The shape of the house: imports go one way, modules stay small, nothing forbidden is used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "l1kd"
MODULES = sorted(PACKAGE.rglob("*.py"))
GROUND = {
    "config",
    "configfile",
    "context",
    "defaults",
    "errors",
    "exact",
    "fields",
    "files",
    "fixedpoint",
    "grids",
    "provenance",
    "recipe",
    "schemas",
    "space",
    "stages",
}
# What each part may import, besides itself and the ground floor.
MAY = {
    "cli": {"actions", "cli_data", "cli_many", "run", "report", "firmware", "data", "doctor"},
    "cli_data": {"data"},
    "cli_many": {"orchestrate"},
    "doctor": {"data", "firmware"},
    "actions": {"run", "execution", "firmware"},
    "orchestrate": {
        "run",
        "execution",
        "report",
        "data",
        "distill",
        "evaluation",
        "firmware",
        "models",
    },
    "run": {"distill", "evaluation", "execution", "firmware", "report", "models"},
    "execution": {"models"},
    "distill": {"data", "models"},
    "evaluation": {"data", "models", "distill"},
    "firmware": {"data", "models", "evaluation", "distill"},
    "report": {"data", "evaluation", "firmware", "distill"},
    "data": set(),
    "models": {"data"},
}
PURE = [
    "fixedpoint.py",
    "firmware/agreement.py",
    "firmware/minimal.py",
    "evaluation/metrics.py",
    "evaluation/rates.py",
    *(f"exact/{path.name}" for path in (PACKAGE / "exact").glob("*.py")),
    *(
        f"firmware/certificate/{path.name}"
        for path in (PACKAGE / "firmware" / "certificate").glob("*.py")
    ),
]


def imported(path: Path, *, only_at_the_top: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if only_at_the_top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "l1kd":
                yield from (f"l1kd.{alias.name}" for alias in node.names)
            else:
                yield node.module


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    ours = {part(name) for name in imported(path) if name.startswith("l1kd.")}
    # `from l1kd import __version__, load_model`: names of the package itself
    others = ours - {own, "", "__version__", "load_model"} - GROUND
    if own in GROUND:
        # the context opens the events; the rest of the ground floor stands alone
        assert others <= ({"data"} if own == "context" else set()), others
        return
    assert others <= MAY[own], f"{own} imports {others - MAY[own]}"


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_imports_no_framework(name: str) -> None:
    heavy = {"tensorflow", "keras", "qkeras", "hls4ml", "alkaid", "h5py"}
    assert not heavy & {module.split(".")[0] for module in imported(PACKAGE / name)}


def test_every_package_is_in_the_wheel() -> None:
    """And every file in it that is no module."""
    listed = (PACKAGE.parent / "pyproject.toml").read_text()
    for directory in {path.parent for path in MODULES if "__pycache__" not in path.parts}:
        name = ".".join(("l1kd", *directory.relative_to(PACKAGE).parts))
        assert f'  "{name}",' in listed, name
        if any(path.suffix in (".json", ".cpp", ".css", ".j2") for path in directory.iterdir()):
            assert f'"{name}" = [' in listed, name


def test_one_module_knows_hls4ml() -> None:
    knows = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if "hls4ml" in {module.split(".")[0] for module in imported(path)}
    ]
    assert knows == ["firmware/hls.py"]


def test_modules_fit_on_a_few_screens() -> None:
    long = {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_package_files_are_empty() -> None:
    assert [p for p in PACKAGE.rglob("*/__init__.py") if p.read_text()] == []


def test_nothing_forbidden_is_used() -> None:
    forbidden = re.compile(
        r"\bimport pickle|pickle\.load|yaml\.load\(|os\.system|shell=True|os\.chdir|\beval\(|"
        r"\bexec\(|allow_pickle=True|^\s*print\(",
        re.MULTILINE,
    )
    found = {p.name: match[0] for p in MODULES if (match := forbidden.search(p.read_text()))}
    assert not found
