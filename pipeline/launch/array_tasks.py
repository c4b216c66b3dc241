"""What submitit needs around an array task on Slurm: its executor, and what a requeued task runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import SiteError

# submitit counts every requeue at or after 80% of the limit, and every preemption of a short task, as a time-out.
UNLIMITED_TIMEOUTS = 1_000_000


def slurm_executor(jobs: Path, name: str, options: Mapping[str, Any], count: int, setup: Sequence[str]) -> Any:
    """The executor of submitit for an array.

    Args:
        jobs: folder of its pickles and logs.
        name: of the job.
        options: as `pipeline.cluster.sbatch_options` makes them.
        count: tasks of the array.
        setup: shell lines before a task starts.
    """
    import submitit

    others = dict(options)
    executor = submitit.SlurmExecutor(folder=jobs, max_num_timeout=UNLIMITED_TIMEOUTS)
    executor.update_parameters(
        job_name=name,
        time=others.pop("time"),
        array_parallelism=others.pop("array-parallelism", count),
        signal_delay_s=others.pop("signal-delay-s"),
        setup=list(setup) or None,
        # srun does not take over sbatch's --cpus-per-task since Slurm 22.05.
        srun_args=[f"--cpus-per-task={others['cpus-per-task']}"] if "cpus-per-task" in others else None,
        additional_parameters=others,
        stderr_to_stdout=True,
        wckey=None,
    )
    return executor


def submission_text(jobs: Path, name: str, options: Mapping[str, Any], count: int, setup: Sequence[str]) -> str:
    """What sbatch would be given for an array; arguments as of `slurm_executor`. Writes nothing."""
    executor = slurm_executor(jobs, name, options, count, setup)
    if count > 1:
        executor.parameters["map_count"] = count
    return str(executor._make_submission_file_text(executor._submitit_command_str, "submission")).strip()


def submit_array(executor: Any, tasks: Sequence[Callable[[], Any]], what: str) -> list[str]:
    """Submit an array with a task for each callable; returns the ids of the tasks.

    Raises:
        SiteError: Slurm refused the tasks, which the text calls `what`; it has Slurm's reason.
    """
    import submitit

    try:
        return [str(job.job_id) for job in executor.submit_array(tasks)]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        said = " ".join(str(error).split())[-300:]
        raise SiteError(f"Slurm refused {len(tasks)} {what}: {said}") from None


class RequeuedAsItIs:
    """A task that holds no state: a requeued one runs the same again, and finds the rest on disk.

    Tasks requeue themselves. submitit does it only for one that is warned before it has handlers of its own.
    """

    def checkpoint(self) -> Any:
        """What a task that submitit requeues runs: the same."""
        import submitit
        from submitit.core.job_environment import JobEnvironment

        # submitit refuses to write beside what a killed task left half written.
        pickled: Path = JobEnvironment().paths.submitted_pickle
        pickled.with_suffix(pickled.suffix + ".save_tmp").unlink(missing_ok=True)
        return submitit.helpers.DelayedSubmission(self)
