"""Pages of the site that are made from code, and its navigation: hooks of mkdocs.yml.

Nothing of it is stored, so nothing of it can be out of date. `docs/configuration.md` is: it is also
read where there is no site, and a test shows it current.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from typer.models import ArgumentInfo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MORE = "Reference"  # the section of pages that the navigation does not name


class Parameter(NamedTuple):
    """An argument or an option of a verb."""

    names: tuple[str, ...]  # an argument has its metavar alone
    values: str
    default: str
    about: str

    @property
    def is_option(self) -> bool:
        """True for what begins with a dash."""
        return self.names[0].startswith("-")


class Command(NamedTuple):
    """A verb of the command line as its parser knows it."""

    name: str  # `data list` of a group
    about: str
    more: str
    parameters: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        """`l1kd run CONFIG [OPTIONS]`."""
        arguments = [each.names[0] for each in self.parameters if not each.is_option]
        options = ["[OPTIONS]"] if any(each.is_option for each in self.parameters) else []
        return " ".join(["l1kd", *self.name.split(), *arguments, *options])


def commands() -> list[Command]:
    """Every verb, in the order of the command line's help; the first is `l1kd` itself."""
    from l1kd.cli import app

    return list(_described(app, ""))


def _described(app: Any, group: str) -> Iterator[Command]:
    """The commands of a Typer application, from its functions' signatures."""
    callback, info = app.registered_callback, app.info
    own = _parameters(callback.callback) if callback else ()
    yield Command(group, _plain(str(info.help)), _text(info.epilog), own)
    for each in app.registered_commands:
        about, _, more = inspect.cleandoc(each.help or each.callback.__doc__).partition("\n")
        name = each.name or each.callback.__name__.rstrip("_")
        more = "\n\n".join(filter(None, (_text(more), _text(each.epilog))))
        parameters = _parameters(each.callback)
        yield Command(f"{group} {name}".strip(), _plain(about), more, parameters)
    for each in app.registered_groups:
        yield from _described(each.typer_instance, f"{group} {each.name}".strip())


def _text(text: Any) -> str:
    return _plain(text) if isinstance(text, str) else ""


def _parameters(function: Any) -> tuple[Parameter, ...]:
    """Arguments and options of a function that Typer calls."""
    kinds, found = get_type_hints(function), list[Parameter]()
    for name, parameter in inspect.signature(function).parameters.items():
        has, kind = parameter.default, str(kinds[name])
        if has.hidden:
            continue
        choices = re.findall(r"'([^']+)'", kind) if "Literal" in kind else []
        values = has.metavar or " | ".join(choices)
        if isinstance(has, ArgumentInfo):
            names, values = (has.metavar or name.upper(),), " | ".join(choices)
            found.append(Parameter(names, values, "", _plain(has.help)))
            continue
        names = tuple(has.param_decls or ()) or (f"--{name.rstrip('_').replace('_', '-')}",)
        if not values and kinds[name] is not bool:
            values = "X" if "float" in kind else "N" if "int" in kind else "TEXT"
        none = has.default in (None, ..., []) or isinstance(has.default, bool)
        found.append(Parameter(names, values, "" if none else str(has.default), _plain(has.help)))
    return tuple(found)


