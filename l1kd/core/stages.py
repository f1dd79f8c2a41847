"""The stages of a run as data: what each runs, depends on and leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["train", "evaluate", "convert", "verify", "synth", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
# The run of an imported network begins with `import`, where others have `train`.
AnyStage = Stage | Literal["import"]


@dataclass(frozen=True)
class StageSpec:
    """A stage; patterns of files are relative to the run."""

    function: str  # `module:function`, called with the run's context; empty: given by the caller
    sections: tuple[str, ...]  # of the configuration
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tensorflow: bool = True  # computes with Keras models
    also: tuple[str, ...] = ()  # what it writes too, and runs of older versions lack


GIVEN = "given"  # copies of the networks that the configuration names as files
MODELS = ("teacher.keras", "students/*.keras", "target.json")
EXACT = ("firmware.json", "rtl.json", "firmware/*/student.json", "firmware/*/network.json")
# Sources, weights and scripts of HLS and Verilog projects; not what was compiled or synthesised.
PROJECTS = tuple(
    f"firmware/*/**/{name}"
    for name in ("*.h", "*.cpp", "*.tcl", "*.txt", "*.v", "*.gz", "l1kd.json", "network.json")
)
SPECS: dict[AnyStage, StageSpec] = {
    "import": StageSpec("", ("seed", "data"), (), ("students/*.keras",)),
    "train": StageSpec(
        "l1kd.training.train:train",
        ("seed", "threads", "data", "teacher", "students", "distillation"),
        (f"{GIVEN}/*",),
        (*MODELS, "history.csv"),
    ),
    "evaluate": StageSpec(
        "l1kd.runs.run:evaluate_within_budgets",
        ("data", "rates", "choose", "firmware", "rtl"),  # budgets are of a part, a clock, a size
        MODELS,
        ("scores.npz", "metrics.json"),
        also=("display.json",),
    ),
    "convert": StageSpec(
        "l1kd.firmware.convert:convert",
        ("seed", "data", "firmware", "rtl"),
        ("students/*.keras", "metrics.json"),
        EXACT,
    ),
    "verify": StageSpec(
        "l1kd.firmware.verify.verify:verify",
        ("data", "verify", "rtl"),
        (*MODELS, "scores.npz", "metrics.json", *EXACT, *PROJECTS),
        ("agreement.json", "fidelity.json"),
        also=("energy.json",),
    ),
    "synth": StageSpec(
        "l1kd.firmware.synth:synth",
        ("firmware", "rtl", "choose"),
        (*EXACT, "metrics.json", "vendor/*.json"),
        ("resources.json",),
        tensorflow=False,
    ),
    "report": StageSpec(
        "l1kd.report.page:report",
        ("name", "rates", "choose", "verify", "firmware", "rtl"),  # limits and scales
        ("*.json", "history.csv", "scores.npz"),
        ("report.html",),
        tensorflow=False,
    ),
}


def order(imported: bool) -> tuple[AnyStage, ...]:
    """The stages of a run in their order; `imported`: of a network that was trained elsewhere."""
    return ("import", *STAGES[1:]) if imported else STAGES
