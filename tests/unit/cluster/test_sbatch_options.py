from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.sbatch_options import (
    array_sizes,
    as_text,
    command_line,
    master_options,
    queued_at_once,
    warning_s,
    words,
    worker_arrays,
    worker_options,
)
from pipeline.errors import SettingsError, SiteError
from pipeline.launch.array_tasks import slurm_executor
from pipeline.settings import validate_settings


def settings(**slurm: Any) -> Any:
    return validate_settings({"slurm": slurm})


def test_every_request_of_a_site_becomes_an_option_of_sbatch() -> None:
    options = worker_options(
        settings(
            partition="gpu",
            account="ml",
            qos="high",
            walltime_min=90,
            cpus_per_worker=6,
            mem_gb=20.5,
            gpu_type="a100",
            constraint="nvlink",
            exclude=["node7", "node9"],
            extra={"reservation": "course", "exclusive": True, "oversubscribe": False},
        )
    )
    assert command_line(options) == [
        "--time=90",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=6",
        "--requeue",
        "--account=ml",
        "--partition=gpu",
        "--qos=high",
        "--mem=20992M",
        "--constraint=nvlink",
        "--exclude=node7,node9",
        "--gres=gpu:a100:1",
        "--reservation=course",
        "--exclusive",
    ]


def test_a_gpu_can_be_asked_for_in_the_ways_that_sites_accept() -> None:
    assert "--gres=gpu:1" in command_line(worker_options(settings()))
    assert "--gpus-per-task=1" in command_line(worker_options(settings(gpu_request="gpus-per-task")))
    typed = worker_options(settings(gpu_request="gpus-per-node", gpu_type="v100"))
    assert "--gpus-per-node=v100:1" in command_line(typed)
    assert "gpu" not in as_text(worker_options(settings(gpus_per_worker=0)))


def test_a_worker_asks_for_several_gpus_of_one_node_for_a_problem_of_ones_own() -> None:
    own = {"command": ["train"], "space": {"x": [0.0, 1.0]}, "metric": {"name": "loss"}}
    for how, option in (("gres", "--gres=gpu:4"), ("gpus-per-task", "--gpus-per-task=4")):
        of = validate_settings({"problem": own, "slurm": {"gpus_per_worker": 4, "gpu_request": how}})
        line = command_line(worker_options(of))
        assert option in line
        assert {"--nodes=1", "--ntasks=1"} <= set(line)


def test_a_sites_own_options_overrule_the_programs() -> None:
    assert worker_options(settings(cpus_per_worker=6, extra={"cpus-per-task": 2}))["cpus-per-task"] == 2
    assert "requeue" not in worker_options(settings(extra={"requeue": False}))
    with pytest.raises(SettingsError, match=r"slurm: extra.time: cannot be given here, use slurm.walltime_min"):
        validate_settings({"slurm": {"extra": {"time": "0-2"}}})


def test_an_option_that_is_left_out_is_left_out_of_srun_too(tmp_path: Path) -> None:
    options = worker_options(settings(extra={"cpus-per-task": False}))
    assert "cpus-per-task" not in options
    assert slurm_executor(tmp_path, "tandem-x", options, 1, []).parameters["srun_args"] is None


def test_options_for_a_shell_to_split_have_no_spaces_within() -> None:
    found = words(worker_options(settings(walltime_min=1, extra={"reservation": "course"}))).split()
    assert found[0] == "--signal=USR1@15", "in the last quarter of the job, and not at its start"
    assert found[-1] == "--reservation=course"
    with pytest.raises(SiteError, match=r"has a space, at which a shell splits it.*'--comment=two words'"):
        words(worker_options(settings(extra={"comment": "two words"})))


def test_an_array_that_is_too_large_is_split_and_its_parallelism_shared() -> None:
    assert array_sizes(10, 1001) == [10]
    assert array_sizes(10, 10) == [10]
    assert array_sizes(10, 4) == [4, 4, 2]
    assert array_sizes(3, 1) == [1, 1, 1]
    limited = settings(array_parallelism=5)
    assert [(size, options["array-parallelism"]) for size, options in worker_arrays(limited, 10, 4)] == [
        (4, 1), (4, 2), (2, 2),
    ]  # fmt: skip
    assert all("array-parallelism" not in options for _, options in worker_arrays(settings(), 10, 4))


@given(st.integers(1, 100), st.integers(1, 12), st.integers(1, 120))
def test_no_more_workers_run_at_once_than_the_limit_however_split(count: int, largest: int, limit: int) -> None:
    limited = settings(array_parallelism=limit)
    queued = queued_at_once(limited, count, largest)
    assert queued == count or queued >= limit, "nobody waits who could run"
    arrays = worker_arrays(limited, queued, largest)
    assert sum(size for size, _ in arrays) == queued
    shares = [min(size, int(options["array-parallelism"])) for size, options in arrays]
    assert min(shares) >= 1, "Slurm takes no array of which none may run"
    assert sum(shares) == min(limit, queued)


def test_slurm_warns_after_the_workers_own_margin_and_never_in_the_first_half_of_a_job() -> None:
    assert warning_s(240, 60) == 30
    assert warning_s(1440, 600) == 60
    assert warning_s(1, 60) == 15


def test_a_master_that_is_a_job_takes_no_gpu_and_not_the_quality_of_service_of_another_partition() -> None:
    wanted = {"partition": "gpu", "qos": "gpu-high", "account": "ml", "master": "slurm"}
    same = master_options(settings(**wanted))
    assert same["partition"] == "gpu"
    assert same["qos"] == "gpu-high"
    other = master_options(settings(**wanted, master_partition="cpu"))
    assert other["partition"] == "cpu"
    assert other["account"] == "ml"
    assert "qos" not in other
    assert "gpu" not in as_text(other)
