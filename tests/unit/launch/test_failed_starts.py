"""Tasks that end before their workers join."""

from typing import Any

import pytest

from pipeline.cluster.slurm import Task
from pipeline.launch.failed_starts import FailedStarts, last_words


def ended(*jobs: Any, node: Any = "node1", state: Any = "FAILED") -> Any:
    return [Task(job, "tandem-x", state, "0:02", "NonZeroExitCode", node) for job in jobs]


@pytest.fixture
def starts() -> Any:
    made = FailedStarts(limit=2)
    made.submitted([f"1_{index}" for index in range(8)])
    return made


def write_log(run: Any, job: Any, text: Any) -> None:
    run.jobs.mkdir(exist_ok=True)
    (run.jobs / f"{job}_0_log.out").write_text(text)


def test_a_task_that_ended_before_it_joined_is_told_with_its_last_line(run: Any, starts: Any, journal: Any) -> None:
    write_log(run, "1_0", "Traceback\nModuleNotFoundError: No module named 'x'\nsrun: error: node1: Exited\n")
    starts.look(run, ended("1_0"))
    assert starts.problem.startswith("1 task ended on node1 before a worker joined. The last one said: ModuleNotFound")
    assert str(run.jobs / "1_0_0_log.out") in starts.problem
    assert not starts.failing_nodes


def test_a_node_fails_once_the_limit_is_reached_and_workers_of_another_have_joined(
    run: Any, starts: Any, journal: Any
) -> None:
    starts.look(run, ended("1_0", "1_1"))
    assert not starts.failing_nodes, "nothing says yet that it is this node's fault"
    journal(("1_2", "node2"))
    starts.look(run, [])
    assert starts.failing_nodes.keys() == {"node1"}
    assert starts.problem == "", "what is left out is said of the node"


def test_a_worker_that_joins_clears_its_node(run: Any, starts: Any, journal: Any) -> None:
    journal(("1_2", "node2"))
    starts.look(run, ended("1_0", "1_1"))
    journal(("1_3", "node1"))
    starts.look(run, ended("1_0", "1_1"))
    assert not starts.failing_nodes
    assert starts.problem == ""


def test_a_worker_that_had_joined_and_tasks_that_somebody_ended_do_not_count(
    run: Any, starts: Any, journal: Any
) -> None:
    journal(("1_0", "node1"))
    starts.look(run, ended("1_0"))
    for state in ("CANCELLED", "PREEMPTED", "NODE_FAIL", "RUNNING", "PENDING"):
        starts.look(run, ended("1_1", "1_2", "1_3", state=state))
    starts.look(run, ended("9_9"))  # of an earlier master
    assert starts.problem == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "slurmstepd: error: execve(): no file\nsrun: error: Exited\n",
            "slurmstepd: error: execve",
        ),
        ("srun: error: Unable to create step\n\n", "srun: error: Unable to create step"),
        ("", "nothing: its log is empty"),
    ],
)
def test_last_words_are_the_tasks_own_rather_than_sruns(run: Any, text: Any, said: Any) -> None:
    write_log(run, "1_0", text)
    assert last_words(run, "1_0").startswith(said)
    assert last_words(run, "1_1").startswith("nothing: it has no log")
