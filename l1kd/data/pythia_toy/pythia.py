"""Collisions from Pythia 8, as the toy calorimeter sees them.

pythia8mc (GPL) is an optional extra and imported only when collisions are made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from l1kd.core.errors import UserError
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

_SOFT = ("SoftQCD:inelastic = on",)
_HARD = ("HardQCD:all = on", f"PhaseSpace:pTHatMin = {HARD_PT_GEV}")
_SCALAR = 25

SIGNALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
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
)
"""Pythia settings of the signals, by name."""


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


class _Generator:
    """One seeded Pythia instance and what is needed to read its events fast."""

    def __init__(self, settings: tuple[str, ...], seed: int) -> None:
        module = import_pythia()
        self._pythia = module.Pythia("", False)
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
            if not self._pythia.readString(setting):
                raise RuntimeError(f"Pythia does not know the setting {setting!r}")
        if not self._pythia.init():
            raise RuntimeError(f"Pythia cannot start with the settings {settings}")
        particle = module.Particle
        self._is_final = particle.isFinal
        self._columns = (particle.px, particle.py, particle.pz, particle.e, particle.id)
        self._charges: dict[int, float] = {}

    def next(self) -> None:
        """Make one event; Pythia's rare failures are tried again."""
        for _ in range(MAX_FAILURES):
            if self._pythia.next():
                return
        raise RuntimeError(f"Pythia failed {MAX_FAILURES} times in a row")

    def pt_hat_gev(self) -> float:
        """Transverse momentum of the event's hardest process; 0 where it has none."""
        return float(self._pythia.infoPython().pTHat())

    def _charge(self, pid: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        known, place = np.unique(pid, return_inverse=True)
        for code in known.tolist():
            if code not in self._charges:
                self._charges[code] = float(self._pythia.particleData.charge(code))
        return np.array([self._charges[code] for code in known.tolist()])[place]

    def particles(self) -> Particles:
        """The event's stable particles.

        Mapping the unbound methods over a list is the quickest way out of pythia8mc that needs no
        further package (its nextBatch() takes as long and wants awkward).
        """
        final = list(filter(self._is_final, self._pythia.event))
        n = len(final)
        *momentum, pid = (np.fromiter(map(get, final), np.float64, n) for get in self._columns)
        identity = pid.astype(np.int64)
        return Particles(np.stack(momentum, axis=1), identity, self._charge(identity))


def _with_suep(particles: Particles, random: np.random.Generator) -> Particles:
    """`particles` with the one stable scalar replaced by its pions."""
    scalar = np.flatnonzero(particles.pid == _SCALAR)
    if len(scalar) != 1:
        raise RuntimeError(f"expected one stable scalar in the event, found {len(scalar)}")
    pions = suep.decay(particles.momentum_gev[scalar[0]], random)
    others = Particles(*(column[particles.pid != _SCALAR] for column in particles))
    return Particles.joined([others, pions])


def _collisions(
    settings: tuple[str, ...], n: int, seed: np.random.SeedSequence, *, soft: bool, scalar: bool
) -> tuple[Collisions, int]:
    """`n` collisions, and how many were vetoed on the way (`soft`: those above HARD_PT_GEV)."""
    if n == 0:
        return concatenate([]), 0
    random = np.random.default_rng(seed)
    # Pythia takes seeds up to 900,000,000; 0 would mean the clock.
    generator = _Generator(settings, 1 + int(random.integers(900_000_000)))
    parts: list[Collisions] = []
    events: list[Particles] = []
    kept = vetoed = 0
    while kept < n:
        generator.next()
        if soft and generator.pt_hat_gev() > HARD_PT_GEV:
            vetoed += 1
            continue
        particles = generator.particles()
        events.append(_with_suep(particles, random) if scalar else particles)
        kept += 1
        if len(events) == CHUNK or kept == n:
            owner = np.repeat(np.arange(len(events)), [len(event.pid) for event in events])
            parts.append(deposit(Particles.joined(events), owner, len(events), random))
            events = []
    return concatenate(parts), vetoed


def _table(path: Path, *, reuse: int) -> tuple[str, ...]:
    """Settings of soft collisions that write (1) or read (2) Pythia's table."""
    return (
        *_SOFT,
        f"MultipartonInteractions:reuseInit = {reuse}",
        f"MultipartonInteractions:initFile = {path}",
    )


def write_multiparton_table(path: Path) -> None:
    """Let Pythia integrate its multiparton interactions once (5 s) and write the result.

    The table's seed is fixed: it belongs to the physics, not to a sample. Pythia writes it with
    six digits, so all soft collisions start from the file and none from a fresh integration:
    else the two would differ.
    """
    _Generator(_table(path, reuse=1), seed=1)
    if not path.read_text().rstrip().endswith("}"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def soft_collisions(
    n: int, seed: np.random.SeedSequence, multiparton_table: Path
) -> tuple[Collisions, int]:
    """`n` inelastic collisions with pT-hat up to 20 GeV."""
    settings = _table(multiparton_table, reuse=2)
    return _collisions(settings, n, seed, soft=True, scalar=False)


def hard_collisions(n: int, seed: np.random.SeedSequence) -> Collisions:
    """`n` QCD collisions with pT-hat above 20 GeV."""
    return _collisions(_HARD, n, seed, soft=False, scalar=False)[0]


def signal_collisions(name: str, n: int, seed: np.random.SeedSequence) -> Collisions:
    """`n` collisions of the signal `name` (a key of SIGNALS)."""
    return _collisions(SIGNALS[name], n, seed, soft=False, scalar=name == "suep")[0]
