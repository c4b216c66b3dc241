"""Problems of the user's own on the cluster: every example, killed in the middle and resumed."""

from __future__ import annotations

import runpy
import shutil
from typing import Any

from pipeline.search.verify import verify
from tests.slurm.runs import CHECKOUT, Run, Shell

# Of what an example says itself: enough evaluations that there is a middle, and few seconds of them.
OWN: dict[str, dict[str, Any]] = {
    # A worker with two GPUs (the cluster's are pretended), for a program that might use them.
    "command": {"search__iterations": 6, "slurm__gpus_per_worker": 2},
    "image_folder": {"search__max_budget": 1.2},
    "sequence": {"search__max_budget": 60},
    "tabular": {"search__iterations": 2},
}
FOR_ALL = {
    "search__iterations": 1, "workers__count": 1, "workers__patience_s": 15, "slurm__cpus_per_worker": 1,
    "slurm__mem_gb": 1, "slurm__walltime_min": 10,
}  # fmt: skip


def submitted(shell: Shell, example: str) -> Run:
    place = shell.home / example
    shutil.copytree(CHECKOUT / "examples" / example, place)
    changed = {**FOR_ALL, "data__root": shell.home / "data", **OWN[example]}
    if example == "image_folder":
        runpy.run_path(str(place / "make_images.py"))["main"](place / "images", 40)
        changed["data__source"] = place / "images"
    return shell.submit_file(place / f"{example}.yaml", **changed)


def kill(run: Run) -> None:
    """Kill the master and the worker once there is a result, in the middle of their search."""
    run.wait(lambda: run.results, "a result")
    assert run.status is not None
    run.shell.cluster.run("login", "kill", "-9", str(run.status.pid))
    run.shell.scancel("--signal=KILL", "--full", "-n", run.name)
    assert len(run.results) < run.status.planned


def test_every_example_goes_on_though_its_master_and_its_worker_were_killed(shell: Any) -> None:
    runs, before = {}, {}
    for example in OWN:
        runs[example] = submitted(shell, example)
        kill(runs[example])
        before[example] = runs[example].results
    for run in runs.values():  # side by side
        run.tandem("resume-search")
    for example, run in runs.items():
        run.wait_for_end()
        run.assert_each_evaluation_has_one_result()
        assert run.results[: len(before[example])] == before[example]
        assert verify(run.folder) == []
    devices = {event["device"] for event in runs["command"].events("worker_joined")}
    assert devices == {"cuda 0,1"}, "a worker that asked for two GPUs sees both"
