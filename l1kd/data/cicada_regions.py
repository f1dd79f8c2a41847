"""The source `calo`: CICADA's HDF5 files of calorimeter regions, by role."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from l1kd.core.config import LHC_CROSSINGS_MHZ, Source
from l1kd.core.errors import UserError
from l1kd.data import toy_sample
from l1kd.data.dataset import Dataset
from l1kd.data.event_tables import concatenate
from l1kd.data.region_files import DEFAULTS, GRID, PHI_AXIS, PORT, Flags, read_flags, table
from l1kd.data.train_test_roles import RolesSection, assemble, check_overlap


class CaloData(RolesSection):
    """CICADA's HDF5 files, by role."""

    source: Literal["calo"]
    acceptance: Literal["ignore", "require"] = "ignore"


def open_calo(data: CaloData, seed: int) -> Dataset:
    """The data set of the files that a configuration names."""
    required = data.acceptance == "require"
    paths = {role: [Path(path) for path in given] for role, given in data.paths().items()}
    check_overlap(
        {role: [(file.resolve(), str(file)) for file in files] for role, files in paths.items()}
    )
    flags: dict[str, Flags] = {}
    for role, files in paths.items():
        counted = [read_flags(file, required) for file in files]
        flags[role] = functools.reduce(operator.add, counted)
        # A signal without flags is a mistake; recorded background has none and stays whole.
        if required and role.startswith("signals."):
            for file, each in zip(files, counted, strict=True):
                if each.accepted == 0:
                    found = "no flag that is true" if each.flagged else "no acceptance flags"
                    raise UserError(
                        f"{file}: {found}, and data.acceptance is `require`; "
                        "set it to `ignore` or leave the file out"
                    )
    tables = {
        role: concatenate([table(file, required) for file in files])
        for role, files in paths.items()
    }
    description: dict[str, Any] = {
        "source": "calo",
        "about": "CICADA calorimeter regions, 10-bit counts",
        "files": {role: [str(file) for file in files] for role, files in paths.items()},
        "acceptance": _in_words(flags, required),
    }
    if "exposure" not in tables:
        # Another data set's events of the same shape, always at hand.
        try:
            tables["exposure"] = toy_sample.training_table()
            description["exposure"] = "the embedded Pythia 8 toy calorimeter's training events"
        except UserError as error:
            description["exposure"] = f"none: {error}"
    return assemble(tables, data.split, seed, GRID, (PHI_AXIS,), description)


def _in_words(flags: Mapping[str, Flags], required: bool) -> str:
    counted = "; ".join(
        f"{role}: "
        + (f"{each.accepted} of {each.flagged} flags true" if each.flagged else "no flags")
        + f" ({each.events} events)"
        for role, each in flags.items()
    )
    applied = (
        "only events whose AcceptanceFlag is true were used, where a file has flags"
        if required
        else "the AcceptanceFlag was ignored: all events were used"
    )
    return (
        f"{applied}. In CICADA's files the flag of a simulated event is true if a generated jet "
        f"has pT > 30 GeV and |eta| < 2.4; recorded events have none. {counted}"
    )


SOURCE = Source(
    name="calo",
    about="CICADA's HDF5 files by role (data.background, test, signals)",
    section=CaloData,
    defaults=DEFAULTS,
    port=PORT,
    crossings_mhz=LHC_CROSSINGS_MHZ,
    open=open_calo,
    find=lambda: (None, ""),
)
