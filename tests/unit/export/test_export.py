"""A trained network leaves the run: its folder predicts the same in a process that has nothing of Tandem."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.registry import build_model
from pipeline.errors import RunError
from pipeline.export.export import choose, class_names, export
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, Result, draw_line, read_history, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.settings import load_settings
from pipeline.storage.curves import AttemptFile
from pipeline.training.augment import network_input, normalise
from pipeline.training.data import load_data, prepare_data
from pipeline.training.train import never_stop, train
from tests.unit.training.support import TINY

CONFIGURATION: dict[str, Any] = {**TINY, "res_branches_2": 3, "widen_factor_1": 0.5}
# Where `pipeline` and `models` cannot be imported: an import of what is None in sys.modules fails.
ELSEWHERE = """
import sys
for name in ("pipeline", "models", "tandem_trial", "ConfigSpace", "hpbandster", "h5py"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from predict import about, load_network, network_input
images = torch.from_numpy(np.load(sys.argv[2]))
with torch.inference_mode():
    here = load_network()(network_input(images))
    program = torch.export.load(sys.argv[1] + "/network.pt2").module()(network_input(images))
np.savez(sys.argv[3], here=here.numpy(), program=program.numpy())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with one evaluation that was trained for a few steps."""
    place = tmp_path_factory.mktemp("export")
    own = (f"data.root={place}", "training.threads=1", "search.budget_unit=batches", "search.min_budget=4",
           "search.max_budget=12")  # fmt: skip
    settings = load_settings("digits", own)
    prepare_data(settings.data)
    folder = create_run(settings, place / "results")
    evaluation = Evaluation((0, 0, 0), CONFIGURATION, 12.0, 1, seed=5)
    curve = AttemptFile(folder.attempt((0, 0, 0), 12.0, 1), folder.path)
    data = load_data(settings.data, torch.device("cpu"))
    result = train(evaluation, settings, folder, data, curve, WorkerIdentity("w", "here"), never_stop)
    now = time.time()
    append(folder.configs, draw_line(Draw((0, 0, 0), CONFIGURATION, {"model_based_pick": False})))
    info = {**result.info, "attempt": 1}
    append(folder.results, result_line(Result((0, 0, 0), 12.0, now, now, now, result.loss, info, None)))
    return folder


def append(path: Path, line: list[Any]) -> None:
    writer = JsonLinesWriter(path)
    writer.append([line])
    writer.close()


@pytest.mark.slow
def test_an_exported_network_gives_the_same_logits_where_nothing_of_tandem_can_be_imported(
    folder: RunFolder, tmp_path: Path
) -> None:
    said: list[str] = []
    export(folder, tmp_path / "mine", None, None, said.append)
    assert "configuration 0-0-0, validation error" in said[-1]
    settings = read_settings(folder)
    data = load_data(settings.data, torch.device("cpu"))
    images = data.test.images[:7]
    trained = build_model(CONFIGURATION, data.info.image_shape, data.info.classes)
    checkpoint = torch.load(folder.checkpoint((0, 0, 0), 12.0, 1), weights_only=True)
    trained.load_state_dict(checkpoint["model"])
    with torch.inference_mode():
        logits = trained.eval()(network_input(normalise(images, data.mean, data.deviation)))
    np.save(tmp_path / "images.npy", images.numpy())
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "mine"), "images.npy", "logits.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "logits.npz") as found:
        np.testing.assert_allclose(found["here"], logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(found["program"], logits.numpy(), atol=1e-4)
    about = json.loads((tmp_path / "mine" / "about.json").read_text())
    assert about["configuration"] == CONFIGURATION
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert about["metrics"]["validation_error"] == read_history(folder).results[0].loss


def test_what_cannot_be_exported_is_refused_with_what_there_is(folder: RunFolder, tmp_path: Path) -> None:
    history = read_history(folder)
    with pytest.raises(RunError, match="no result of any configuration on budget 4; it has results on 12"):
        choose(folder, history, 4.0, None)
    with pytest.raises(RunError, match="no result of configuration 1-0-0"):
        choose(folder, history, None, "1-0-0")
    with pytest.raises(RunError, match="three numbers"):
        choose(folder, history, None, "best")
    (tmp_path / "there.txt").write_text("mine")
    with pytest.raises(RunError, match="not an empty folder"):
        export(folder, tmp_path, None, None, print)


@pytest.mark.parametrize("whose", [None, (0, 0, 0)])
def test_the_weights_of_an_incumbent_and_of_a_front_are_found_where_the_run_keeps_them(
    folder: RunFolder, whose: tuple[int, int, int] | None
) -> None:
    own = folder.checkpoint((0, 0, 0), 12.0, 1)
    kept = folder.kept_weights(12.0, whose)
    folder.incumbents.mkdir(exist_ok=True)
    own.rename(kept)
    try:
        with pytest.raises(RunError, match="keeps the weights of each budget's best one"):
            choose(folder, read_history(folder), None, None)  # nothing says whose they are
        kept.with_suffix(".json").write_text(json.dumps({"config_id": "0-0-0"}))
        assert choose(folder, read_history(folder), None, None).checkpoint == kept
    finally:
        kept.rename(own)
        kept.with_suffix(".json").unlink(missing_ok=True)


def test_classes_are_called_as_their_folders(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert class_names(folder, 2) == ["0", "1"]
    folder.images.write_text(json.dumps({"classes": ["cats", "dogs"], "image_shape": [3, 8, 8]}))
    assert class_names(folder, 2) == ["cats", "dogs"]
