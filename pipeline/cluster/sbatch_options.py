"""What is asked of Slurm, as long options of sbatch: for submitit, for the check before, and for a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from pipeline.errors import SiteError
from pipeline.settings import Settings, SlurmSettings

Options = dict[str, str | int | bool]

# Slurm may send its warning up to a minute before its time, and looks at time limits every half minute.
WARNING_S = 60


def array_sizes(count: int, largest: int) -> list[int]:
    """Sizes of the arrays that `count` tasks are split into, none above `largest` (Slurm's MaxArraySize)."""
    full, rest = divmod(count, largest)
    return [largest] * full + ([rest] if rest else [])


def array_shares(limit: int, sizes: Sequence[int]) -> list[int]:
    """How many tasks of each array may run at once so that `limit` of all of them do; at least one of each."""
    # One for each array, and the rest by what each has beyond its one.
    rest, beyond = max(0, limit - len(sizes)), max(1, sum(sizes) - len(sizes))
    ends = accumulate((size - 1 for size in sizes), initial=0)
    return [1 + rest * end // beyond - rest * start // beyond for start, end in pairwise(ends)]


def queued_at_once(settings: Settings, count: int, largest: int) -> int:
    """How many of `count` workers are in the queue at once: Slurm limits each array by itself, to one task at least.

    So there are no more arrays than `slurm.array_parallelism` lets tasks run; the workers beyond would only wait.

    Args:
        largest: Slurm's MaxArraySize.
    """
    limit = settings.slurm.array_parallelism
    return count if limit is None else min(count, limit * largest)


def worker_arrays(settings: Settings, count: int, largest: int) -> list[tuple[int, Options]]:
    """The arrays that `count` workers are split into: the tasks and sbatch's options of each.

    They share `slurm.array_parallelism`; arguments as of `queued_at_once`.
    """
    sizes = array_sizes(count, largest)
    limit = settings.slurm.array_parallelism
    shares = [None] * len(sizes) if limit is None else array_shares(limit, sizes)
    return [(size, worker_options(settings, share)) for size, share in zip(sizes, shares, strict=True)]


def warning_s(walltime_min: float, margin_s: float) -> int:
    """How long before a limit Slurm shall signal: after the worker's own margin, and never in its first half.

    A warning due before a task has started its handler kills it; submitit's default of 90 s does for short limits.
    """
    return max(1, int(min(WARNING_S, margin_s / 2, walltime_min * 60 / 4)))


def worker_options(settings: Settings, at_once: int | None = None) -> Options:
    """Options of sbatch for a worker, or an array of them of which `at_once` may run at once (default: all)."""
    wanted = settings.slurm
    options: Options = {
        "time": wanted.walltime_min,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": wanted.cpus_per_worker,
        "requeue": True,
        "signal-delay-s": warning_s(wanted.walltime_min, settings.workers.handback_margin_s),
        **_charged_to(wanted),
    }
    if wanted.partition is not None:
        options["partition"] = wanted.partition
    if wanted.qos is not None:
        options["qos"] = wanted.qos
    if wanted.mem_gb is not None:
        options["mem"] = megabytes(wanted.mem_gb)
    if wanted.constraint is not None:
        options["constraint"] = wanted.constraint
    if wanted.exclude:
        options["exclude"] = ",".join(wanted.exclude)
    if at_once is not None:
        options["array-parallelism"] = at_once
    options = {**options, **_gpus(wanted), **wanted.extra}
    return {name: value for name, value in options.items() if value is not False}


def master_options(settings: Settings) -> Options:
    """Options of sbatch for a master that is a job: a CPU core and memory, on its own partition if one is named."""
    wanted = settings.slurm
    options: Options = {
        "time": wanted.master_walltime_min,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 2,  # the search, and the threads that talk to workers
        "mem": megabytes(wanted.master_mem_gb),
        "requeue": True,
        "signal-delay-s": warning_s(wanted.master_walltime_min, 2 * WARNING_S),
        **_charged_to(wanted),
    }
    partition = wanted.master_partition or wanted.partition
    if partition is not None:
        options["partition"] = partition
    # A quality of service belongs to the workers' partition, and may not exist on another one.
    if wanted.qos is not None and wanted.master_partition is None:
        options["qos"] = wanted.qos
    return options


def _charged_to(wanted: SlurmSettings) -> Options:
    return {} if wanted.account is None else {"account": wanted.account}


def _gpus(wanted: SlurmSettings) -> Options:
    if wanted.gpus_per_worker == 0:
        return {}
    typed = [] if wanted.gpu_type is None else [wanted.gpu_type]
    if wanted.gpu_request == "gres":
        return {"gres": ":".join(["gpu", *typed, str(wanted.gpus_per_worker)])}
    return {wanted.gpu_request: ":".join([*typed, str(wanted.gpus_per_worker)])}


def megabytes(gb: float) -> str:
    """Memory as sbatch takes it (a fraction of a gigabyte is not allowed)."""
    return f"{round(gb * 1024)}M"


def command_line(options: Mapping[str, str | int | bool]) -> list[str]:
    """The options as arguments of sbatch; what only submitit understands is left out."""
    own = ("signal-delay-s", "array-parallelism")
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in options.items()
        if value is not False and name not in own
    ]


def command(options: Mapping[str, str | int | bool], tasks: int | None = None) -> str:
    """The sbatch command that submitit makes of the options, for an array of so many tasks or for a job."""
    at_once = min(int(options.get("array-parallelism", tasks or 1)), tasks or 1)
    array = [] if tasks is None or tasks == 1 else [f"--array=0-{tasks - 1}%{at_once}"]
    signal = [f"--signal=USR2@{options['signal-delay-s']}"]
    return shlex.join(["sbatch", *array, *signal, *command_line(options)])


def words(options: Mapping[str, str | int | bool]) -> str:
    """The options for `sbatch $(...)`: a shell splits them at spaces, and takes quotes as they are.

    Slurm's warning is among them: the one in slurm/worker.sh is due at the start of a job of a minute, and kills a
    worker that does not listen yet.

    Raises:
        SiteError: a value has a space.
    """
    found = [f"--signal=USR1@{options['signal-delay-s']}", *command_line(options)]
    for word in found:
        if word.split() != [word]:
            raise SiteError(
                f"{shlex.quote(word)} has a space, at which a shell splits it: leave it out of slurm.extra, or type "
                f"the options yourself: {shlex.join(found)}"
            )
    return " ".join(found)


def as_text(options: Mapping[str, str | int | bool]) -> str:
    """The options as a person would type them."""
    return shlex.join(command_line(options))
