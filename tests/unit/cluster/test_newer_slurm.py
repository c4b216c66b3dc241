"""What Slurm 24.11.5 of Debian 13 prints, captured on a cluster of one node (long lines cut), is understood as well."""

import pytest

from pipeline.cluster import slurm

PARTITIONS = """\
PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=NONE \
DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=20 Hidden=NO MaxNodes=UNLIMITED MaxTime=01:00:00 \
MinNodes=0 LLN=NO State=UP TotalCPUs=2 TotalNodes=1
PartitionName=urgent AllowGroups=ALL AllowAccounts=ml,bio AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A \
DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED \
MaxTime=01:00:00 MinNodes=0 LLN=NO State=UP TotalCPUs=2 TotalNodes=1
"""
NODES = "gpu|node1|10.9.0.1|gpu:a100:2|2|8000\nurgent|node1|10.9.0.1|gpu:a100:2|2|8000\n"
CONFIG = """\
KillWait                = 5 sec
MaxArraySize            = 1001
MinJobAge               = 300 sec
PreemptMode             = REQUEUE
SLURM_VERSION           = 24.11.5
"""
DOWN = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
QUEUE = f"""\
1_1|tandem-run|PENDING|0:00||{DOWN}
1_3|tandem-run|PENDING|0:00||JobHeldAdmin
1_0|tandem-run|PENDING|0:00||BeginTime
1_2|tandem-run|RUNNING|0:24|node1|None
1_4|tandem-run|FAILED|0:01|node1|NonZeroExitCode
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        ("scontrol", "partition"): PARTITIONS,
        ("scontrol", "config"): CONFIG,
        ("sinfo", "%R|%N|%o|%G|%c|%m"): NODES,
        ("squeue", "%i|%j|%T|%M|%N|%r"): QUEUE,
    }
    monkeypatch.setattr(slurm, "run_command", lambda *command: answers[command[0], command[-1]])


@pytest.mark.usefixtures("said")
def test_partitions_nodes_and_the_configuration() -> None:
    gpu, urgent = slurm.partitions()
    assert (gpu.name, gpu.is_default, gpu.is_up, gpu.max_time_min, gpu.accounts) == ("gpu", True, True, 60, ())
    assert (urgent.is_default, urgent.accounts) == (False, ("ml", "bio"))
    assert [(node.partition, node.gpus("a100"), node.cpus, node.memory_mb) for node in slurm.nodes()] == [
        ("gpu", 2, 2, 8000),
        ("urgent", 2, 2, 8000),
    ]
    assert slurm.max_array_size() == 1001


@pytest.mark.usefixtures("said")
def test_tasks_that_wait_run_have_ended_were_requeued_and_are_on_hold() -> None:
    waiting, held, requeued, running, failed = slurm.tasks(["tandem-run"], with_ended=True)
    assert (waiting.is_pending, waiting.is_held, waiting.waits_for) == (True, False, DOWN)
    assert (held.is_pending, held.is_held, held.waits_for) == (False, True, "JobHeldAdmin")
    assert (requeued.is_pending, requeued.waits_after_requeue) == (True, True)
    assert (running.is_running, running.minutes, running.node) == (True, 0.4, "node1")
    assert (failed.is_pending, failed.is_running, failed.state) == (False, False, "FAILED")
