from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import site, slurm
from pipeline.errors import SiteError
from pipeline.settings import validate_settings

PARTITIONS = [
    slurm.Partition("gpu", is_default=True, is_up=True, max_time_min=60, accounts=("ml",)),
    slurm.Partition("cpu", is_default=False, is_up=True, max_time_min=None, accounts=()),
    slurm.Partition("old", is_default=False, is_up=False, max_time_min=None, accounts=()),
]
NODES = [
    slurm.Node("gpu", "node1", "10.0.0.11", "gpu:a100:4", cpus=64, memory_mb=500_000),
    slurm.Node("cpu", "node9", "10.0.0.19", "(null)", cpus=32, memory_mb=64_000),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that says what the constants above say; tests/slurm asks a real one."""
    monkeypatch.setattr(slurm, "partitions", lambda: PARTITIONS)
    monkeypatch.setattr(slurm, "nodes", lambda: NODES)
    monkeypatch.setattr(slurm, "max_array_size", lambda: 1001)
    monkeypatch.setattr(slurm, "configuration", lambda: {"AccountingStorageEnforce": "associations,limits"})
    monkeypatch.setattr(slurm, "run_command", lambda *command: "ml\nbio\n")
    monkeypatch.setattr(site, "_check_whole", lambda settings: None)
    monkeypatch.setattr(site, "address_towards_nodes", lambda settings: "10.0.0.1")
    monkeypatch.setattr(site, "logout_warning", lambda: None)


def check(**slurm_settings: Any) -> Any:
    """The warnings; /proc is on no disk of one machine."""
    settings = validate_settings({"slurm": {"walltime_min": 60, **slurm_settings}, "data": {"root": "/proc"}})
    return site.check_site(settings, Path("/proc"))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"partition": "gpu", "account": "ml", "gpu_type": "a100"},
        {"partition": "cpu", "gpus_per_worker": 0, "walltime_min": 100_000},
    ],
)
def test_a_request_that_the_site_allows_passes_without_a_warning(cluster: Any, asked: Any) -> None:
    assert check(**asked) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"partition": "gpus"}, "there is no partition 'gpus'. Partitions: gpu, cpu, old."),
        ({"partition": "old"}, "partition old is not up. Partitions that are: gpu, cpu."),
        ({"walltime_min": 61}, "61 min is more than partition gpu allows (60 min)"),
        ({"walltime_min": 1}, "lower workers.handback_margin_s to 15 or less"),
        ({"account": "nobody"}, "'nobody' is not one you may charge. Accounts: bio, ml."),
        ({"account": "bio"}, "partition gpu does not take account 'bio'. It takes: ml."),
        ({"partition": "cpu"}, "no node of partition cpu has a GPU (it has no GPUs). Partitions with one: gpu."),
        ({"gpu_type": "h100"}, "has a GPU of type 'h100' (it has gpu:a100:4)"),
        ({"master": "slurm", "master_partition": "big"}, "slurm.master_partition: there is no partition 'big'"),
        ({"master": "slurm", "master_partition": "old"}, "slurm.master_partition: partition old is not up"),
        ({"master": "slurm"}, "slurm.master_walltime_min: 1440 min is more than partition gpu allows (60 min)"),
        (
            {"partition": "cpu", "gpus_per_worker": 0, "master": "slurm", "master_partition": "gpu"}
            | {"master_walltime_min": 60, "account": "bio"},
            "partition gpu does not take account 'bio'. It takes: ml.",
        ),
    ],
)
def test_what_the_site_cannot_do_is_refused_with_what_it_can(cluster: Any, asked: Any, said: Any) -> None:
    with pytest.raises(SiteError) as error:
        check(**asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_account_that_slurm_charges_by_default_is_checked_as_one_that_is_named(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "run_command", lambda *command: {"sacctmgr": "bio\n"}[command[0]])
    with pytest.raises(SiteError, match="partition gpu does not take account 'bio'"):
        check()


def test_training_on_gpus_without_asking_for_one_is_refused(cluster: Any) -> None:
    settings = validate_settings({"slurm": {"walltime_min": 60, "gpus_per_worker": 0}, "training": {"device": "cuda"}})
    with pytest.raises(SiteError, match=r"training\.device is cuda, and slurm\.gpus_per_worker=0"):
        site.check_site(settings, Path("/proc"))


def test_a_site_without_a_default_partition_asks_for_one(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "partitions", lambda: PARTITIONS[1:])
    with pytest.raises(SiteError, match=r"no default partition; set slurm\.partition"):
        check()


def described(workers: Any = 10, **slurm_settings: Any) -> Any:
    return site.describe_request(validate_settings({"workers": {"count": workers}, "slurm": slurm_settings}))


def test_the_request_is_described_in_words_and_as_the_command_that_it_becomes(cluster: Any) -> None:
    text = described(partition="gpu", master="slurm", array_parallelism=2)
    assert "10 workers as a Slurm array, each with a GPU, 4 CPU cores and 4 h: sbatch --array=0-9%2 --signal=" in text
    assert "--partition=gpu --gres=gpu:1" in text
    assert "The master as a job of its own: sbatch --signal=USR2@60 --time=1440" in text
    assert "--array" not in described(workers=1), "submitit makes no array of one task"
    assert described(workers=0) == "No workers are asked for (workers.count=0)."


def test_arrays_that_slurm_does_not_take_whole_are_described_as_they_are_split(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "max_array_size", lambda: 4)
    assert "sbatch --array=0-3%4" in described()
    assert "(and 2 more arrays: Slurm takes 4 tasks in one)" in described()
    fewer = described(array_parallelism=2)
    assert fewer.startswith("8 workers as a Slurm array")
    assert "sbatch --array=0-3%1" in fewer
    assert "(and 1 more arrays" in fewer
    assert "Not 10: slurm.array_parallelism lets 2 run at once, and Slurm one of each array at least" in fewer


def test_the_file_system_of_a_path_is_the_innermost_mounts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\ntmpfs /home/tmp tmpfs rw 0 0\n"
        "server:/my\\040data /my\\040data lustre rw 0 0\n"
    )
    assert site.file_system(Path("/opt/results"), mounts) == "ext4"
    assert site.file_system(Path("/home/ada/results"), mounts) == "nfs4"
    assert site.file_system(Path("/home/tmp/x"), mounts) == "tmpfs"
    assert site.file_system(Path("/my data/results"), mounts) == "lustre"
    assert site.file_system(Path("/opt"), tmp_path / "missing") is None


def test_a_run_folder_on_a_disk_of_one_machine_is_warned_about(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = validate_settings({"slurm": {"walltime_min": 60}, "data": {"root": "/shared/data"}})
    kinds = {Path("/tmp/results"): "ext4", Path("/shared/results"): "nfs4", Path("/shared/data"): "nfs4"}
    monkeypatch.setattr(site, "file_system", lambda path: kinds[path])
    assert site.check_site(settings, Path("/shared/results")) == []
    (warning,) = site.check_site(settings, Path("/tmp/results"))
    assert "/tmp/results is on a ext4 file system" in warning


@pytest.mark.parametrize(
    ("properties", "killed"),
    [
        (["KillUserProcesses=no"], False),
        (["KillUserProcesses=yes", "KillOnlyUsers=", "KillExcludeUsers=root"], True),
        (["KillUserProcesses=yes", "KillOnlyUsers=guest", "KillExcludeUsers="], False),
        (["KillUserProcesses=yes", "KillOnlyUsers=ada guest", "KillExcludeUsers="], True),
        (["KillUserProcesses=yes", "KillExcludeUsers=root ada"], False),
        ([], False),
    ],
)
def test_whether_logging_out_ends_the_master_is_told_from_logind(properties: Any, killed: Any) -> None:
    assert site.kills_at_logout(properties, "ada") is killed


def test_logind_is_asked_for_each_property_by_an_option_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd 252's loginctl answers: to a list of names it prints nothing."""
    loginctl = tmp_path / "loginctl"
    loginctl.write_text(
        "#!/bin/sh\nfor option; do\n"
        '  case "$option" in --property=KillUserProcesses) echo KillUserProcesses=yes;; esac\ndone\n'
    )
    loginctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    warning = site.logout_warning()
    assert warning is not None
    assert "MASTER=slurm" in warning
