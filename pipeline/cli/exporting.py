"""Write a run into the files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.boards.kinds import Board
from pipeline.cli.app import RESULTS, Quiet, ResultsFolder, Run, app, progress, say
from pipeline.run.folder import find_collected


@app.command("export-board")
def export_board(
    run: Run = None,
    to: Annotated[Board, typer.Option("--to", help="Whose files.")] = Board.TENSORBOARD,
    folder: Annotated[Path, typer.Option("--folder", help="Where they are written.")] = Path("boards"),
    results: ResultsFolder = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Write configurations and curves for TensorBoard, MLflow or Weights & Biases (offline); nothing is sent."""
    from pipeline import operations
    from pipeline.boards.choice import export_board as export

    found = find_collected(results, run)
    tell = progress(quiet)
    operations.collect_data(found, tell)
    count, look = export(found.collected, to, folder)
    say(str(folder) if quiet else f"{count} evaluations in {folder}. To look at them: {look}")
