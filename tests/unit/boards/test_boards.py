"""Runs in the files of other programs' boards, read back by their own packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.boards.choice import export_board
from pipeline.boards.kinds import Board
from pipeline.boards.trainings import BoardEntry, board_entries
from pipeline.errors import RunError, SiteError
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from tests.earlier_run import unpack_earlier_run


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that was interrupted, collected."""
    return collect(unpack_earlier_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def finished(collected: Path) -> BoardEntry:
    """One of its evaluations that have finished."""
    return next(entry for entry in board_entries(load_results(collected)) if entry.name == "0-0-0 on 1")


def test_an_entry_has_what_a_board_shows(finished: BoardEntry) -> None:
    assert finished.status == "finished"
    assert isinstance(finished.configuration["batch_size"], int)
    assert finished.metrics["loss"] == pytest.approx(0.926666, abs=1e-4)
    assert finished.curve[-1].values["validation_error"] == pytest.approx(0.926666, abs=1e-4)
    assert [point.step for point in finished.curve] == sorted(point.step for point in finished.curve)
    assert not {"batches", "rung", "wall_time", "evaluation"} & set(finished.curve[-1].values)


def test_tensorboard_reads_curves_and_configurations(collected: Path, tmp_path: Path, finished: BoardEntry) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    count, look = export_board(collected, Board.TENSORBOARD, tmp_path)
    run_id = load_results(collected).run_id
    assert (count, look) == (len(list(board_entries(load_results(collected)))), f"tensorboard --logdir {tmp_path}")
    read = EventAccumulator(str(tmp_path / run_id / finished.path))
    read.Reload()
    shown = [(point.step, point.value) for point in read.Scalars("validation_error")]
    assert shown == [
        (p.step, pytest.approx(p.values["validation_error"])) for p in finished.curve if "validation_error" in p.values
    ]
    assert read.Scalars("final/loss")[0].value == pytest.approx(finished.metrics["loss"])
    told = read.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(told["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["batch_size"].number_value == finished.configuration["batch_size"]
    assert "_hparams_/session_end_info" in told
    with pytest.raises(RunError, match="is there already"):
        export_board(collected, Board.TENSORBOARD, tmp_path)


def test_mlflow_reads_curves_and_configurations(collected: Path, tmp_path: Path, finished: BoardEntry) -> None:
    mlflow = pytest.importorskip("mlflow")
    export_board(collected, Board.MLFLOW, tmp_path)
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(load_results(collected).run_id)
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = '0-0-0 on 1'")
    assert run.data.params["batch_size"] == str(finished.configuration["batch_size"])
    assert run.data.metrics["final.loss"] == pytest.approx(finished.metrics["loss"])
    assert len(client.get_metric_history(run.info.run_id, "training_loss")) == len(finished.curve)
    with pytest.raises(RunError, match="already exists"):
        export_board(collected, Board.MLFLOW, tmp_path)


def test_wandb_writes_an_offline_run_per_evaluation(collected: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    count, look = export_board(collected, Board.WANDB, tmp_path)
    place = tmp_path / load_results(collected).run_id / "wandb"
    assert len(list(place.glob("offline-run-*/run-*.wandb"))) == count
    assert look == f"wandb sync {place}/offline-run-*"


def test_a_board_whose_package_is_not_here_is_said_to_need_it(
    collected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "wandb", missing)
    monkeypatch.delitem(sys.modules, "pipeline.boards.to_wandb", raising=False)
    with pytest.raises(SiteError, match="-m pip install wandb` installs it"):
        export_board(collected, Board.WANDB, tmp_path)
    assert not list(tmp_path.iterdir())
