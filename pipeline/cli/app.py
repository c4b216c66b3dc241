"""The application that every file of commands adds to: its options, and how errors end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import pipeline
from pipeline.errors import TandemError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search neural architectures and training hyperparameters together, on Slurm or on this machine.",
)


# Completion: what is offered after the first letters; it must answer at once, so that it imports little. --------------
def _presets(incomplete: str) -> list[str]:
    from pipeline.settings import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def _settings(incomplete: str) -> list[str]:
    from pipeline.settings.documentation import setting_names

    return [f"{name}=" for name in setting_names() if name.startswith(incomplete)]


def _runs(context: typer.Context, incomplete: str) -> list[str]:
    results = context.params.get("results") or RESULTS
    return sorted(p.parent.name for p in Path(results).glob(f"{incomplete}*/settings.yaml"))


# Options -------------------------------------------------------------------------------------------------------------
RESULTS = Path("results")
Preset = Annotated[
    str,
    typer.Option("--preset", "-p", help="A preset's name (`tandem presets`) or a YAML file.", autocompletion=_presets),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", help="A setting to override, such as search.eta=4; may be repeated.", autocompletion=_settings
    ),
]
ResultsFolder = Annotated[Path, typer.Option("--results", help="Folder of the run folders.", envvar="TANDEM_RESULTS")]
Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's id, name or folder; the latest if not given.", autocompletion=_runs),
]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each, with seeds 0, 1, ...")]
# Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130
RunOption = Annotated[
    str | None, typer.Option("--run", help="A run's id, name or folder; the latest if not given.", autocompletion=_runs)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the answer alone, not what is being done; warnings go to stderr.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


# As `tandem --help` lists them: before a search, during it, after it, and for workers started by hand.
_ORDER = (
    "presets", "settings", "init", "doctor", "plan", "data",
    "submit-search", "demo", "status", "list", "show", "logs", "watch", "stop-search", "resume-search",
    "collect-results", "compare", "figures", "tables", "baselines", "retrain-incumbent", "export", "export-board",
    "verify", "worker-options", "scripts", "stock-worker",
)  # fmt: skip


def put_in_order() -> None:
    """Sort the commands of `app` as a person needs them, once all are there; hidden ones come last."""

    def place(command: typer.models.CommandInfo) -> int:
        name = command.name or getattr(command.callback, "__name__", "")
        return _ORDER.index(name) if name in _ORDER else len(_ORDER)

    app.registered_commands.sort(key=place)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"tandem {pipeline.__version__}")
        raise typer.Exit


@app.callback()
def tandem(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of `tandem` itself."""


def say(text: str) -> None:
    """Tell the person, at once even into a pipe."""
    print(text, flush=True)


def progress(quiet: bool) -> Callable[[str], None]:
    """Tell the person what is being done; of a command that is to be quiet, warnings alone, beside its answer."""

    def warn(text: str) -> None:
        if text.startswith("Warning:"):
            print(text, file=sys.stderr, flush=True)

    return warn if quiet else say


def main() -> None:
    """Entry point. Exit status: 0 done; 1 what was asked for is not so (verify, doctor), or a defect, with traceback;
    2 an error in what was typed, set or found, with one message; 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be UTF-8
    try:
        app(prog_name="tandem")
    except TandemError as error:
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(2)
