"""Documentation names what exists: verbs, options, keys, links; notebooks are of no machine."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from l1kd.core import config_file
from l1kd.core.config_types import NAME_PATTERN
from l1kd.runs import config_reference

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
assert _SPEC and _SPEC.loader
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)

COMMANDS = {command.name: command for command in generate.commands()}
KEYS = {key.name for key in config_reference.keys()}  # noqa: SIM118 - a function
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MADE = generate.pages()


def sources() -> dict[str, str]:
    """Texts that users read, by their path from the root; generated pages by that in the site."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found[str(path.relative_to(ROOT))] = "\n\n".join("".join(c["source"]) for c in cells)
    return found


TEXTS = sources()
PAGES = {name: text for name, text in TEXTS.items() if name not in ("docs/configuration.md",)}


def commands_of(text: str) -> Iterator[list[str]]:
    """Words of every `l1kd ...` in a text: in code, in lines that are indented, in shell blocks."""
    text = text.replace("\\\n", " ")
    outside = re.sub(r"^```text$.*?^```$", "", text, flags=re.M | re.S)  # output
    found = re.findall(r"`(l1kd [^`]+)`", outside)
    lines = re.findall(r"^(?: {4,}|!)(l1kd [a-z-].*)$", outside, re.M)
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", outside, re.M | re.S):
        lines += re.findall(r"^(l1kd [a-z-].*)$", block, re.M)
    for line in [*found, *(line for line in lines if "`" not in line)]:
        words = shlex.split(line, comments=True)
        end = next((n for n, word in enumerate(words) if re.match(r"2?[|>;]|&&", word)), None)
        yield [word.rstrip(",:") for word in words[1:end]]


def wrong_in(words: list[str]) -> list[str]:
    """What of a command line does not exist."""
    if not words or words[0].isupper() or "..." in words[0]:
        return []
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS), "")
    given = words[len(name.split()) :]
    if not name and not words[0].startswith("-"):
        return [f"no verb {words[0]!r}"]
    known = {
        each for p in (*COMMANDS[name].parameters, *COMMANDS[""].parameters) for each in p.names
    }
    known |= {"-h", "--help", "--install-completion"}
    options = [word.partition("=")[0] for word in given if re.match(r"--?[a-z]", word)]
    wrong = [f"{name} has no {option}" for option in options if option not in known]
    for option, value in pairwise(given):
        if option == "--set":
            wrong += [f"no key {key!r}" for key in unknown([value.partition("=")[0]])]
    return wrong


def unknown(keys: list[str]) -> list[str]:
    """Dotted keys that no configuration has; numbers are items of lists, names are free."""
    parts = [key.split(".") for key in KEYS]
    sections = {".".join(each[:n]) for each in parts for n in range(1, len(each) + 1)}
    patterns = [re.escape(key).replace("NAME", NAME_PATTERN.strip("^$")) for key in sections]
    known = re.compile("|".join(patterns))
    free = re.compile(r"data\.signals\.|sweep\.groups\.[^.]+\.(set|grid)\.|KEY$")
    plain = {key: ".".join(part for part in key.split(".") if not part.isdecimal()) for key in keys}
    return [key for key, own in plain.items() if not known.fullmatch(own) and not free.match(own)]


def dotted(tree: Any, above: str = "") -> Iterator[str]:
    """Dotted keys of a tree; in lists without their numbers."""
    if isinstance(tree, list):
        for each in tree:
            yield from dotted(each, above)
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            name = f"{above}.{key}" if above else str(key)
            yield name
            if name != "firmware.part":  # a mapping of what the part has
                yield from dotted(value, name)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_exists_with_its_options(name: str) -> None:
    wrong = [(words, each) for words in commands_of(PAGES[name]) for each in wrong_in(words)]
    assert not wrong


@pytest.mark.parametrize("name", PAGES)
def test_every_key_exists(name: str) -> None:
    text, sections = PAGES[name], {key.partition(".")[0] for key in KEYS}
    found = list[str]()
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        found += dotted(yaml.safe_load(block))
    inline = re.findall(r"`((?:\w+\.)+\w+)(?:[:=][^`]*)?`", text)
    files = re.compile(r".*\.(py|json|md|yaml|yml|h5|npz|keras|toml|v|cpp|h|csv|tcl|log|gz)$")
    found += [
        key
        for key in inline
        if key.partition(".")[0] in sections
        and not files.match(key)
        and not key.startswith("l1kd.")
    ]
    assert not unknown(found)


