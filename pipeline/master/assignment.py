"""Which worker is given which evaluation. Decides only: `Evaluations` and `WorkerPool` are told by the scheduler."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.master.evaluations import EvaluationJob, Evaluations
from pipeline.master.worker_pool import KnownWorker, WorkerPool

IsPaused = Callable[[str], bool]


def assign(evaluations: Evaluations, pool: WorkerPool, is_paused: IsPaused) -> list[tuple[KnownWorker, EvaluationJob]]:
    """Idle workers with what each may run, in the order of the queue.

    Args:
        is_paused: whether a host is given no new evaluations now.
    """
    idle = pool.idle()
    assigned = []
    for job in evaluations.waiting:
        if not idle:
            break
        worker = next((w for w in idle if _is_given(w, job, is_paused)), None)
        if worker is not None:
            idle.remove(worker)
            assigned.append((worker, job))
    return assigned


def shortage(evaluations: Evaluations, pool: WorkerPool, is_paused: IsPaused) -> int:
    """Workers that would stand idle with what is waiting: so many more evaluations can be started at once."""
    free = sum(not is_paused(worker.host) for worker in pool.idle())
    if not free or not evaluations.waiting:
        return free
    return free - sum(not is_paused(worker.host) for worker, _ in assign(evaluations, pool, is_paused))


def may_run(worker: KnownWorker, job: EvaluationJob) -> bool:
    """Whether a worker's host and device may run an evaluation."""
    return worker.host not in job.avoid and (not job.above_mb or worker.memory_mb > job.above_mb)


def is_stranded(job: EvaluationJob, pool: WorkerPool) -> bool:
    """Whether there are workers to count on, and none of them may run it."""
    usable = [worker for worker in pool.workers.values() if worker.is_usable]
    return bool(usable) and not any(may_run(worker, job) for worker in usable)


def _is_given(worker: KnownWorker, job: EvaluationJob, is_paused: IsPaused) -> bool:
    # A host under suspicion is given only what failed elsewhere, so that two suspected hosts can clear each other.
    return may_run(worker, job) and (job.attempts > 0 or not is_paused(worker.host))
