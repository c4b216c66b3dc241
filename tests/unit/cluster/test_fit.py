from typing import Any

import pytest

from pipeline.cluster.fit import what_is_missing
from pipeline.settings import validate_settings

ENOUGH = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_GPUS": "0",
    "SLURM_CPUS_PER_TASK": "4",
    "SLURM_CPUS_ON_NODE": "4",
    "SLURM_MEM_PER_NODE": "2048",
}


def missing(changes: Any, **settings: Any) -> Any:
    environment = {name: value for name, value in {**ENOUGH, **changes}.items() if value is not None}
    return what_is_missing(validate_settings({"slurm": {"mem_gb": 2}, **settings}), environment)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"SLURM_JOB_ID": None, "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_GPUS": None},
        {"SLURM_JOB_GPUS": None, "SLURM_GPUS_ON_NODE": "1"},
        {"SLURM_JOB_GPUS": None, "CUDA_VISIBLE_DEVICES": "0"},
        {"SLURM_MEM_PER_NODE": None, "SLURM_MEM_PER_CPU": "512"},
        {"SLURM_MEM_PER_NODE": "0"},
        {"SLURM_MEM_PER_NODE": None},
    ],
)
def test_an_allocation_that_fits_lacks_nothing(changes: Any) -> None:
    assert missing(changes) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SLURM_JOB_GPUS": None}, "a GPU"),
        ({"SLURM_JOB_GPUS": None, "CUDA_VISIBLE_DEVICES": "NoDevFiles", "SLURM_GPUS_ON_NODE": "0"}, "a GPU"),
        ({"SLURM_CPUS_PER_TASK": "1"}, "3 of 4 CPU cores"),
        ({"SLURM_CPUS_PER_TASK": None, "SLURM_CPUS_ON_NODE": "2"}, "2 of 4 CPU cores"),
        ({"SLURM_MEM_PER_NODE": "500", "SLURM_JOB_GPUS": None}, "a GPU and memory (500 MB of 2048 MB)"),
    ],
)
def test_what_an_allocation_lacks_is_named(changes: Any, said: Any) -> None:
    assert missing(changes) == said


def test_a_run_that_trains_on_cpus_needs_no_gpu() -> None:
    assert missing({"SLURM_JOB_GPUS": None}, training={"device": "cpu"}) == ""


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ({"SLURM_JOB_GPUS": "0,1"}, ""),
        ({"SLURM_GPUS_ON_NODE": "2"}, ""),
        ({}, "1 of 2 GPUs"),
        ({"SLURM_JOB_GPUS": None}, "2 of 2 GPUs"),
    ],
)
def test_a_worker_of_several_gpus_needs_them_all(has: Any, said: Any) -> None:
    own = {"command": ["train"], "space": {"x": [0.0, 1.0]}, "metric": {"name": "loss"}}
    assert missing(has, problem=own, slurm={"mem_gb": 2, "gpus_per_worker": 2}) == said
