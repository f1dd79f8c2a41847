"""Executes every notebook; CI runs `pytest notebooks/check.py`."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from l1kd.data.sources import SOURCES

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))


def found(name: str) -> bool:
    """True if a source's events are at hand."""
    return SOURCES[name].find()[0] is not None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    if path.stem.startswith("1_") and not found("fashion_mnist"):
        pytest.skip("Fashion-MNIST was not found; set L1KD_DATA")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
