"""Collisions from Pythia 8, as the toy calorimeter sees them; pythia8mc (GPL) is optional."""

from __future__ import annotations

import errno
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from l1kd.core.errors import UserError
from l1kd.core.files import atomic
from l1kd.data.pythia_toy import suep
from l1kd.data.pythia_toy.detector import Collisions, Particles, concatenate, deposit

ENERGY_GEV = 13600.0
HARD_PT_GEV = 20.0
SUEP_MASS_GEV = 400.0
# Collisions whose particles are handed to the calorimeter together: large enough to make NumPy's
# overhead vanish, small enough to stay in the cache.
CHUNK = 64
# Pythia skips an event it cannot finish; this many in a row is no accident.
MAX_FAILURES = 100

_HARD = ("HardQCD:all = on", f"PhaseSpace:pTHatMin = {HARD_PT_GEV}")
_SCALAR = 25

# Pythia's settings of the signals.
SIGNALS: dict[str, tuple[str, ...]] = {
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "ggh_tautau": ("HiggsSM:gg2H = on", "25:onMode = off", "25:onIfMatch = 15 -15"),
    "vbfh_bb": ("HiggsSM:ff2Hff(t:WW) = on", "25:onMode = off", "25:onIfMatch = 5 -5"),
    "hidden_valley": (
        "HiddenValley:ffbar2Zv = on",
        "HiddenValley:Ngauge = 3",
        "HiddenValley:FSR = on",
        "HiddenValley:fragment = on",
        "HiddenValley:alphaOrder = 1",
        "HiddenValley:Lambda = 5",
        "4900023:m0 = 1000",
        "4900111:onMode = off",
        "4900111:addChannel = 1 1.0 91 1 -1",
        "4900113:onMode = off",
        "4900113:addChannel = 1 1.0 91 1 -1",
    ),
    "qcd20": _HARD,
    # The Higgs boson of gluon fusion, heavy, narrow and stable; suep.py decays it.
    "suep": (
        "HiggsSM:gg2H = on",
        f"25:m0 = {SUEP_MASS_GEV}",
        "25:doForceWidth = on",
        "25:mWidth = 0.01",
        "25:mayDecay = off",
    ),
}


def import_pythia() -> Any:
    """The pythia8mc module, or a UserError that says how to get it."""
    try:
        import pythia8mc
    except ImportError as error:
        raise UserError(
            "the generator needs Pythia 8, which is not installed: "
            "pip install 'l1kd[physics]' (pythia8mc, GPL), or use the sample that l1kd ships"
        ) from error
    return pythia8mc


def _started(settings: tuple[str, ...], seed: int) -> Any:
    """A seeded Pythia instance."""
    instance = import_pythia().Pythia("", False)
    for setting in (
        "Print:quiet = on",
        f"Beams:eCM = {ENERGY_GEV}",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
        # What lives long enough to reach the calorimeter is stable for us.
        "ParticleDecays:limitCylinder = on",
        "ParticleDecays:xyMax = 1290.",
        "ParticleDecays:zMax = 3170.",
        *settings,
    ):
        if not instance.readString(setting):
            raise RuntimeError(f"Pythia does not know the setting {setting!r}")
    if not instance.init():
        raise RuntimeError(f"Pythia cannot start with the settings {settings}")
    return instance


def _events(instance: Any, highest_pt_gev: float) -> Iterator[Particles | None]:
    """Stable particles, event by event; None: the hardest process is above `highest_pt_gev`."""
    particle = import_pythia().Particle
    columns = (particle.px, particle.py, particle.pz, particle.e, particle.id)
    charge = functools.cache(instance.particleData.charge)
    while True:
        if not any(instance.next() for _ in range(MAX_FAILURES)):
            raise RuntimeError(f"Pythia failed {MAX_FAILURES} times in a row")
        if instance.infoPython().pTHat() > highest_pt_gev:
            yield None
            continue
        # Unbound methods, mapped over a list: the quickest way out of pythia8mc that needs no
        # further package (its nextBatch() takes as long and wants awkward).
        final = list(filter(particle.isFinal, instance.event))
        n = len(final)
        *momentum, code = (np.fromiter(map(get, final), np.float64, n) for get in columns)
        pid = code.astype(np.int64)
        charges = np.fromiter(map(charge, pid.tolist()), np.float64, n)
        yield Particles(np.stack(momentum, axis=1), pid, charges)


def _with_suep(particles: Particles, random: np.random.Generator) -> Particles:
    """`particles` with the one stable scalar replaced by its pions."""
    scalar = np.flatnonzero(particles.pid == _SCALAR)
    if len(scalar) != 1:
        raise RuntimeError(f"expected one stable scalar in the event, found {len(scalar)}")
    pions = suep.decay(particles.momentum_gev[scalar[0]], random)
    others = Particles(*(column[particles.pid != _SCALAR] for column in particles))
    return Particles.joined([others, pions])


def _collisions(
    settings: tuple[str, ...],
    n: int,
    seed: np.random.SeedSequence,
    *,
    highest_pt_gev: float = math.inf,
    scalar: bool = False,
) -> tuple[Collisions, int]:
    """`n` collisions, and how many were vetoed on the way: those above `highest_pt_gev`."""
    if n == 0:
        return concatenate([]), 0
    random = np.random.default_rng(seed)
    # Pythia takes seeds up to 900,000,000; 0 would mean the clock.
    instance = _started(settings, 1 + int(random.integers(900_000_000)))
    parts: list[Collisions] = []
    chunk: list[Particles] = []
    kept = vetoed = 0
    for particles in _events(instance, highest_pt_gev):
        if particles is None:
            vetoed += 1
            continue
        chunk.append(_with_suep(particles, random) if scalar else particles)
        kept += 1
        if len(chunk) == CHUNK or kept == n:
            owner = np.repeat(np.arange(len(chunk)), [len(event.pid) for event in chunk])
            parts.append(deposit(Particles.joined(chunk), owner, len(chunk), random))
            chunk = []
        if kept == n:
            break
    return concatenate(parts), vetoed


def _soft(path: Path, *, reuse: int) -> tuple[str, ...]:
    """Settings of soft collisions that write (1) or read (2) Pythia's table."""
    return (
        "SoftQCD:inelastic = on",
        f"MultipartonInteractions:reuseInit = {reuse}",
        f"MultipartonInteractions:initFile = {path}",
    )


def write_multiparton_table(path: Path) -> None:
    """Let Pythia integrate its multiparton interactions once (5 s) and write the result."""
    # The seed belongs to the physics, not to a sample. Pythia writes six digits: all soft
    # collisions start from the file, as a fresh integration would differ.
    with atomic(path) as temporary:
        _started(_soft(temporary, reuse=1), seed=1)
        if not temporary.read_text(encoding="utf-8").rstrip().endswith("}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def soft_collisions(
    n: int, seed: np.random.SeedSequence, multiparton_table: Path
) -> tuple[Collisions, int]:
    """`n` inelastic collisions with pT-hat up to 20 GeV."""
    return _collisions(_soft(multiparton_table, reuse=2), n, seed, highest_pt_gev=HARD_PT_GEV)


def hard_collisions(n: int, seed: np.random.SeedSequence) -> Collisions:
    """`n` QCD collisions with pT-hat above 20 GeV."""
    return _collisions(_HARD, n, seed)[0]


def signal_collisions(name: str, n: int, seed: np.random.SeedSequence) -> Collisions:
    """`n` collisions of the signal `name` (a key of SIGNALS)."""
    return _collisions(SIGNALS[name], n, seed, scalar=name == "suep")[0]
