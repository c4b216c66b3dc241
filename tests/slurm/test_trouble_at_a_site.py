"""A site in disorder: a node that lacks a module, tasks on hold, a controller that is down."""

from typing import Any

from tests.slurm.hosts import wait_until
from tests.slurm.runs import LIMIT_S


def test_a_node_on_which_workers_end_before_they_join_is_named_with_its_last_words_and_left_out(shell: Any) -> None:
    setup = '["if [ $(hostname) = node1 ]; then echo module cuda: not found; exit 3; fi"]'
    run = shell.submit_at_gate(search__iterations=8, workers__count=4, workers__max_broken=2, slurm__setup=setup)
    run.wait_for_workers(4)
    assert set(run.training().values()) == {"node2", "node3"}
    reason = run.status.suspected_nodes["node1"]
    assert reason == "2 tasks ended there before a worker joined; the last one said: module cuda: not found"
    assert f"Node node1 is left out: {reason}" in run.tandem("status")
    run.tandem("stop-search")


def test_tasks_that_wait_say_why_and_ones_on_hold_are_replaced(shell: Any) -> None:
    shell.sbatch("--nodes=3", "--exclusive", "--time=5", "--wrap=sleep 300")
    run = shell.submit_at_gate()
    run.let_through()
    run.wait(lambda: len(run.queue()) == 2, "the workers to be in the queue")
    run.wait(lambda: "workers: 2 pending, 0 running (Resources)" in run.tandem("status"), "Slurm's reason")
    (array,) = {task.partition("_")[0] for task in run.queue()}
    shell.cluster.run("login", "scontrol", "hold", array)
    status = run.tandem("status")  # by now the master may have asked for others
    assert "0 running, 2 held (" in status
    assert "JobHeldAdmin" in status, "root holds as an administrator"
    shell.cluster.run("login", "scancel", "--name=wrap")
    run.wait_for_end()
    assert not {e["slurm_job_id"].partition("_")[0] for e in run.events("worker_joined")} & {array}


def test_stopping_a_run_needs_no_controller(shell: Any) -> None:
    run = shell.submit_at_gate()
    run.wait_for_workers(2)
    shell.cluster.run("login", "scontrol", "shutdown", "slurmctld")
    try:
        said = shell.tandem("stop-search", str(run.folder.path), check=False)
    finally:
        shell.cluster.run("login", "slurmctld")
    assert f"`scancel --name {run.name}`" in said
    assert "workers.where=local" not in said
    assert run.status.state == "stopped"
    assert not run.status.workers
    shell.cluster.run("login", "scancel", "--name", run.name)
    wait_until(lambda: "RUNNING" not in run.queue().values(), LIMIT_S, "the tasks to end")
