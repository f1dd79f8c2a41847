"""The command line: one function per verb, no logic."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shlex
import shutil
import sys
import warnings
from pathlib import Path
from typing import Literal, NoReturn

import typer
from rich.console import Console
from typer import Argument, Option

from l1kd import __version__
from l1kd.core.config import IoType, VendorTool
from l1kd.core.context import plain_console, show_table
from l1kd.core.errors import CheckFailed, UserError
from l1kd.core.run_files import Source
from l1kd.core.stages import Stage


def _shipped(incomplete: str) -> list[str]:
    """Shipped configurations that begin so; the shell completes files by itself."""
    from l1kd.core.config_file import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


CONFIG = Argument(
    metavar="CONFIG",
    autocompletion=_shipped,
    help="A shipped configuration (l1toy, mnist, fashion_mnist, cicada_v1, cicada_v2, paper, "
    "search, set) or a YAML file.",
)
RUN = Argument(metavar="RUN", help="The run's directory.")
NEW_RUN = Option(None, "--run", metavar="DIR", help="The run; by default runs/<name>.")
UNTIL = Option("report", help="The last stage, inclusive.")
STUDENT = Option(None, metavar="NAME", help="Which; by default the best one.")
SCHEDULER = Option(
    None, metavar="tcp://...", help="A Dask scheduler; by default this machine's cores."
)
WORKERS = Option(None, metavar="N", min=1, help="Processes here, on Dask.")
SET = Option([], "--set", metavar="KEY=VALUE", help="Override any key, e.g. seed=3; repeat.")

app = typer.Typer(
    name="l1kd",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From events to verified trigger firmware: an autoencoder teaches tiny quantized networks "
    "its anomaly score, hls4ml turns them into HLS, and every bit is checked.",
    epilog="Example: [bold]l1kd run l1toy[/] trains on the embedded sample and writes "
    "runs/l1toy/report.html. Exit codes: 0 done, 1 a check failed, 2 you can mend it, "
    "70 a fault of ours, 130 interrupted.",
)
data_app = typer.Typer(no_args_is_help=True, help="Events: list, fetch, convert, generate.")
app.add_typer(data_app, name="data")


@data_app.command("list", epilog="Example: [bold]l1kd data list[/]")
def data_list() -> None:
    """List the sources of events and where they would be read from."""
    from l1kd.data.sources import SOURCES

    rows, remedies = [], []
    for source in SOURCES.values():
        found, remedy = source.find()
        rows.append((source.name, source.about, found or ""))
        if remedy:
            remedies.append(f"{source.name}: {remedy}")
    show_table(("source", "what", "found"), rows, Console())
    for line in remedies:  # whole, to be copied
        typer.echo(line)


@data_app.command("fetch", epilog="Example: [bold]l1kd data fetch fashion_mnist[/]")
def data_fetch(
    name: str = Argument(metavar="NAME", help="mnist or fashion_mnist."),
    out: Path | None = Option(None, metavar="DIR", help="Where to."),
    mirror: list[str] = Option(
        [],
        metavar="URL",
        help="The address of a directory with the files, asked instead of the public ones; repeat.",
    ),
) -> None:
    """Download a data set and verify its checksum."""
    from l1kd.data.mnist import fetch

    progress = sys.stderr.isatty()  # a log needs no bars
    typer.echo(fetch(name, out, mirrors=mirror or None, progress=progress))


@data_app.command(
    "convert",
    epilog="Example: [bold]l1kd data convert L1Ntuple_*.root --out regions.h5[/], then "
    "[bold]l1kd init mine --source calo --background regions.h5[/]",
)
def data_convert(
    files: list[Path] = Argument(metavar="FILE...", help="ROOT ntuples with calorimeter towers."),
    out: Path = Option(metavar="FILE", help="The HDF5 file, for the source calo."),
) -> None:
    """Make calorimeter regions of CICADA's ROOT ntuples. Needs the extra l1kd\\[root]."""
    from l1kd.data.root_files import convert

    typer.echo(f"{convert(files, out):,} events", err=True)
    typer.echo(out)