def _plain(text: str) -> str:
    """Rich's markup as Markdown, `<name>` outside of code as text."""
    text = re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", text, flags=re.S).replace("\\[", "[").strip()
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def command_page() -> str:
    """The reference of the commands."""
    lines = [
        "# Commands",
        "",
        "Generated from the command line's functions; `l1kd VERB -h` prints the same. Stages: "
        "`train`, `evaluate`, `convert`, `verify`, `synth`, `report`.",
    ]
    for command in commands():
        title = f"l1kd {command.name}".strip()
        lines += ["", f"## {title}", "", command.about, "", f"    {command.usage}", ""]
        if command.parameters:
            lines += ["| | values | default | |", "|---|---|---|---|"]
            for each in command.parameters:
                names = ", ".join(f"`{name}`" for name in each.names)
                lines.append(_row(names, each.values, each.default, each.about))
        if command.more:
            lines += ["", command.more]
    return "\n".join(lines) + "\n"


# Types that public functions return, or take.
RETURNED = (
    "exact.network.Network",
    "exact.agreement.Agreement",
    "core.fixed_point.FixedPoint",
    "networks.lint.check.Problem",
    "firmware.hls.project.Project",
    "firmware.verilog.project.Logic",
    "firmware.certificate.findings.Certificate",
    "training.distill.Distilled",
    "runs.open_run.Run",
    "evaluation.rates.Threshold",
    "evaluation.rates.Rate",
)


def api_page() -> str:
    """The reference of the public names; mkdocstrings fills it from their docstrings."""
    import l1kd

    lines = [
        "# Python reference",
        "",
        "`import l1kd` has these names and nothing else, and loads no TensorFlow. The types that "
        "the functions return stand behind them.",
        "",
        "## Public names",
        "",
    ]
    for name, home in l1kd._HOMES.items():  # their modules would load TensorFlow
        lines += [f"::: l1kd.{home}.{name}", ""]
        if name[0].isupper():
            lines += ["    options: {members: false}", ""]
    lines += ["## Types", ""]
    for name in RETURNED:
        lines += [f"::: l1kd.{name}", ""]
    return "\n".join(lines)


def run_file_page() -> str:
    """The reference of a run's JSON files, from the types that they are checked with."""
    from l1kd.core import run_files

    source = Path(run_files.__file__).read_text(encoding="utf-8")
    tree, remarks = ast.parse(source), _remarks(source)
    records = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    named = "|".join(records)
    lines = [
        "# The JSON files of a run",
        "",
        "Generated from the types in `l1kd/core/run_files.py`, with which every file is checked "
        f"when it is written and read. Version of the format: {run_files.FORMAT_VERSION}. Unknown "
        "is `null`, never 0. [Runs](run.md) has the other files.",
        "",
        *("| file | holds |", "|---|---|"),
    ]

    def linked(text: str) -> str:
        """A type's text, each record in it a link."""
        text = text.replace("[", "&#91;").replace("|", "or").replace("_", "\\_")
        return re.sub(rf"\b({named})\b", lambda found: f"[{found[0]}](#{found[0].lower()})", text)

    for name, kind in run_files._FILES.items():
        text = kind.__name__ if inspect.isclass(kind) else str(kind)
        text = re.sub(r"\b(\w+\.)+", "", text)
        lines.append(_row(f"`{name}`", linked(text)))
    for name, node in records.items():
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        if name.startswith("_") or not fields:
            continue
        lines += ["", f"## {name}", "", ast.get_docstring(node) or "", ""]
        lines += ["| field | type | |", "|---|---|---|"]
        for field in fields:
            kind = linked(ast.unparse(field.annotation))
            lines.append(_row(f"`{ast.unparse(field.target)}`", kind, remarks(field)))
    return "\n".join(lines) + "\n"


def _remarks(source: str) -> Any:
    """Gives the comment of a field: behind it, or on the lines of their own above it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {
        token.start: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT
    }
    behind = {row: text for (row, _), text in comments.items()}
    alone = {row for row, column in comments if not source.splitlines()[row - 1][:column].strip()}

    def remark(field: ast.AnnAssign) -> str:
        found = [behind.get(field.end_lineno or 0, "")]
        row = field.lineno - 1
        while row in alone:
            found.insert(0, behind[row])
            row -= 1
        return " ".join(filter(None, found))

    return remark


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown with its stored outputs, and its pictures by name."""
    import base64

    import nbformat

    lines, pictures = [], dict[str, bytes]()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"\]\(\.\./docs/", "](../", cell.source)
            lines += [re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text), ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                lines += [f"![Output of the cell above]({name})", ""]
            elif text := output.get("text") or data.get("text/plain"):
                lines += ["```text", text.rstrip(), "```", ""]
    return "\n".join(lines), pictures


def pages() -> dict[str, str | bytes]:
    """Every generated file of the site by its path."""
    made: dict[str, str | bytes] = {
        "commands.md": command_page(),
        "api.md": api_page(),
        "run_files.md": run_file_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_page(path)
        made[f"notebooks/{path.stem}.md"] = text
        made |= {f"notebooks/{name}": content for name, content in pictures.items()}
    return made


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages; name in the navigation what exists, and nothing else."""
    from mkdocs.structure.files import File

    for name, content in pages().items():
        files.append(File.generated(config, name, content=content))
    there = {file.src_uri for file in files.documentation_pages()}
    config.nav, named = _existing(config.nav, there)
    left = sorted(there - named)
    for section in config.nav:
        section.get(MORE, []).extend(left)
    return files


def _existing(nav: list[Any], there: set[str]) -> tuple[list[Any], set[str]]:
    """A navigation without pages that do not exist, and the pages that it names."""
    kept, named = list[Any](), set[str]()
    for entry in nav:
        if isinstance(entry, str):
            if entry in there:
                kept.append(entry)
                named.add(entry)
            continue
        for title, inner in entry.items():
            inside, names = _existing(inner if isinstance(inner, list) else [inner], there)
            named |= names
            if inside:
                kept.append({title: inside if isinstance(inner, list) else inside[0]})
    return kept, named
