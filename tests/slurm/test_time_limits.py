"""Budgets longer than a time limit: work is handed on, and its seconds add up."""

from collections import defaultdict
from typing import Any

import pytest

from pipeline.run.folder import RunFolder
from pipeline.storage.curves import read_attempt
from tests.slurm.runs import Run

# A minute is Slurm's shortest limit, and a quarter of it the workers' margin: this budget takes two allocations.
BUDGET_S = 50.0


def trained_here_s(folder: RunFolder) -> dict[tuple, list[float]]:
    """Seconds that each attempt trained itself, by evaluation, in the order of the attempts."""
    trained = defaultdict(list)
    for path in sorted(folder.attempts.rglob("*.h5"), key=folder.parse_attempt):
        config_id, budget, number = folder.parse_attempt(path)
        header, rows, _ = read_attempt(path)
        own = rows["training_s"][rows["attempt"] == number]
        if own.size:
            trained[config_id, budget].append(float(own.max()) - header.inherited_training_s)
    return trained


def test_evaluations_and_a_master_that_last_longer_than_their_limits_are_handed_on(shell: Any) -> None:
    """Two runs side by side: a minute is Slurm's shortest limit, and both wait for it."""
    limited_master = submit_with_a_limited_master(shell)
    run, by_hand = train_for_longer_than_the_limit(shell)
    check_that_tasks_requeued_themselves(shell, run, by_hand)
    check_that_seconds_add_up(run)
    check_that_the_master_goes_on(shell, limited_master)


def train_for_longer_than_the_limit(shell: Any) -> tuple[Run, str]:
    """A run that has ended, of two evaluations by an array task and a worker by hand; and the latter's job."""
    run = shell.submit(
        search__method="random",
        search__budget_unit="seconds",
        search__min_budget=BUDGET_S,
        search__max_budget=BUDGET_S,
        search__iterations=2,
        workers__count=1,
        workers__handback_margin_s=20,
        slurm__walltime_min=1,
    )
    options = (*run.worker_options(), "--output=/dev/null")  # before there is a worker, whose minute would run
    run.wait_for_workers(1)
    by_hand = shell.sbatch(*options, "slurm/worker.sh", str(run.folder.path))
    run.wait_for_workers(2)
    run.wait_for_end(limit_s=1500)  # where starting takes most of the minute, it takes many of them
    run.assert_each_evaluation_has_one_result()
    return run, by_hand


def check_that_tasks_requeued_themselves(shell: Any, run: Run, by_hand: str) -> None:
    tasks = {event["slurm_job_id"] for event in run.events("worker_joined")}
    assert by_hand in tasks
    submitted = {path.name.partition("_")[0] for path in run.folder.jobs.glob("*_submitted.pkl")}
    # Where the machine is too busy for the margin.
    was_cut_off = any("SIGTERM" in e["reason"] for e in run.events("returned"))
    assert was_cut_off or len(submitted) == 1, "a requeued task is in the queue before its worker says farewell"
    assert was_cut_off or len(tasks) == 2
    for task in {by_hand, run.events("worker_joined")[0]["slurm_job_id"]}:
        job = shell.cluster.output("login", "scontrol", "-o", "show", "job", task)
        assert int(job.partition("Restarts=")[2].split()[0]) >= 1
    handed_back = {(*e["config_id"],): e["worker"] for e in run.events("returned") if e["outcome"] == "handed_back"}
    finished = {(*e["config_id"],): e["worker"] for e in run.events("returned") if e["outcome"] == "finished"}
    assert len(handed_back) == len(finished) == 2
    assert all(finished[config_id] != worker for config_id, worker in handed_back.items())


def check_that_seconds_add_up(run: Run) -> None:
    parts = trained_here_s(run.folder)
    for result in run.results:
        assert result.info["attempt"] >= 2
        assert result.info["training_s"] == pytest.approx(BUDGET_S, abs=2)
        assert sum(parts[result.config_id, result.budget]) == pytest.approx(BUDGET_S, abs=5)
    assert run.status is not None
    assert run.status.lost_s == pytest.approx(0, abs=1), "what was handed back was checkpointed first"


def submit_with_a_limited_master(shell: Any) -> Run:
    run: Run = shell.submit_at_gate(
        search__iterations=4,
        slurm__master="slurm",
        slurm__master_partition="cpu",
        slurm__master_walltime_min=1,
        slurm__master_mem_gb=0.5,
    )
    run.wait_for_workers(2)
    assert run.status is not None
    assert run.status.host.startswith("node")
    run.let_through(1)
    return run


def check_that_the_master_goes_on(shell: Any, run: Run) -> None:
    run.wait(lambda: run.events("master_ended"), "the first master to leave")
    assert run.events("master_ended")[0]["term"] == 1
    before = {(r.config_id, r.budget) for r in run.results}
    assert before
    run.let_through()

    def has_ended() -> Any:
        shell.hasten_requeued(run.master_name)
        return run.status is not None and run.status.has_ended

    run.wait(has_ended, "the search to end")
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()
    assert run.status is not None
    assert run.status.term >= 2
    assert {(r.config_id, r.budget) for r in run.results} >= before
    assert run.status.lost == 0, "workers trained on while there was no master"
