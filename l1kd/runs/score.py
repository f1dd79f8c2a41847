"""`l1kd score` and `l1kd rates`: scores of new events in a file, thresholds and rates of a run."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from l1kd import __version__
from l1kd.core.errors import UserError
from l1kd.core.files import atomic, file_hash
from l1kd.data.sources import open_table
from l1kd.data.user_arrays import check_kept
from l1kd.evaluation.metrics import mean_over_signals
from l1kd.evaluation.rates import Threshold
from l1kd.evaluation.score_events import score_tables
from l1kd.report import number_format as numbers
from l1kd.report.export import TableForm, as_csv, as_json
from l1kd.report.tables import Column
from l1kd.report.tables import Table as TextTable
from l1kd.runs.open_run import Run
from l1kd.runs.run import open_context

Columns = dict[str, NDArray[Any]]
Write = Callable[[Columns], None]


def score_files(
    directory: Path,
    files: Sequence[str],
    *,
    student: str | None = None,
    threshold: int | None = None,
    rate_khz: float | None = None,
    out: Path | None = None,
) -> Path:
    """Score the events of files by a student's exact network; the Parquet or HDF5 file written.

    The run is only read. What is written is whole or not there, and replaces nothing.
    """
    context = open_context(directory)
    run, started = Run(context.directory, context.config), time.monotonic()
    name = run.directory.resolve().name
    out = Path(f"{name}-scores.parquet") if out is None else out
    if out.suffix.lower() not in _WRITERS:
        raise UserError(f"{out}: scores are written as {', '.join(_WRITERS)}; end the name so")
    _check_free(out)
    student = student or run.best
    network, lsb, level = run.network(student), run.lsb(student), None
    if rate_khz is not None:
        level = run.threshold(rate_khz, student)
    elif threshold is not None:
        level = Threshold(threshold)
    if len(set(files)) < len(files):
        raise UserError("a file is named twice; name it once")
    tables = [open_table(run.config.data, each, network.port) for each in files]
    check_kept(tables)
    known = level is not None and run.config.crossings_mhz is not None
    about = {
        "l1kd": __version__,
        "run": name,
        "student": student,
        "lsb": lsb,
        "threshold": level,
        "rate_khz": run.rate(level, student)._asdict() if level is not None and known else None,
        "network_sha256": file_hash(run.directory / "firmware" / student / "network.json"),
        "files": [
            {"file": each.name, "events": each.rows, "bytes": each.file.stat().st_size}
            for each in tables
        ],
    }
    events, accepted = sum(table.rows for table in tables), 0
    with atomic(out) as temporary:
        with (
            _WRITERS[out.suffix.lower()](temporary, about) as write,
            context.progress("events", events) as advance,
        ):
            for part in score_tables(network, tables):
                count = len(part.scores)
                columns: Columns = {
                    "file": np.full(count, part.table, np.int32),
                    "event": np.arange(part.start, part.start + count, dtype=np.int64),
                    "score_lsb": part.scores,
                    "score": part.scores * lsb,
                }
                if level is not None:
                    columns["accept"] = part.scores >= level
                    accepted += int(np.sum(columns["accept"]))
                write(columns)
                advance(count)
        _check_free(out)  # somebody else may have come first
    seconds = time.monotonic() - started
    text = f"{events:,} events in {numbers.duration(seconds)} ({events / seconds:,.0f} events/s)"
    if level is not None:
        text += f", {accepted:,} accepted by a threshold of {level:,} LSB"
    context.say(f"{student} of {run.directory}: {text}")
    return out


def _check_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already, and is not replaced; name another --out")


@contextlib.contextmanager
def _parquet(path: Path, about: dict[str, Any]) -> Iterator[Write]:
    """Write columns as row groups; `file` is a dictionary of names."""
    import pyarrow
    from pyarrow import parquet

    kinds = {
        "file": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
        "event": pyarrow.int64(),
        "score_lsb": pyarrow.int64(),
        "score": pyarrow.float64(),
    }
    if about["threshold"] is not None:
        kinds["accept"] = pyarrow.bool_()
    schema = pyarrow.schema(list(kinds.items()), metadata={"l1kd": json.dumps(about)})
    texts = pyarrow.array([each["file"] for each in about["files"]], pyarrow.string())
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(columns: Columns) -> None:
            arrays = {key: pyarrow.array(values) for key, values in columns.items()}
            arrays["file"] = pyarrow.DictionaryArray.from_arrays(arrays["file"], texts)
            writer.write_batch(pyarrow.record_batch(list(arrays.values()), schema=schema))

        yield write


@contextlib.contextmanager
def _hdf5(path: Path, about: dict[str, Any]) -> Iterator[Write]:
    """Write columns as arrays; `file` counts into `files`."""
    with h5py.File(path, "w") as file:
        file.attrs["l1kd"] = json.dumps(about)
        file["files"] = [each["file"] for each in about["files"]]

        def write(columns: Columns) -> None:
            for key, values in columns.items():
                if key not in file:
                    options = {"maxshape": (None,), "chunks": (1 << 15,), "compression": "lzf"}
                    file.create_dataset(key, (0,), values.dtype, shuffle=True, **options)
                filled = len(file[key])
                file[key].resize(filled + len(values), axis=0)
                file[key][filled:] = values

        yield write


_WRITERS = {".parquet": _parquet, ".h5": _hdf5, ".hdf5": _hdf5}


def rate_table(
    directory: Path,
    khz: Sequence[float] = (),
    threshold: int | None = None,
    *,
    student: str | None = None,
    form: TableForm = "text",
) -> str:
    """Thresholds for rates, by default the configured ones, or the rate for a threshold."""
    context = open_context(directory)
    run, notes = Run(context.directory, context.config), [""]
    student = student or run.best
    scores, lsb = run.test_scores(student), run.lsb(student)
    asked = list(khz) or ([] if threshold is not None else run.config.rates.khz)
    wanted = [] if threshold is None else [(None, Threshold(threshold))]
    for each in asked:
        try:
            wanted.append((each, run.threshold(each, student)))
        except UserError as error:
            if khz or each == max(asked):
                raise
            notes.append(f"{error}.")
    rows, texts = [], []
    for target, level in wanted:
        rate = run.rate(level, student)
        shares = {name: float(np.mean(own >= level)) for name, own in scores.items()}
        accepted = int(np.sum(scores["test"] >= level))
        del shares["test"]
        rows.append(
            {
                "target_khz": target,
                "threshold": int(level),
                "threshold_score": int(level) * lsb,
                "normals_accepted": accepted,
                **{f"rate_{key}": value for key, value in rate._asdict().items()},
                **{f"efficiency_{name}": share for name, share in shares.items()},
            }
        )
        texts.append(
            {
                "aimed at [kHz]": numbers.quantity(target),
                "threshold [LSB]": numbers.count(level),
                "threshold [score]": numbers.score(int(level) * lsb, lsb),
                "normals accepted": numbers.count(accepted),
                "rate [kHz]": numbers.quantity(rate.khz),
                "68 % interval": " to ".join(map(numbers.quantity, rate[1:])),
                "mean efficiency": numbers.percent(mean_over_signals(shares)),
                **{name: numbers.percent(share) for name, share in shares.items()},
            }
        )
    if form == "csv":
        return as_csv(rows)
    normals, frequency = len(scores["test"]), run.config.crossings_mhz
    if form == "json":
        known = {"run": str(run.directory), "student": student, "lsb": lsb, "events": normals}
        more = {"crossings_mhz": frequency, "distinct_collisions": run.distinct, "points": rows}
        return as_json({**known, **more})
    notes[0] = (
        f"{student} of {run.directory}: {normals:,} test normals at {frequency:g} MHz of "
        "crossings; accepted is a score >= the threshold. In the 68 % intervals "
        + ("repeated collisions count once." if run.distinct else "all normals are independent.")
    )
    table = TextTable.of([Column(title, itemgetter(title), str) for title in texts[0]], texts)
    return "\n\n".join([table.markdown(), *notes])
