"""Write a run for one of the boards, if its package is here."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from pipeline.boards.kinds import Board
from pipeline.boards.trainings import BoardEntry, board_entries
from pipeline.errors import RunError, SiteError
from pipeline.storage.results import load_results

HOW_TO_LOOK = {
    Board.TENSORBOARD: "tensorboard --logdir {folder}",
    Board.MLFLOW: "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
    Board.WANDB: "wandb sync {folder}/{name}/wandb/offline-run-*",
}


def export_board(collected: Path, board: Board, folder: Path) -> tuple[int, str]:
    """Write a collected run into a board's files.

    Args:
        collected: results.h5.

    Returns:
        How many evaluations were written, and the command that shows them.

    Raises:
        RunError: the run was written there before, or its results cannot be read.
        SiteError: the board's package is not installed, or the folder cannot be written.
    """
    open_board: Callable[[str, Path], Callable[[BoardEntry], None]] = _package_of(board).open_board
    results = load_results(collected)
    if (folder / results.run_id).exists():
        raise RunError(f"{folder / results.run_id} is there already: remove it, or name another folder.")
    count = 0
    try:
        write = open_board(results.run_id, folder)
        for entry in board_entries(results):
            write(entry)
            count += 1
    except OSError as error:
        raise SiteError(f"{folder} cannot be written: {error}") from None
    return count, how_to_look(board, folder, results.run_id)


def how_to_look(board: Board, folder: Path, name: str) -> str:
    """The command that shows a run of this name in a board's folder, as a person types it."""
    return HOW_TO_LOOK[board].format(folder=shlex.quote(str(folder)), name=shlex.quote(name))


def _package_of(board: Board) -> ModuleType:
    try:
        return importlib.import_module(f"pipeline.boards.to_{board}")
    except ImportError as error:
        raise SiteError(
            f"The package of {board} cannot be imported ({error}). "
            f"`{shlex.quote(sys.executable)} -m pip install {board}` installs it."
        ) from None
