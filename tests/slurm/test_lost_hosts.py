"""Nodes, networks, tasks and login hosts fail in mid-search; every evaluation gets its one result all the same."""

from tests.slurm.hosts import wait_until
from tests.slurm.runs import Shell

# Long enough to be interrupted in, short enough to be repeated: some seconds of the smallest networks.
LONG = {
    "search__method": "random",
    "search__budget_unit": "seconds",
    "search__min_budget": 12,
    "search__max_budget": 12,
}
# One worker on each node.
SPREAD = {"slurm__cpus_per_worker": 3}


def test_a_task_that_an_administrator_requeues_hands_back_and_comes_again(shell: Shell) -> None:
    run = shell.submit(**LONG, search__iterations=3)
    run.wait_for_workers(2)
    task = run.events("worker_joined")[0]["slurm_job_id"]
    shell.cluster.run("login", "scontrol", "requeue", task)
    run.wait(lambda: [e for e in run.events("returned") if e["outcome"] == "handed_back"], "a hand-back")
    run.wait_for_end(limit_s=180)
    run.assert_each_evaluation_has_one_result()


def test_cancelled_tasks_hand_back_and_are_replaced(shell: Shell) -> None:
    run = shell.submit(**LONG, search__iterations=4)
    run.wait_for_workers(2)
    first = {event["slurm_job_id"] for event in run.events("worker_joined")}
    array = first.pop().partition("_")[0]
    shell.cluster.run("login", "scancel", f"{array}_0")
    run.wait(
        lambda: any(
            e["slurm_job_id"].startswith(f"{array}_0") is False and e["slurm_job_id"].partition("_")[0] != array
            for e in run.events("worker_joined")
        ),
        "a replacement for the task",
    )
    shell.cluster.run("login", "scancel", array)
    run.wait_for_end(limit_s=180)
    run.assert_each_evaluation_has_one_result()
    assert {e["outcome"] for e in run.events("returned")} == {"finished", "handed_back"}


def test_a_node_that_loses_power_loses_no_evaluation(shell: Shell) -> None:
    run = shell.submit(**LONG, **SPREAD, search__iterations=4, workers__count=3, workers__patience_s=6)
    run.wait_for_workers(3)
    shell.cluster.power_off("node2")
    run.wait(lambda: [e for e in run.events("returned") if e["outcome"] == "lost"], "the loss to be noticed", 60)
    run.wait_for_end(limit_s=180)
    run.assert_each_evaluation_has_one_result()
    assert not [r for r in run.results if r.exception is not None], "the machine's fault is not the configuration's"
    assert run.status.lost >= 1


def test_a_node_that_was_unplugged_comes_back_with_its_old_worker_and_spoils_nothing(shell: Shell) -> None:
    run = shell.submit(**LONG, **SPREAD, search__iterations=5, workers__count=3, workers__patience_s=6)
    run.wait_for_workers(3)
    shell.cluster.unplug("node2")
    run.wait(lambda: [e for e in run.events("returned") if e["outcome"] == "lost"], "the loss to be noticed", 60)
    lost = next(e for e in run.events("returned") if e["outcome"] == "lost")
    run.wait(
        lambda: any(
            e["config_id"] == lost["config_id"] and e["attempt"] == lost["attempt"] + 1
            for e in run.events("dispatched")
        ),
        "another worker to take it over",
        60,
    )
    shell.cluster.plug("node2")
    run.wait_for_end(limit_s=180)
    run.assert_each_evaluation_has_one_result()
    assert not [r for r in run.results if r.exception is not None]


def test_the_login_host_reboots_and_resume_search_continues(shell: Shell) -> None:
    run = shell.submit(**LONG, search__iterations=5)
    run.wait_for_workers(2)
    run.wait(lambda: len(run.results) >= 1, "a first result")
    workers = set(run.training())
    shell.cluster.power_off("login")
    before = {(r.config_id, r.budget) for r in run.results}
    shell.cluster.boot("login")
    run.tandem("resume-search")
    assert run.status.term == 2
    run.wait_for_end(limit_s=180)
    run.assert_each_evaluation_has_one_result()
    assert {(r.config_id, r.budget) for r in run.results} >= before
    returned = {e["worker"] for e in run.events("returned") if e["outcome"] == "finished"}
    assert workers & returned, "workers that lived on went on working"
    wait_until(lambda: not run.queue(), 30, "the tasks to be gone")
