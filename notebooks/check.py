"""Executes every notebook and compares what it shows with what is stored.

    pytest notebooks/check.py            # CI
    python notebooks/check.py [NAME]...  # execute and store the outputs anew

Texts are compared with their numbers left out, all but 0 (mismatches), since training rounds
differently on every kind of processor; cells with the tag `exact` to the last character. Every
picture has to be there.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
_KINDS = ("image/png", "text/plain")  # of a result; the first that it has is kept


def executed(path: Path, directory: Path) -> Any:
    """A notebook with the outputs of a run in `directory`, nothing of this machine in them."""
    notebook = nbformat.read(path, as_version=4)
    paths = (str(Path(sys.executable).parent), os.environ["PATH"])
    os.environ["PATH"] = os.pathsep.join(paths)  # of `!l1kd`
    resources = {"metadata": {"path": str(directory)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = list(_joined(cell.outputs, str(directory)))
    return notebook


def _joined(outputs: list[Any], directory: str) -> Iterator[Any]:
    """What was printed as one, of results one kind; warnings and the directory are left out."""
    streams = [o for o in outputs if o.output_type == "stream" and o.name == "stdout"]
    text = "".join(output.text for output in streams)
    if text:
        text = (
            re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n").replace(f"{directory}/", "")
        )
        yield nbformat.v4.new_output("stream", name="stdout", text=text)
    for output in outputs:
        if output.output_type == "stream":
            continue
        kind = next(kind for kind in _KINDS if kind in output.data)
        yield nbformat.v4.new_output("display_data", data={kind: output.data[kind]})


def shown(notebook: Any) -> Iterator[list[str]]:
    """What is compared of every cell's outputs."""
    for cell in notebook.cells:
        found = []
        for output in cell.get("outputs", []):
            text = output.get("text") or output.data.get("text/plain")
            if text and "exact" not in cell.metadata.get("tags", []):
                text = re.sub(r"\d+([.,e+-]+\d+)*", lambda n: n[0] if n[0] == "0" else "#", text)
                text = re.sub(r"[\s-]+", " ", text).strip()
            found.append(text or "a picture")
        yield [cell.source, *found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_is_stored(path: Path, tmp_path: Path) -> None:
    assert list(shown(executed(path, tmp_path))) == list(shown(nbformat.read(path, as_version=4)))


def main(names: list[str]) -> None:
    """Execute notebooks, all by default, and store their outputs."""
    for path in NOTEBOOKS:
        if not names or any(path.stem.startswith(name) for name in names):
            with tempfile.TemporaryDirectory() as directory:
                nbformat.write(executed(path, Path(directory)), path)


if __name__ == "__main__":
    main(sys.argv[1:])
