"""Training in processes of its own: killed, out of disk, compiled, on a small set in CIFAR-10's own format."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.run.folder import RunFolder
from pipeline.run.lineage import previous_path

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from pipeline.errors import BrokenError, CrashedError
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.training.data import load_data, prepare_data
from pipeline.training.train import train

class NoCurve:
    def begin(self, header, inherited): self.header = header
    def add(self, *rows): pass
    def end(self, end): pass

def main(order):
    settings = load_settings(order["preset"], order["settings"])
    Path(order["folder"]).mkdir(exist_ok=True)
    prepare_data(settings.data)
    data = load_data(settings.data, torch.device("cpu"))
    evaluation = Evaluation.from_plain(order["evaluation"])
    if limit := order.get("file_size"):
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    curve = NoCurve()
    try:
        result = train(evaluation, settings, RunFolder(Path(order["folder"])), data, curve, WorkerIdentity("w", "h"))
    except (BrokenError, CrashedError) as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {"loss": result.loss, "info": dict(result.info), "origin": curve.header.continued_from}

print(json.dumps(main(json.loads(sys.argv[1]))))
"""
CONFIGURATION = {
    "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1, "initial_filters": 8,
    "widen_factor_1": 1.0, "widen_factor_2": 1.0, "widen_factor_3": 1.0,
    "res_branches_1": 2, "res_branches_2": 1, "res_branches_3": 2,
    "learning_rate": 0.1, "batch_size": 64, "weight_decay": 1e-4, "momentum": 0.9, "mixup_alpha": 0.3,
    "cutout_length": 2, "death_rate": 0.2,
}  # fmt: skip


def order(
    folder: Path,
    root: Path,
    budget: float,
    attempt: int = 1,
    preset: str = "digits",
    settings: Sequence[str] = (),
    **more: object,
) -> dict[str, object]:
    fixed = [f"data.root={root}", "training.threads=1", "training.device=cpu", "search.budget_unit=batches"]
    evaluation = {"config_id": [0, 0, 0], "configuration": CONFIGURATION, "budget": budget, "attempt": attempt,
                  "seed": 3, "continues": None, "is_largest": True}  # fmt: skip
    settings = [*fixed, f"search.min_budget={budget}", f"search.max_budget={budget}", *settings]
    return {"preset": preset, "settings": settings, "folder": str(folder), "evaluation": evaluation, **more}


def start(order: dict[str, object]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(order)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=900)  # of a busy machine
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def wait_until(condition: Callable[[], object], limit_s: float = 600.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_training_killed_at_any_moment_goes_on_from_its_last_checkpoint_to_the_same_weights(tmp_path: Path) -> None:
    root, budget = tmp_path / "data", 120
    undisturbed = outcome(start(order(tmp_path / "whole", root, budget)))
    often = ["training.checkpoint_interval_s=0.01", "training.overhead_share=1"]
    folder = RunFolder(tmp_path / "killed")
    attempt = 0
    for attempt in range(1, 4):
        process = start(order(folder.path, root, budget, attempt, settings=often))
        wait_until(previous_path(folder.checkpoint((0, 0, 0), budget, attempt)).exists)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = outcome(start(order(folder.path, root, budget, attempt + 1, settings=often)))
    assert result["origin"].startswith("attempt ")
    assert result["loss"] == undisturbed["loss"]
    weights = [
        torch.load(f.checkpoint((0, 0, 0), budget, a), weights_only=True)["model"]
        for f, a in ((RunFolder(tmp_path / "whole"), 1), (folder, attempt + 1))
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_full_disk_breaks_the_attempt_with_the_files_name_and_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    result = outcome(start(order(tmp_path / "run", tmp_path / "data", 5, file_size=4096)))
    assert result["error"] == "BrokenError"
    assert "cannot write the checkpoint" in result["text"]
    assert "b5-a1.pt" in result["text"]
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def write_cifar10(root: Path, per_batch: int) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = rng.integers(0, 10, per_batch)
        images = rng.integers(0, 64, (per_batch, 3, 32, 32)) + 19 * labels[:, None, None, None]  # brightness tells
        content = {"data": images.reshape(per_batch, -1).astype(np.uint8), "labels": labels.tolist()}
        (folder / part).write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("preset", ["cifar10", "cifar10-fast"])
def test_the_papers_presets_train_on_a_directory_in_cifar10s_own_format(tmp_path: Path, preset: str) -> None:
    write_cifar10(tmp_path / "data", 80)
    result = outcome(start(order(tmp_path / "run", tmp_path / "data", 30, preset=preset)))
    assert result["info"]["batches"] == 30
    assert result["loss"] < 0.8  # chance is 0.9
    assert result["info"]["test_error"] < 0.8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
def test_compiled_training_is_charged_for_compiling_and_the_next_run_finds_it_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compiled = ["training.compile=true"]
    runs = [outcome(start(order(tmp_path / run, tmp_path / "data", 12, settings=compiled))) for run in ("one", "two")]
    compiled += ["search.budget_unit=seconds"]
    short = outcome(start(order(tmp_path / "short", tmp_path / "data", 1, settings=compiled)))
    first, second = (run["info"]["compile_s"] for run in runs)
    assert short["info"]["compile_s"] == 0  # its budget is too short to be worth it
    assert second < 0.7 * first
    cache = RunFolder(tmp_path / "one").compile_cache
    assert any(cache.iterdir())
    assert cache.stat().st_mode & 0o777 == 0o700
    assert runs[0]["info"]["training_s"] < first  # compiling is not training
