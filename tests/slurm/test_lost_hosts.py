"""Nodes, networks, tasks and login hosts fail in mid-search; every evaluation gets its one result all the same."""

import time

from tests.slurm.hosts import wait_until
from tests.slurm.runs import LIMIT_S, Run, Shell

# One worker on each node.
SPREAD = {"slurm__cpus_per_worker": 3}
# slurmctld writes what changed after 5 s at the latest.
SLURM_SAVES_WITHIN_S = 8


def wait_for_a_loss(run: Run) -> dict:
    run.wait(lambda: [e for e in run.events("returned") if e["outcome"] == "lost"], "the loss to be noticed")
    return next(e for e in run.events("returned") if e["outcome"] == "lost")


def end_well(run: Run) -> None:
    run.let_through()
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()
    assert not [r for r in run.results if r.exception is not None], "the machine's fault is not the configuration's"


def test_a_task_that_an_administrator_requeues_hands_back_and_comes_again(shell: Shell) -> None:
    run = shell.submit_at_gate(search__iterations=3)
    run.wait_for_workers(2)
    task = run.events("worker_joined")[0]["slurm_job_id"]
    shell.cluster.run("login", "scontrol", "requeue", task)
    run.wait(lambda: [e for e in run.events("returned") if e["outcome"] == "handed_back"], "a hand-back")

    def is_back() -> bool:
        shell.hasten_requeued(run.name)
        return sum(e["slurm_job_id"] == task for e in run.events("worker_joined")) == 2

    run.wait(is_back, "the task to join again")
    end_well(run)


def test_cancelled_tasks_hand_back_and_are_replaced(shell: Shell) -> None:
    run = shell.submit_at_gate(search__iterations=4)
    run.wait_for_workers(2)
    array = run.events("worker_joined")[0]["slurm_job_id"].partition("_")[0]

    def is_replaced() -> bool:
        return any(e["slurm_job_id"].partition("_")[0] != array for e in run.events("worker_joined"))

    shell.scancel(f"{array}_0")
    run.wait(is_replaced, "a replacement for the task")
    shell.scancel(array)
    end_well(run)
    assert {e["outcome"] for e in run.events("returned")} == {"finished", "handed_back"}


def test_a_node_that_loses_power_loses_no_evaluation(shell: Shell) -> None:
    run = shell.submit_at_gate(**SPREAD, search__iterations=4, workers__count=3, workers__patience_s=6)
    run.wait_for_workers(3)
    shell.cluster.power_off("node2")
    wait_for_a_loss(run)
    end_well(run)
    assert run.status.lost >= 1


def test_a_node_that_was_unplugged_comes_back_with_its_old_worker_and_spoils_nothing(shell: Shell) -> None:
    run = shell.submit_at_gate(**SPREAD, search__iterations=5, workers__patience_s=6)  # two workers: a node is free
    run.wait_for_workers(2)
    node = run.events("worker_joined")[0]["host"]
    shell.cluster.unplug(node)
    lost = wait_for_a_loss(run)
    run.wait(
        lambda: any(
            e["config_id"] == lost["config_id"] and e["attempt"] == lost["attempt"] + 1
            for e in run.events("dispatched")
        ),
        "another worker to take it over",
    )
    shell.cluster.plug(node)
    end_well(run)


def test_the_login_host_reboots_and_resume_search_continues(shell: Shell) -> None:
    run = shell.submit_at_gate(search__iterations=5, workers__patience_s=120)  # a busy machine boots slowly
    run.wait_for_workers(2)
    run.let_through(1)
    run.wait(lambda: len(run.results) >= 1 and len(run.training()) == 2, "a first result")
    workers = set(run.training())
    time.sleep(SLURM_SAVES_WITHIN_S)  # jobs that the controller had not saved end with it
    shell.cluster.power_off("login")
    before = {(r.config_id, r.budget) for r in run.results}
    shell.cluster.boot("login")
    run.tandem("resume-search")
    assert run.status.term == 2
    end_well(run)
    assert {(r.config_id, r.budget) for r in run.results} >= before
    resumed = run.events("master_started")[-1]["time"]
    returned = {e["worker"] for e in run.events("returned") if e["outcome"] == "finished" and e["time"] > resumed}
    assert workers <= returned, "workers that lived on went on working"
    wait_until(lambda: not run.queue(), LIMIT_S, "the tasks to be gone")
