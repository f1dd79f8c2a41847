"""What the generator's tests share: Pythia takes five seconds for the table alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import made_once


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of multiparton interactions that all soft collisions start from. Read only."""
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    from l1kd.data.pythia_toy import generate, pythia

    def make(directory: Path) -> None:
        pythia.write_multiparton_table(directory / generate.MULTIPARTON_TABLE)

    return made_once(tmp_path_factory, "multiparton", make) / generate.MULTIPARTON_TABLE
