"""The verbs that make many runs: `l1kd search` and `l1kd sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["SEARCH_HELP", "SWEEP_HELP", "ConfigArgument", "search", "sweep"]

SEARCH_HELP = (
    "Example: [bold]l1kd search search --workers 2[/], then "
    "[bold]l1kd run runs/search-study/front/01.yaml[/]. The same command on another machine, on a "
    "shared directory, joins in; after a stop it goes on."
)
SWEEP_HELP = (
    "Example: [bold]l1kd sweep paper[/]; a part of it: [bold]l1kd sweep paper --only "
    "'exposure-mnist-*'[/]; on a cluster: [bold]l1kd sweep paper --sweep /shared/paper --scheduler "
    "tcp://login:8786[/]. After a stop the same command goes on (docs/sweep.md)."
)
ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A shipped configuration (l1toy, mnist, fashion_mnist, cicada_v1, cicada_v2, paper, "
        "search) or a YAML file.",
    ),
]


def search(
    config: ConfigArgument,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Trials in all; default search.trials."),
    ] = None,
    study: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The study; by default runs/<name>-study.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes here.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key, e.g. seed=3; repeat."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", hidden=True)] = False,
) -> None:
    """Search for students that are good and cheap; write their Pareto front."""
    from l1kd.orchestrate import search as searching

    if join:  # a worker of a search; CONFIG is the study
        searching.join(Path(config), trials or 1)
        return
    directory = searching.search(
        config, study, trials=trials, workers=workers, overrides=set_ or ()
    )
    typer.echo(directory / "front.md")


def sweep(
    config: ConfigArgument,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--sweep", "--run", metavar="DIR", help="The sweep; by default runs/<name>-sweep."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Runs whose name fits, e.g. 'noise-*'; repeat."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://...", help="A Dask scheduler; by default this machine's cores."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Here; by default one per core.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override any key of every run; repeat."),
    ] = None,
) -> None:
    """Make a grid of runs, on all cores or on a cluster; write one table of them."""
    from l1kd.orchestrate.sweep import sweep as sweeping

    if scheduler and workers:
        raise typer.BadParameter("--workers is of this machine; a --scheduler has its own")
    made = sweeping(
        config,
        directory,
        only=only or (),
        scheduler=scheduler,
        workers=workers,
        overrides=set_ or (),
    )
    typer.echo(made / "summary.md")
