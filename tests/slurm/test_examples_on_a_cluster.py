"""Problems of the user's own on the cluster: every example, killed in the middle and resumed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.search.verify import verify
from tests.slurm.runs import CHECKOUT, Run, Shell

EXAMPLES = CHECKOUT / "examples"
# Two GPUs for a program that might use them (the cluster's are pretended); the others train on CPUs.
OWN: dict[str, dict[str, Any]] = {
    "command": {"slurm.gpus_per_worker": 2, "training.device": "auto"},
    "image_folder": {"search.max_budget": 1.2},
    "sequence": {"search.max_budget": 60},
    "tabular": {},
}


def submit(shell: Shell, example: str) -> Run:
    """One worker, one bracket: a run of seconds."""
    place = shell.home / example
    shutil.copytree(EXAMPLES / example, place)
    changes: dict[str, Any] = {
        "search.iterations": 1, "workers.count": 1, "workers.patience_s": 15, "slurm.cpus_per_worker": 1,
        "slurm.walltime_min": 10, "training.checkpoint_interval_s": 1, "data.root": shell.home / "data", **OWN[example],
    }  # fmt: skip
    if example == "image_folder":
        changes["data.source"] = make_images(place)
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    shell.tandem("submit-search", "-p", str(place / f"{example}.yaml"), *words)
    (made,) = {path.resolve().parent for path in shell.home.glob(f"results/{example}-*/settings.yaml")}
    return Run(shell, RunFolder(made))


def make_images(place: Path) -> Path:
    spec = importlib.util.spec_from_file_location("make_images", place / "make_images.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.main(place / "images", 40)
    return place / "images"


def test_every_example_goes_on_though_its_master_and_its_worker_were_killed(shell: Shell) -> None:
    runs = {example: submit(shell, example) for example in OWN}  # side by side
    before = {}
    for run in runs.values():
        run.wait(lambda r=run: r.results, "a result", 180)  # type: ignore[misc]
    shell.end_masters()
    for example, run in runs.items():
        shell.cluster.run("login", "scancel", "--signal=KILL", "--full", "-n", run.name, check=False)
        before[example] = run.results
    for run in runs.values():
        run.tandem("resume-search")
    for example, run in runs.items():
        run.wait_for_end(limit_s=300)
        run.assert_each_evaluation_has_one_result()
        assert run.results[: len(before[example])] == before[example]
        assert verify(run.folder) == []
    devices = {event["device"] for event in runs["command"].events("worker_joined")}
    assert devices == {"cuda 0,1"}, "a worker that asked for two GPUs sees both"
