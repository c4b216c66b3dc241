"""Whether the allocation that this process is in has what a worker of the run needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.cluster.sbatch_options import worker_options
from pipeline.settings import Settings

# Slurm sets one or the other, by version and by how the GPU was asked for.
GPU_VARIABLES = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
GPU_COUNT = "SLURM_GPUS_ON_NODE"


def what_is_missing(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """What the allocation lacks, for a person ("a GPU and 3 of 4 CPU cores"); "" if it fits, and off Slurm."""
    if "SLURM_JOB_ID" not in environment:
        return ""
    missing = (_gpu(settings, environment), _cores(settings, environment), _memory(settings, environment))
    return " and ".join(filter(None, missing))


def submit_words(run: str) -> str:
    """What follows `sbatch` to submit a worker by hand that gets what it needs.

    Args:
        run: as a shell takes it.
    """
    tandem = ".venv/bin/tandem" if is_checkout() else "tandem"
    return f"$({tandem} worker-options {run}) slurm/worker.sh {run}"


def is_checkout() -> bool:
    """Whether this program runs from a checkout, which has slurm/ beside it; else `tandem scripts` makes one."""
    return (Path(__file__).parents[2] / "slurm" / "worker.sh").is_file()


def _gpu(settings: Settings, environment: Mapping[str, str]) -> str:
    if settings.slurm.gpus_per_worker == 0 or settings.training.device == "cpu":
        return ""
    needed = settings.slurm.gpus_per_worker
    listed = (environment.get(name, "") for name in GPU_VARIABLES)
    counts = [len(text.split(",")) for text in listed if text not in ("", "NoDevFiles")]
    has = max([*counts, _number(environment.get(GPU_COUNT, "")) or 0])
    lacking = "a GPU" if needed == 1 else f"{needed - has} of {needed} GPUs"
    return "" if has >= needed else lacking


def _cores(settings: Settings, environment: Mapping[str, str]) -> str:
    needed = _number(str(worker_options(settings).get("cpus-per-task", 1)))
    has = _number(environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE") or "")
    return "" if has is None or needed is None or has >= needed else f"{needed - has} of {needed} CPU cores"


def _memory(settings: Settings, environment: Mapping[str, str]) -> str:
    """Slurm says it in MB, for the node or for each core."""
    if settings.slurm.mem_gb is None:
        return ""
    needed = _number(str(worker_options(settings).get("mem", "")).removesuffix("M"))
    whole, each = _number(environment.get("SLURM_MEM_PER_NODE", "")), _number(environment.get("SLURM_MEM_PER_CPU", ""))
    cores = _number(environment.get("SLURM_CPUS_ON_NODE", "")) or 1
    has = whole if each is None else each * cores
    return "" if not has or needed is None or has >= needed else f"memory ({has} MB of {needed} MB)"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
