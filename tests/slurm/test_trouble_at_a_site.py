"""A site in disorder: a node that lacks a module or is full, tasks on hold, a controller that is down."""

import sys
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster
from tests.slurm.hosts import wait_until
from tests.slurm.runs import CHECKOUT, LIMIT_S


def fill_temporary_folder(cluster: Cluster, node: str) -> None:
    """Let nobody write into /tmp of a node any more; what the tests have there stays.

    It lasts until the node's next boot.
    """
    needed = [f for f in (cluster.state, CHECKOUT, Path(sys.prefix)) if f.resolve().is_relative_to("/tmp")]
    steps = [
        *(f"mkdir -p /dev/shm/kept{n}; mount --bind {folder} /dev/shm/kept{n}" for n, folder in enumerate(needed)),
        "mount -t tmpfs -o size=64k,mode=1777 tmpfs /tmp",
        *(f"mkdir -p {folder}; mount --bind /dev/shm/kept{n} {folder}" for n, folder in enumerate(needed)),
        "! cat /dev/zero > /tmp/all 2> /dev/null",
    ]
    cluster.run(node, "bash", "-ec", "; ".join(steps))


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
    shell.scancel("--name=wrap")
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
    shell.scancel("--name", run.name)
    wait_until(lambda: "RUNNING" not in run.queue().values(), LIMIT_S, "the tasks to end")


def test_a_node_whose_temporary_folder_is_full_trains_all_the_same(shell: Any) -> None:
    fill_temporary_folder(shell.cluster, "node1")
    proof = '["if echo > /tmp/more; then echo there is room; exit 3; fi"]'
    run = shell.submit(search__max_budget=1, workers__count=1, slurm__setup=proof, slurm__extra="{nodelist: node1}")
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()
    assert [(result.exception, result.info["host"]) for result in run.results] == [(None, "node1")]
    shell.cluster.power_off("node1")
