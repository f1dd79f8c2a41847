"""The stages of a run: the function of each, what it depends on and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from l1kd.core.config import Config
from l1kd.core.config_types import STAGES, Stage

# The run of an imported network begins with `import`, where others have `train`.
AnyStage = Stage | Literal["import"]


@dataclass(frozen=True)
class StageSpec:
    """What a stage depends on and leaves behind; patterns are relative to the run."""

    function: str
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    projects: bool = False  # whether the written HLS projects are read too
    networks: bool = True  # whether it computes with TensorFlow


NETWORKS = ("teacher.keras", "students/*.keras", "target.json")
SPECS: dict[AnyStage, StageSpec] = {
    "import": StageSpec(
        "",  # `l1kd.run.import_network` says what: it has read the model already
        ("seed", "data"),
        (),
        ("students/*.keras",),
    ),
    "train": StageSpec(
        "l1kd.training.train:train",
        ("seed", "threads", "data", "teacher", "students", "distillation"),
        (),
        (*NETWORKS, "history.csv"),
    ),
    "evaluate": StageSpec(
        "l1kd.firmware.budgets:evaluate",
        ("data", "choose", "firmware", "rtl"),  # budgets are of a part, a clock, a size
        NETWORKS,
        ("scores.npz", "metrics.json"),
    ),
    "convert": StageSpec(
        "l1kd.firmware.convert:convert",
        ("seed", "data", "firmware", "rtl"),
        ("students/*.keras", "metrics.json"),
        ("firmware.json", "rtl.json"),
    ),
    "verify": StageSpec(
        "l1kd.firmware.verify.verify:verify",
        ("data", "verify", "rtl"),
        (*NETWORKS, "scores.npz", "metrics.json", "firmware.json", "rtl.json"),
        ("agreement.json", "fidelity.json"),
        projects=True,
    ),
    "synth": StageSpec(
        "l1kd.firmware.synth:synth",
        ("firmware", "rtl", "choose"),
        ("students/*.keras", "firmware.json", "rtl.json", "metrics.json", "vendor/*.json"),
        ("resources.json",),
    ),
    "report": StageSpec(
        "l1kd.report.page:report",
        ("name", "choose", "verify", "firmware", "rtl"),  # limits that the page holds numbers to
        ("*.json", "history.csv", "scores.npz"),
        ("report.html",),
        networks=False,
    ),
}


def order(config: Config) -> tuple[AnyStage, ...]:
    """The stages of a run, in their order."""
    return ("import", *STAGES[1:]) if config.imported else STAGES
