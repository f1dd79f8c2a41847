"""The verbs of `l1kd data`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["data_app"]

data_app = typer.Typer(no_args_is_help=True, help="Events: list, fetch, generate.")


@data_app.command("list", epilog="Example: [bold]l1kd data list[/]")
def data_list() -> None:
    """List the sources of events and where they would be read from."""
    from l1kd.data.sources import listing

    table = Table("source", "what", "found", "remedy")
    for source in listing():
        table.add_row(source.name, source.about, source.found or "", source.remedy)
    Console().print(table)


@data_app.command("fetch", epilog="Example: [bold]l1kd data fetch fashion_mnist[/]")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist or fashion_mnist.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to.")] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="The address of a directory with the files, asked instead of the public ones; "
            "repeat.",
        ),
    ] = None,
) -> None:
    """Download a data set, resuming, with its checksum verified."""
    from l1kd.data.fetch import bars, fetch

    with bars() as progress:
        directory = fetch(name, out, mirrors=mirror or None, progress=progress)
    typer.echo(directory)


@data_app.command(
    "generate",
    epilog="Example: [bold]l1kd data generate --out mine --train 5000 --test 5000 "
    "--signal-events 500 --signal ttbar --pileup-mean 60[/], then "
    "[bold]l1kd run l1toy --set data.directory=mine[/]",
)
def data_generate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="One HDF5 file per role goes here.")],
    train: Annotated[int | None, typer.Option(help="Zero-bias events to train on.")] = None,
    test: Annotated[int | None, typer.Option(help="Zero-bias events held out.")] = None,
    signal_events: Annotated[int | None, typer.Option(help="Events of each signal.")] = None,
    signal: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A signal; repeat. Default: all.")
    ] = None,
    pileup_mean: Annotated[float | None, typer.Option(help="Collisions per event, mean.")] = None,
    pileup_spread: Annotated[float | None, typer.Option(help="Spread of that mean.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    processes: Annotated[int | None, typer.Option(help="Default: all cores.")] = None,
) -> None:
    """Generate toy-calorimeter events with Pythia 8; continues where it was stopped.

    Without options, the events that l1kd ships. Needs the extra l1kd\\[physics].
    """
    from dataclasses import replace

    from l1kd.data.generator.generate import SHIPPED, generate

    given = {
        "train": train,
        "test": test,
        "signal_events": signal_events,
        "signals": tuple(signal) if signal else None,
        "pileup_mean": pileup_mean,
        "pileup_spread": pileup_spread,
        "seed": seed,
    }
    plan = replace(SHIPPED, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    command = shlex.join(["l1kd", *sys.argv[1:]])
    for path in generate(out, plan, processes=processes, command=command):
        typer.echo(path)
