"""Commands that the program tells a person to type: a shell takes each as it is meant, whatever the folder's name."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from pipeline import joining, operations
from pipeline.analysis import poster, winner
from pipeline.boards.choice import how_to_look
from pipeline.boards.kinds import Board
from pipeline.cli import pages, runs
from pipeline.cluster import slurm
from pipeline.errors import SiteError, TandemError
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.retraining.plan import plan_incumbent
from pipeline.rpc.tls import ensure_authority
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.identity import require_no_copy
from pipeline.run.status import read_status
from pipeline.settings import load_settings
from pipeline.storage.retrained import INCUMBENT
from pipeline.training.sources import data_command
from pipeline.worker import process

NAME = "it's a run"
_COMMAND = re.compile(
    r"`([^`]+)`|((?:  tandem|make|bash|sbatch|tensorboard|mlflow|wandb) .*?)(?:   .*)?$", re.MULTILINE
)


def pickles_of_others(folder: RunFolder) -> None:
    folder.path.chmod(0o775)
    ensure_jobs_folder(folder)


def keys_of_others(folder: RunFolder) -> None:
    folder.tls.mkdir(mode=0o755)
    ensure_authority(folder.tls, "label")


def damaged_status(folder: RunFolder) -> None:
    folder.status.write_text("{}")
    read_status(folder, 0)


def copied(folder: RunFolder) -> None:
    shutil.copytree(folder.path, folder.path.with_name("copy of " + NAME))
    require_no_copy(RunFolder(folder.path.with_name("copy of " + NAME)))


def on_slurm(folder: RunFolder) -> SlurmBackend:
    folder.identity.unlink()  # as a run of a version without labels: its jobs have the folder's name
    return SlurmBackend(read_settings(folder))


def boards(folder: RunFolder) -> str:
    return "\n".join(how_to_look(board, folder.path, NAME) for board in Board)


def trainings(folder: RunFolder) -> str:
    results: Any = SimpleNamespace(run_id=NAME, problem=SimpleNamespace(is_built_in=True))
    commands = poster._commands(results, pd.Series([INCUMBENT, "resnet"]))
    return "\n".join([*commands, winner.codes(results, pd.Series(), {})[1].text])


WAYS: list[Callable[[RunFolder], object]] = [
    pickles_of_others,
    keys_of_others,
    damaged_status,
    copied,
    boards,
    trainings,
    joining.stock_worker_lines,
    joining.worker_command,
    process.work,
    operations.require_unbroken,
    runs._page_line,
    runs._say_next,
    lambda folder: on_slurm(folder).worker_command(folder),
    lambda folder: on_slurm(folder).cancel_workers(folder),
    lambda folder: operations.stop(folder, print),
    lambda folder: pages.tables(None, str(folder.path)),
    lambda folder: plan_incumbent(folder, read_settings(folder)),
    lambda folder: data_command("cifar10", folder.path),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_command_that_a_person_is_told_survives_a_space_and_a_quote_in_the_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, way: Callable[[RunFolder], object]
) -> None:
    def refuse(*_: object) -> None:
        raise SiteError("scancel failed")

    monkeypatch.setattr(slurm, "cancel", refuse)
    monkeypatch.setattr(process, "what_is_missing", lambda settings: "a GPU")
    monkeypatch.setattr(winner, "as_yaml", lambda *_: "")
    made = create_run(load_settings("digits"), tmp_path)
    folder = RunFolder(made.path.rename(tmp_path / NAME))
    try:
        told = str(way(folder))
    except TandemError as error:
        told = str(error)
    told = f"{capsys.readouterr().out}\n{told}"
    commands = [first or second for first, second in _COMMAND.findall(told)]
    about_it = [command for command in commands if "a run" in command]
    assert about_it, told
    for command in about_it:
        assert any(NAME in word for word in shlex.split(command.replace("$(", "").replace(")", ""))), command
