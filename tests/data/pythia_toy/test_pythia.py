from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from l1kd.core.errors import UserError
from l1kd.data.pythia_toy import pythia
from l1kd.data.pythia_toy.detector import Collisions


def equal(one: Collisions, other: Collisions) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("offsets", "tower", "et_gev")
    )


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(UserError, match=r"l1kd\[physics\]"):
        pythia.hard_collisions(1, np.random.SeedSequence(1))


def test_seeds_reproduce_soft_collisions(table):
    one, vetoed = pythia.soft_collisions(70, np.random.SeedSequence(1), table)
    again, vetoed_again = pythia.soft_collisions(70, np.random.SeedSequence(1), table)
    other, _ = pythia.soft_collisions(70, np.random.SeedSequence(2), table)
    assert len(one) == 70 > pythia.CHUNK
    assert equal(one, again)
    assert vetoed == vetoed_again
    assert not equal(one, other)


def test_hard_collisions_are_hard_and_soft_ones_are_vetoed(table, monkeypatch):
    soft, _ = pythia.soft_collisions(70, np.random.SeedSequence(3), table)
    hard = pythia.hard_collisions(30, np.random.SeedSequence(3))
    assert len(hard) == 30
    assert hard.et_gev.sum() / 30 > 3 * soft.et_gev.sum() / 70
    monkeypatch.setattr(pythia, "HARD_PT_GEV", 4.0)
    _, vetoed = pythia.soft_collisions(50, np.random.SeedSequence(3), table)
    assert vetoed > 5


def test_a_table_that_was_cut_short_is_noticed(table, tmp_path, monkeypatch):
    # As on a full disk: Pythia writes, and does not look whether it could.
    def started(settings, seed):
        Path(settings[-1].rpartition(" = ")[2]).write_bytes(table.read_bytes()[:12288])

    monkeypatch.setattr(pythia, "_started", started)
    with pytest.raises(OSError, match="space"):
        pythia.write_multiparton_table(tmp_path / "table.dat")
    assert list(tmp_path.iterdir()) == []


def test_nothing_asked_nothing_made():
    assert len(pythia.hard_collisions(0, np.random.SeedSequence(1))) == 0


@pytest.mark.parametrize("name", pythia.SIGNALS)
def test_every_signal_is_made(name):
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    made = pythia.signal_collisions(name, 5, np.random.SeedSequence(4))
    assert len(made) == 5
    assert (np.diff(made.offsets) > 0).all()
    assert (made.et_gev > 0).all()


def test_a_suep_is_many_soft_deposits():
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    suep = pythia.signal_collisions("suep", 20, np.random.SeedSequence(5))
    top = pythia.signal_collisions("ttbar", 20, np.random.SeedSequence(5))
    assert len(suep.tower) > 1.3 * len(top.tower)
    # Median, because a few scalars are thrown far by a hard jet.
    hottest = [
        np.median([part.max() for part in np.split(made.et_gev, made.offsets[1:-1])])
        for made in (suep, top)
    ]
    assert hottest[0] < 0.5 * hottest[1]


def test_settings_pythia_does_not_know_are_refused(monkeypatch):
    pytest.importorskip("pythia8mc", reason="needs the extra l1kd[physics]")
    monkeypatch.setattr(pythia, "SIGNALS", {"odd": ("No:such = on",)})
    with pytest.raises(RuntimeError, match="No:such"):
        pythia.signal_collisions("odd", 1, np.random.SeedSequence(1))
