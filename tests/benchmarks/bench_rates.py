"""Coverage of the 68 % intervals of rates: independent toy pools, with repeated collisions.

`make bench` records `results/rates.json`: of 100 pools, ten times over with other seeds, those
whose interval holds the true rate, for a threshold that is given or chosen on the pool.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l1kd.core.files import write_json
from tests.evaluation.test_rates import EVENTS, POOLS, TRUE, holds

RESULTS = Path(__file__).parent / "results" / "rates.json"
STUDIES = 10


def test_intervals_cover() -> None:
    found: dict[str, dict[str, object]] = {}
    for repeated in (False, True):
        for chosen in (False, True):
            held = [
                sum(bool(holds([study, pool], repeated, chosen)[0]) for pool in range(POOLS))
                for study in range(100, 100 + STUDIES)
            ]
            name = f"{'repeated' if repeated else 'once'}, {'chosen' if chosen else 'given'}"
            found[name] = {"held_of_100": held, "mean": float(np.mean(held))}
    setting = {"pools": POOLS, "events": EVENTS, "true_share": TRUE}
    write_json(RESULTS, {"setting": setting, "collisions, threshold": found})
    for name, each in found.items():
        assert 60 <= float(str(each["mean"])) <= 76, name