def anchors(text: str) -> set[str]:
    """Fragments that a page's headings have, as Python-Markdown names them."""
    from markdown.extensions.toc import slugify

    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", plain, re.M)
    return {slugify(re.sub(r"[`*\[\]]|\(\S+\)", "", title), "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    wrong = []
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", PAGES[name], flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, fragment = link.partition("#")
        if re.match(r"https?:|data:", link):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        place = path.resolve()
        made = (
            MADE.get(str(place.relative_to(ROOT / "docs")))
            if ROOT / "docs" in place.parents
            else None
        )
        if made is None and not place.exists():
            wrong.append(link)
        elif fragment:
            content = made or place.read_text(encoding="utf-8")
            if fragment not in anchors(str(content)):
                wrong.append(link)
    assert not wrong


def test_the_check_finds_what_does_not_exist() -> None:
    text = "`l1kd rum l1toy`, `l1kd run l1toy --sett a=1`\n\n    l1kd run x --set seeds=3\n"
    found = [each for words in commands_of(text) for each in wrong_in(words)]
    assert found == ["no verb 'rum'", "run has no --sett", "no key 'seeds'"]
    assert unknown(["students.0.layers.conv1.size", "data.signals.ttbar"]) == []
    assert unknown(["firmware.clock"]) == ["firmware.clock"]


def test_every_verb_is_explained_somewhere_and_every_option_has_help() -> None:
    told = {" ".join(words[:n]) for t in PAGES.values() for words in commands_of(t) for n in (1, 2)}
    verbs = {
        name for name in COMMANDS if name and not any(n.startswith(f"{name} ") for n in COMMANDS)
    }
    assert not verbs - told
    lacking = [
        (name, parameter.names)
        for name, command in COMMANDS.items()
        for parameter in command.parameters
        if not parameter.about and parameter.names != ("NAME",)
    ]
    assert not lacking


def test_generated_pages_have_all_of_it() -> None:
    import l1kd
    from l1kd.core import run_files

    assert all(f"## l1kd {name}\n" in MADE["commands.md"] for name in COMMANDS if name)
    assert all(f".{name}\n" in MADE["api.md"] for name in dir(l1kd))
    assert all(f"`{name}`" in MADE["run_files.md"] for name in run_files._FILES)
    assert "| `threshold` | int | in LSBs of the output type |" in MADE["run_files.md"]


def test_every_key_is_in_the_reference_and_in_a_test_or_a_shipped_configuration() -> None:
    """Where the last part of a key is that of others too, its section's name in the same file."""
    keys = config_reference.keys()
    assert not [
        key.name for key in keys if f"| `{key.name}` |" not in TEXTS["docs/configuration.md"]
    ]
    lists = {"test_docs.py", "test_config_reference.py"}  # of all keys
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in lists]
    paths += config_file.shipped().values()
    texts = [path.read_text(encoding="utf-8").lower() for path in paths]
    words = [{word.rstrip("s") for word in re.findall(r"\w+", text)} for text in texts]
    ends = [name.rpartition(".")[2] for name in KEYS]
    lacking = []
    for name in KEYS:
        *sections, end = name.split(".")
        sections = [part for part in sections if part not in ("NAME", "data")]
        wanted = {end, *(sections[-1:] if ends.count(end) > 1 else [])}
        wanted = {part.rstrip("s") for part in wanted}  # `students`: `Student(...)` is one
        lacking += [name] if not any(wanted <= each for each in words) else []
    assert not lacking


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_outputs_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in cells)
    assert '"image/png"' in text
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    printed = json.dumps([cell["outputs"] for cell in cells])
    plain = re.sub(r'"image/png": "[^"]*"', "", printed)
    assert not re.search(r"/(home|root|tmp|work|usr|opt|Users)/|\\u001b", plain)


@pytest.mark.full
@pytest.mark.csim
def test_the_tutorial_for_keras_users_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TEXTS["docs/tutorials/keras.md"]
    blocks = re.findall(r"^```python\n(.*?)^```(?:\s*^```text\n(.*?)^```)?", text, re.M | re.S)
    space: dict[str, Any] = {}
    for block, said in blocks:
        exec(block, space)
        assert capsys.readouterr().out == said
    assert len(blocks) == 6 and all(said for _, said in blocks)
