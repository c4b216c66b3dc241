"""The GPUs of this machine, and how local workers share them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from pipeline.settings import Settings


def usable_gpus(settings: Settings) -> list[str]:
    """The GPUs of this process that training may use, as CUDA_VISIBLE_DEVICES names them; none where it is on CPUs."""
    return [] if settings.slurm.gpus_per_worker == 0 or settings.training.device == "cpu" else visible_gpus()


def gpus_of_workers(settings: Settings) -> list[str]:
    """What this machine's workers see, as many as can have GPUs of their own: "0", or "0,1" of two each."""
    gpus, each = usable_gpus(settings), max(1, settings.slurm.gpus_per_worker)
    return [",".join(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]


def workers_per_device(settings: Settings) -> int:
    """The most local workers that share GPUs; 1 without GPUs."""
    gpus = gpus_of_workers(settings)
    return max(1, -(-settings.workers.count // len(gpus))) if gpus else 1


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs of this process as CUDA_VISIBLE_DEVICES names them: those it says, or all of the machine."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]


def gpu_memory_mb(environment: Mapping[str, str] = os.environ) -> float:
    """Memory of this process's first GPU, in MB; 0: it has none, or nobody can tell."""
    names = visible_gpus(environment)
    if not names or shutil.which("nvidia-smi") is None:
        return 0.0
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "-i", names[0]]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return float(told.stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0.0
