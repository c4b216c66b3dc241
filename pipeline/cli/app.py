"""The application that every file of commands adds to: its options, and how errors end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import TandemError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search neural architectures and training hyperparameters together, on Slurm or on this machine.",
)

Preset = Annotated[str, typer.Option("--preset", "-p", help="A preset's name (`tandem presets`) or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="A setting to override, such as search.eta=4; may be repeated.")
]
ResultsFolder = Annotated[Path, typer.Option("--results", help="Folder of the run folders.", envvar="TANDEM_RESULTS")]
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id or folder; the latest if not given.")]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each, with seeds 0, 1, ...")]
RESULTS = Path("results")


def say(text: str) -> None:
    """Tell the person, at once even into a pipe."""
    print(text, flush=True)


def main() -> None:
    """Entry point: a `TandemError` is one message and exit status 2, anything else a traceback."""
    try:
        app()
    except TandemError as error:
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(2)
