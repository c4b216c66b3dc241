"""Weights & Biases' offline runs: one per evaluation, grouped by the search. Nothing is sent, `wandb sync` does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import wandb

from pipeline.boards.trainings import BoardEntry


def open_board(name: str, folder: Path) -> Callable[[BoardEntry], None]:
    """What writes an entry under `folder`/`name`."""
    place = folder / name
    place.mkdir(parents=True)
    return partial(_write, name, place)


def _write(name: str, folder: Path, entry: BoardEntry) -> None:
    run = wandb.init(
        project="tandem",
        group=name,
        name=entry.name,
        id=f"{name}-{entry.path.replace('/', '-')}",
        job_type=f"budget {entry.facts['budget']:g}",
        config={**entry.facts, **entry.configuration},
        dir=str(folder),
        mode="offline",
        reinit="finish_previous",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False, disable_git=True),
    )
    for point in entry.curve:
        run.log({**point.values, "_timestamp": point.time}, step=point.step)
    run.summary.update({f"final/{metric}": value for metric, value in entry.metrics.items()})
    run.finish(exit_code=1 if entry.status == "crashed" else 0)