@data_app.command(
    "generate",
    epilog="Example: [bold]l1kd data generate --out mine --train 5000 --test 5000 "
    "--signal-events 500 --signal ttbar --pileup-mean 60[/], then "
    "[bold]l1kd run l1toy --set data.directory=mine[/]",
)
def data_generate(
    out: Path = Option(metavar="DIR", help="One HDF5 file per role goes here."),
    train: int | None = Option(None, help="Zero-bias events to train on."),
    test: int | None = Option(None, help="Zero-bias events held out."),
    signal_events: int | None = Option(None, help="Events of each signal."),
    signal: list[str] = Option([], metavar="NAME", help="A signal; repeat. Default: all."),
    pileup_mean: float | None = Option(None, help="Collisions per event, mean."),
    pileup_spread: float | None = Option(None, help="Spread of that mean."),
    seed: int | None = Option(None, help="Of everything random."),
    processes: int | None = Option(None, help="Default: all cores."),
) -> None:
    """Generate toy-calorimeter events with Pythia 8; continues where it was stopped.

    Without options, the events that l1kd ships. Needs the extra l1kd\\[physics].
    """
    from l1kd.data.pythia_toy.generate import Plan, generate

    given = {
        "train": train,
        "test": test,
        "signal_events": signal_events,
        "signals": tuple(signal) or None,
        "pileup_mean": pileup_mean,
        "pileup_spread": pileup_spread,
        "seed": seed,
    }
    plan = Plan(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    command = shlex.join(["l1kd", *sys.argv[1:]])
    for path in generate(out, plan, processes=processes, command=command):
        typer.echo(path)


@app.command(epilog="Example: [bold]l1kd run mnist --run runs/four --set data.normal=4[/]")
def run(
    config: str = CONFIG, run: Path | None = NEW_RUN, until: Stage = UNTIL, set_: list[str] = SET
) -> None:
    """Create or resume a run: train, evaluate, convert, verify, synth, report."""
    from l1kd.runs.run import run_configuration

    directory = run_configuration(config, run, until=until, overrides=set_)
    if until == "report":
        typer.echo(directory / "report.html")


@app.command(
    "import",
    epilog="Example: [bold]l1kd import cicada_v1.h5 l1toy --run runs/theirs[/]; "
    "exit 1 if it cannot be made exact",
)
def import_(
    model: Path = Argument(metavar="MODEL", help="A trained network, .keras or .h5 (Keras 2)."),
    config: str = CONFIG,
    run: Path | None = NEW_RUN,
    lossy: bool = Option(False, "--lossy", help="Also repairs that change the network's values."),
    cut: str | None = Option(None, metavar="LAYER", help="End in this layer, without its softmax."),
    until: Stage = UNTIL,
    set_: list[str] = SET,
) -> None:
    """Create a run from somebody's trained network: repair, convert, verify, report."""
    from l1kd.runs.run import import_network

    directory = import_network(
        model, config, run, lossy=lossy, cut=cut, until=until, overrides=set_
    )
    if until == "report":
        typer.echo(directory / "report.html")


@app.command(
    epilog="Example: [bold]l1kd init mine --source calo --background zerobias.h5 --signal "
    "ttbar=ttbar.h5[/], then [bold]l1kd run mine/l1kd.yaml[/]"
)
def init(
    directory: Path = Argument(metavar="DIR", help="Where l1kd.yaml and its schema go."),
    source: str = Option("calo", metavar="NAME", help="One of `l1kd list sources`."),
    background: list[str] = Option([], metavar="FILE", help="Normal events; repeat."),
    signal: list[str] = Option([], metavar="NAME=FILE", help="A signal's events; repeat."),
) -> None:
    """Write a commented configuration of a source, and check the files that are given."""
    from l1kd.runs.new_config import init

    path, found = init(directory, source, background, signal)
    for line in found:
        typer.echo(line, err=True)
    typer.echo(path)


@app.command("list", epilog="Example: [bold]l1kd list students[/]")
def list_(
    kind: Literal["teachers", "students", "parts", "configs", "sources"] = Argument(
        metavar="KIND", help="teachers, students, parts, configs or sources."
    ),
) -> None:
    """List names that a configuration may use."""
    from l1kd.runs.config_reference import names

    show_table((kind, ""), names()[kind].items(), Console())


@app.command(epilog="Example: [bold]l1kd describe distillation.exposure[/]")
def describe(name: str = Argument(metavar="NAME", help="A key, or a name of `l1kd list`.")) -> None:
    """Say what a key, an architecture, a part, a source or a configuration is."""
    from l1kd.runs import config_reference

    for heading, text in config_reference.describe(name):
        typer.echo(f"{heading}: {text}")


@app.command(
    epilog="Example: [bold]l1kd schema > l1kd.schema.json[/]; editors with a YAML language server "
    "use it where a file begins with # yaml-language-server: $schema=l1kd.schema.json"
)
def schema(
    form: Literal["json", "markdown"] = Option("json", "--format", help="markdown: a reference."),
) -> None:
    """Print the JSON schema of the configuration, or its reference."""
    from l1kd.runs import config_reference

    if form == "markdown":
        typer.echo(config_reference.markdown())
    else:
        typer.echo(json.dumps(config_reference.schema(), indent=1))


def _workers(scheduler: str | None, workers: int | None) -> int | None:
    if scheduler and workers:
        raise typer.BadParameter("--workers is of this machine; a --scheduler has its own")
    return workers


def _stage(stage: Stage, directory: Path) -> None:
    from l1kd.runs.run import run_stage

    run_stage(stage, directory)


def _stage_verb(stage: Stage, about: str, more: str = "") -> None:
    """A verb that runs one stage and has no options."""

    def verb(run: Path = RUN) -> None:
        _stage(stage, run)

    example = f"Example: [bold]l1kd {stage} runs/l1toy[/]{more}"
    app.command(stage, help=about, epilog=example)(verb)


_stage_verb("train", "Resume a training that was interrupted.")
_stage_verb("evaluate", "Score all events and write scores.npz and metrics.json.")
_stage_verb("convert", "Write the HLS projects and the Verilog of the students.")
_stage_verb(
    "verify",
    "Compile the written projects and compare them with their networks, bit by bit.",
    "; exit 1 if a single bit differs",
)


@app.command(
    epilog="Example: [bold]l1kd synth runs/l1toy --tool vitis --steps csynth,vsynth[/]; without "
    "the tool it prints the commands for a machine that has it, exit 2. What comes back from "
    "there: [bold]l1kd synth runs/l1toy --collect DIR[/]. No vendor's tool was ever run with "
    "this version: tests use recorded reports and a stand-in (docs/vendor_tools.md)."
)
def synth(
    run: Path = RUN,
    tool: VendorTool | None = Option(
        None, help="Run this vendor's tool on the HLS projects of a student."
    ),
    steps: str = Option(
        "csynth", metavar="STEP,...", help="With --tool: csim, csynth, cosim, vsynth."
    ),
    student: str | None = Option(
        None, metavar="NAME", help="With --tool; by default the best one."
    ),
    io_type: IoType | None = Option(
        None, help="With --tool: which of its projects; by default all."
    ),
    time_limit: float = Option(43200, metavar="SECONDS", min=1, help="With --tool, of one step."),
    collect: Path | None = Option(
        None, metavar="DIR", help="Read the results in a project that was brought back."
    ),
) -> None:
    """Tell what the students cost in logic and time: estimated, or by a vendor's tool."""
    from l1kd.runs.run import collect_results, run_vendor_tool

    if tool and collect:
        raise typer.BadParameter("--tool runs a tool, --collect reads results: give one of them")
    if collect:
        collect_results(run, collect)
    elif tool:
        run_vendor_tool(run, tool, steps, student=student, io_type=io_type, limit=time_limit)
    elif student or io_type or steps != "csynth":
        raise typer.BadParameter("--steps, --student and --io-type are of --tool; give it too")
    else:
        _stage("synth", run)


@app.command(
    epilog="Example: [bold]l1kd report runs/l1toy[/], or its costs as a table: "
    "[bold]l1kd report runs/l1toy --format csv > cost.csv[/]"
)
def report(
    run: Path = RUN,
    form: Literal["html", "json", "csv", "markdown"] = Option(
        "html", "--format", help="html writes the page; the others print numbers."
    ),
) -> None:
    """Write report.html anew from the run's files, or print their numbers."""
    if form != "html":
        from l1kd.report.export import export

        typer.echo(export(run, form))
        return
    _stage("report", run)
    typer.echo(run / "report.html")


@app.command(
    epilog="Example: [bold]l1kd compare runs/*[/]; "
    "[bold]l1kd compare runs/* --implementation hls4ml --io-type io_stream[/]"
)
def compare(
    runs: list[Path] = Argument(metavar="RUN...", help="Directories of runs."),
    form: Literal["text", "markdown", "json", "csv"] = Option(
        "text", "--format", help="Of the output."
    ),
    implementation: Literal["alkaid", "hls4ml"] | None = Option(
        None, help="Whose cost: alkaid's Verilog or hls4ml's C++. Default: alkaid's."
    ),
    io_type: IoType | None = Option(
        None, help="Of hls4ml's C++. Default: the one that most is known of."
    ),
    source: Source | None = Option(None, help="Of the cost. Default: the best founded."),
) -> None:
    """Print one table of several runs and their students."""
    from l1kd.report import export

    selection = export.Selection(implementation, io_type, source)
    typer.echo(export.compare(runs, selection, form, Console().width))


@app.command(
    epilog="Example: [bold]l1kd score runs/demo monday.h5 tuesday.h5 --rate-khz 10[/]; an array of "
    "yours: [bold]l1kd score runs/mine new.npz:events --threshold 1200 --out new.h5[/]"
)
def score(
    run: Path = RUN,
    files: list[str] = Argument(
        metavar="FILE...", help="As the run's source has them, or arrays: PATH or PATH:KEY."
    ),
    threshold: int | None = Option(None, metavar="N", help="Accept scores >= N, in LSBs."),
    rate_khz: float | None = Option(None, metavar="X", help="Accept X kHz of the run's normals."),
    out: Path | None = Option(
        None, metavar="FILE", help=".parquet or .h5; by default <run>-scores.parquet."
    ),
    student: str | None = STUDENT,
    scheduler: str | None = SCHEDULER,
    workers: int | None = WORKERS,
) -> None:
    """Score new events, bit by bit as the firmware does: Parquet or HDF5, no TensorFlow."""
    from l1kd.runs.score import Cluster, score_files

    cluster = Cluster(scheduler, _workers(scheduler, workers))
    if threshold is not None and rate_khz is not None:
        raise typer.BadParameter("--threshold and --rate-khz exclude each other: give one of them")
    given = {"threshold": threshold, "rate_khz": rate_khz}
    written = score_files(run, files, student=student, out=out, cluster=cluster, **given)  # type: ignore[arg-type]
    typer.echo(written)


@app.command(
    epilog="Example: [bold]l1kd rates runs/demo --khz 3 --khz 10[/]; the other way round: "
    "[bold]l1kd rates runs/demo --threshold 1200[/]"
)
def rates(
    run: Path = RUN,
    files: list[str] = Argument(
        None, metavar="[FILE]...", help="Normal events, as `score` reads them; else the run's."
    ),
    khz: list[float] = Option([], metavar="X", help="A rate; repeat. Default: rates.khz."),
    threshold: int | None = Option(None, metavar="N", help="In LSBs: what is its rate?"),
    student: str | None = STUDENT,
    form: Literal["text", "json"] = Option("text", "--format", help="Of the output."),
    scheduler: str | None = SCHEDULER,
    workers: int | None = WORKERS,
) -> None:
    """Print thresholds for rates, and rates for a threshold, with 68 % intervals."""
    from l1kd.runs.score import Cluster, rate_table

    cluster = Cluster(scheduler, _workers(scheduler, workers))
    options = {"student": student, "form": form, "cluster": cluster, "files": files or ()}
    typer.echo(rate_table(run, khz, threshold, **options))  # type: ignore[arg-type]


@app.command(
    epilog="Example: [bold]l1kd emulator runs/l1toy[/], then in Python "
    "[bold]l1kd.firmware.hls.emulator.load(directory).predict(events)[/]"
)
def emulator(
    run: Path = RUN,
    student: str | None = STUDENT,
    out: Path | None = Option(
        None, metavar="DIR", help="Where to; by default RUN/emulator/<name>_<version>."
    ),
) -> None:
    """Build the shared library that trigger software loads, and check it bit by bit."""
    from l1kd.runs.run import deliver_emulator

    typer.echo(deliver_emulator(run, student, out))


@app.command(
    epilog="Example: [bold]l1kd export runs/l1toy[/]; where it is unpacked, without Python: "
    "[bold]make check[/]"
)
def export(
    run: Path = RUN,
    archive: Path | None = Argument(
        None, metavar="[ARCHIVE]", help="A .tar.gz; by default RUN/<top>.tar.gz."
    ),
    student: str | None = Option(None, metavar="NAME", help="Which; by default the best one."),
) -> None:
    """Write a student's firmware as one archive for who builds it in: code, proofs, README."""
    from l1kd.runs import archive as archives

    typer.echo(archives.export(run, archive, student))


@app.command(epilog="Example: [bold]l1kd check l1kd_best.tar.gz[/]; exit 1 if anything differs")
def check(path: Path = Argument(metavar="ARCHIVE|RUN", help="What to judge.")) -> None:
    """Check an archive or a run's best student: every byte, certificates, vectors."""
    from l1kd.runs import archive as archives

    findings = list(archives.check(path))
    show_table(("part", "found"), [(part, found) for part, found, _ in findings], Console())
    if wrong := [f"{part}: {found}" for part, found, right in findings if not right]:
        raise CheckFailed(f"{path}: {wrong[0]}")


@app.command(
    epilog="Example: [bold]l1kd search search --workers 2[/], then "
    "[bold]l1kd run runs/search-study/front/01.yaml[/]. The same command on another machine, on a "
    "shared directory, joins in; after a stop it goes on."
)
def search(
    config: str = CONFIG,
    trials: int | None = Option(
        None, metavar="N", min=1, help="Trials in all; default search.trials."
    ),
    study: Path | None = Option(
        None, metavar="DIR", help="The study; by default runs/<name>-study."
    ),
    workers: int = Option(1, metavar="N", min=1, help="Processes here."),
    set_: list[str] = SET,
    join: bool = Option(False, "--join", hidden=True),
) -> None:
    """Search for students that are good and cheap; write their Pareto front."""
    from l1kd.runs import search as searching

    if join:  # a worker of a search; CONFIG is the study
        searching.join(Path(config), trials or 1)
        return
    directory = searching.search(config, study, trials=trials, workers=workers, overrides=set_)
    typer.echo(directory / "front.md")


@app.command(
    epilog="Example: [bold]l1kd sweep paper[/]; a part of it: [bold]l1kd sweep paper --only "
    "'exposure-mnist-*'[/]; on a cluster: [bold]l1kd sweep paper --sweep /shared/paper --scheduler "
    "tcp://login:8786[/]. After a stop the same command goes on (docs/sweep.md)."
)
def sweep(
    config: str = CONFIG,
    directory: Path | None = Option(
        None, "--sweep", "--run", metavar="DIR", help="The sweep; by default runs/<name>-sweep."
    ),
    only: list[str] = Option(
        [], metavar="PATTERN", help="Runs whose name fits, e.g. 'noise-*'; repeat."
    ),
    scheduler: str | None = SCHEDULER,
    workers: int | None = WORKERS,
    set_: list[str] = SET,
) -> None:
    """Make a grid of runs, on all cores or on a cluster; write one table of them."""
    from l1kd.runs.sweep import sweep as sweeping

    workers = _workers(scheduler, workers)
    made = sweeping(
        config, directory, only=only, scheduler=scheduler, workers=workers, overrides=set_
    )
    typer.echo(made / "summary.md")


@app.command(epilog="Example: [bold]l1kd doctor[/]")
def doctor() -> None:
    """Say what this machine has, what it lacks, and how to get it."""
    from l1kd.runs.doctor import examine

    if not examine(plain_console(stderr=False)):
        raise CheckFailed("something that `l1kd run` needs is missing; the table says what")


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: bool = Option(False, "--debug", help="Show tracebacks."),
    version: bool = Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of every verb."""


def _end(kind: str, message: object, code: int) -> NoReturn:
    # One line; names from files may hold control characters, which a terminal would obey.
    line = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in " ".join(str(message).split())
    )
    sys.stderr.write(f"l1kd: {kind}: {line}\n")
    sys.exit(code)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with the contract's exit codes."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    # Accepted anywhere: one adds it to the end of the command that just failed.
    given = [argument for argument in given if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack what a message has
            stream.reconfigure(errors="backslashreplace")
    # Everything of interest is said by us; TensorFlow and Keras chatter through these.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*constraints.serialize.*", category=UserWarning)
    try:
        code = app(given, prog_name="l1kd", standalone_mode=False)
    except BaseException as error:
        if debug and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise
        _map(error)
    if code == 130:  # newer Typers make a code of Ctrl-C
        _map(KeyboardInterrupt())
    sys.exit(code if isinstance(code, int) else 0)


def _tells(error: BaseException | None, code: int) -> bool:
    """An error, or one that it comes from, says what the system says for an `errno`."""
    if error is None:
        return False
    return os.strerror(code) in str(error) or _tells(error.__cause__ or error.__context__, code)


def _map(error: BaseException) -> NoReturn:
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, UserError):
        _end("error", error, 2)
    if isinstance(error, CheckFailed):
        _end("check failed", error, 1)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        _end("interrupted", "the same command continues where this one stopped", 130)
    if hasattr(error, "format_message"):
        # A usage error of Click's; newer Typers carry a Click of their own to import it from.
        text = error.format_message().replace("Value error, ", "")
        if type(error).__name__ == "MissingParameter" and (context := getattr(error, "ctx", None)):
            text = f"{text.rstrip('.')}; see `{context.command_path} -h`"
        _end("error", text, 2)
    number = error.errno if isinstance(error, OSError) else None
    # Libraries make errors of theirs of the system's; `shutil` makes a list of them.
    short = (code for code in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM) if _tells(error, code))
    number = number or next(short, None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "failed to map" in str(error):
        _end("error", "out of memory; use fewer events or a smaller batch", 2)
    if number is not None or isinstance(error, OSError):
        remedy = {
            errno.ENOSPC: "; free some space, then run the same command again",
            errno.EDQUOT: "; free some space, then run the same command again",
            errno.EROFS: ", and cannot be written; choose another directory",
            errno.ENOENT: "; correct the path",
            errno.EACCES: "; choose a directory that you may write",
            errno.EPERM: "; choose a directory that you may write",
        }.get(number or 0, "")
        filename = getattr(error, "filename", None)
        if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
            filename = error.args[0][0][1]
        where = f"{filename}: " if filename else ""
        _end("error", f"{where}{os.strerror(number) if number else error}{remedy}", 2)
    if logging.getLogger("l1kd").handlers:  # inside a run: its log has the traceback
        logging.getLogger("l1kd").error("a fault of ours", exc_info=error)
    _end(
        "a fault of ours",
        f"{type(error).__name__}: {error} (--debug shows where; please report it)",
        70,
    )
