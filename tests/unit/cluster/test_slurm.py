from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.errors import SiteError
from pipeline.run.creation import create_run
from pipeline.run.identity import run_label
from pipeline.settings import validate_settings
from pipeline.worker.process import run_to_join


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30:00", 30),
        ("00:10:00", 10),
        ("1-00:00:00", 1440),
        ("1-02:30", 1590),
        ("2-0", 2880),
        ("90", 90),
        ("0:30", 0.5),
    ],
)
def test_a_time_limit_is_read_in_every_form_that_slurm_writes(text: Any, minutes: Any) -> None:
    assert slurm.parse_minutes(text) == minutes


def test_no_limit_is_none() -> None:
    assert slurm.parse_minutes("UNLIMITED") is None
    assert slurm.parse_minutes("infinite") is None


def answers(monkeypatch: pytest.MonkeyPatch, output: Any) -> Any:
    asked = []

    def run_command(*command: Any, timeout_s: float = 0.0) -> Any:
        asked.append(command)
        return output

    monkeypatch.setattr(slurm, "run_command", run_command)
    return asked


def test_tasks_are_read_by_state_with_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(
        monkeypatch,
        "12_0|tandem-a|RUNNING|1:02|node1|None\n12_1|tandem-a|PENDING|0:00||Resources\n"
        "12_2|tandem-a|PENDING|0:00||BeginTime\n12_3|tandem-a|COMPLETING|59:58|node2|None\n"
        "12_4|tandem-a|COMPLETING|0:00|node2|None\n13|tandem-a|PENDING|0:00||launch failed requeued held\n",
    )
    tasks = slurm.tasks(["tandem-a"])
    assert len(asked) == 1
    assert [t.job_id for t in tasks if t.is_running] == ["12_0"]
    assert [t.job_id for t in tasks if t.is_pending] == ["12_1", "12_2", "12_4"]
    assert [t.job_id for t in tasks if t.waits_after_requeue] == ["12_2"]
    assert [t.job_id for t in tasks if t.is_held] == ["13"]
    assert [t.node for t in tasks] == ["node1", "", "", "node2", "node2", ""]


def test_partitions_and_nodes_are_read_as_slurm_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(
        monkeypatch,
        "PartitionName=gpu AllowGroups=ALL AllowAccounts=ml,bio Default=YES MaxTime=1-00:00:00 State=UP\n"
        "PartitionName=cpu AllowGroups=ALL AllowAccounts=ALL Default=NO MaxTime=UNLIMITED State=DRAIN\n",
    )
    gpu, cpu = slurm.partitions()
    assert (gpu.name, gpu.is_default, gpu.is_up, gpu.max_time_min, gpu.accounts) == (
        "gpu",
        True,
        True,
        1440,
        ("ml", "bio"),
    )
    assert (cpu.name, cpu.is_default, cpu.is_up, cpu.max_time_min, cpu.accounts) == ("cpu", False, False, None, ())
    answers(monkeypatch, "gpu|node1|10.0.0.11|gpu:a100:4(S:0-1),shard:8|64|515000+\ncpu|node9|node9|(null)|32|64000\n")
    first, second = slurm.nodes()
    assert (first.gpus(), first.gpus("a100"), first.gpus("v100"), first.memory_mb) == (4, 4, 0, 515000)
    assert second.gpus() == 0


def test_a_job_submitted_from_a_job_does_not_inherit_what_describes_that_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "cpu")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SLURM_CONF", "/etc/elsewhere/slurm.conf")
    environment = slurm.job_environment()
    assert "SLURM_JOB_ID" not in environment
    assert "SBATCH_PARTITION" not in environment
    assert "SQUEUE_FORMAT" not in environment
    assert environment["SLURM_CONF"] == "/etc/elsewhere/slurm.conf"


def test_a_persons_own_options_do_not_change_what_is_read_from_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_FORMAT", "SQUEUE_STATES", "SLURM_TIME_FORMAT", "SINFO_FORMAT", "SCANCEL_INTERACTIVE"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("SLURM_CONF", "/etc/elsewhere/slurm.conf")
    seen = slurm.run_command("sh", "-c", "env")
    assert "relative" not in seen
    assert "SLURM_CONF=/etc/elsewhere/slurm.conf" in seen


def test_a_failing_command_is_told_with_what_it_said() -> None:
    with pytest.raises(SiteError, match="no-such-slurm-command"):
        slurm.run_command("no-such-slurm-command")
    with pytest.raises(SiteError, match=r"`sh -c echo sorry >&2; exit 1` failed: sorry"):
        slurm.run_command("sh", "-c", "echo sorry >&2; exit 1")


def test_slurms_commands_without_a_cluster_are_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "scontrol"):
        script = commands / name
        script.write_text("#!/bin/sh\necho 'scontrol: fatal: Could not establish a configuration source' >&2\nexit 1\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    assert slurm.has_slurm.__wrapped__() is False


def test_a_cluster_that_does_not_answer_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "scontrol"):
        script = commands / name
        script.write_text(
            "#!/bin/sh\necho 'slurm_load_ctl_conf error: Unable to connection slurm controller' >&2\nexit 1\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    with pytest.raises(SiteError, match=r"Unable to connection slurm controller.*try again"):
        slurm.has_slurm.__wrapped__()


ARRAY_TASK = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "9"}


def test_the_task_of_an_array_whose_id_is_the_arrays_renames_and_requeues_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answers(monkeypatch, "")
    for name, value in ARRAY_TASK.items():
        monkeypatch.setenv(name, value)
    slurm.take_workers_name("a")
    slurm.requeue_this_job()
    assert asked == [("scontrol", "update", "JobId=12_9", "JobName=tandem-a"), ("scontrol", "requeue", "12_9")]


@pytest.mark.parametrize(("calls_down", "is_preempted"), [(2, True), (1000, False)])
def test_a_controller_that_does_not_answer_at_once_is_asked_again_whether_this_job_is_preempted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls_down: int, is_preempted: bool
) -> None:
    script, asked = tmp_path / "scontrol", tmp_path / "asked"
    script.write_text(
        f"#!/bin/sh\necho >> {asked}\n"
        f"[ $(wc -l < {asked}) -le {calls_down} ] && echo 'Socket timed out' >&2 && exit 1\n"
        "echo 'JobId=7 JobState=RUNNING PreemptTime=2026-11-26T11:04:30'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "LAST_PAUSE_S", 0.05)
    monkeypatch.setattr(slurm, "LAST_ANSWER_S", 600.0 if is_preempted else 0.5)
    assert slurm.this_job_is_preempted() is is_preempted
    assert len(asked.read_text()) > 2 or not is_preempted


def test_off_slurm_nothing_is_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "")
    for name in ARRAY_TASK:
        monkeypatch.delenv(name, raising=False)
    slurm.requeue_this_job()
    assert asked == []


def test_a_requeued_worker_stays_with_its_run_when_another_is_the_latest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, latest = (create_run(validate_settings({"name": name}), tmp_path) for name in ("first", "latest"))
    answers(monkeypatch, f"tandem-{run_label(first)}\n")
    for name, value in ARRAY_TASK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert run_to_join(tmp_path, None) == latest
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_to_join(tmp_path, None) == first
    assert run_to_join(tmp_path, latest.run_id) == latest
    answers(monkeypatch, "tandem-worker\n")  # requeued before it had joined any
    assert run_to_join(tmp_path, None) == latest
