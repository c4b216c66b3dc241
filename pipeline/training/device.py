"""The device that trains: which one, how many threads, how precise, and how much memory it may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch

from models.recipe import PAPER_CODE
from pipeline.cluster.sharing import local_workers, threads_for
from pipeline.errors import BrokenError
from pipeline.settings import Settings

# Set by the launcher: worker processes that share a GPU.
WORKERS_PER_DEVICE = "TANDEM_WORKERS_PER_DEVICE"
CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
OWN_STATUS = Path("/proc/self/status")


def device_for(settings: Settings) -> torch.device:
    """The device that the settings ask for; `auto` is CUDA where there is one and workers are to have one.

    Slurm does not hide a GPU that was not asked for unless the site makes it.

    Raises:
        BrokenError: CUDA is asked for and there is none.
    """
    wanted = settings.training.device
    has_one = settings.slurm.gpus_per_worker > 0 and torch.cuda.is_available()
    if wanted == "cpu" or (wanted == "auto" and not has_one):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BrokenError(
            "training.device is cuda and PyTorch sees no CUDA device on "
            f"{os.uname().nodename} (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}): "
            "ask Slurm for a GPU (slurm.gpus_per_worker=1) or set training.device=cpu"
        )
    return torch.device("cuda", torch.cuda.current_device())


def device_name(device: torch.device) -> str:
    """The device for headers and reports: the GPU's name, or the processor's and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU: {_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def set_up_device(settings: Settings, device: torch.device) -> None:
    """Set threads and, on CUDA, the choice of kernels; cheap when nothing changes."""
    threads = threads_for(settings)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        # Shapes never change within an evaluation, so trying kernels once pays.
        torch.backends.cudnn.benchmark = True
        # The paper's GPUs had no TF32, which keeps ten bits of float32's mantissa.
        in_float32 = settings.training.recipe == PAPER_CODE
        torch.set_float32_matmul_precision("highest" if in_float32 else "high")
        torch.backends.cudnn.allow_tf32 = not in_float32


def uses_bfloat16(settings: Settings, device: torch.device) -> bool:
    """Whether steps run under bfloat16 autocast: never on a CPU, where it is 10 times slower without AMX."""
    if device.type != "cuda":
        return False
    if settings.training.recipe == PAPER_CODE:
        return False
    wanted = settings.training.precision
    return wanted == "bfloat16" or (wanted == "auto" and torch.cuda.get_device_capability(device) >= (8, 0))


def autocast(settings: Settings, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """A maker of contexts to run forward passes in."""
    if uses_bfloat16(settings, device):
        return partial(torch.autocast, "cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext


def memory_limit_bytes(settings: Settings, device: torch.device) -> int:
    """Memory that one evaluation may be estimated to need, in bytes.

    The setting `training.memory_gb`, else this worker's share of the GPU's, else of what the job (or this machine)
    grants.
    """
    if settings.training.memory_gb is not None:
        return int(settings.training.memory_gb * 1e9)
    if device.type == "cuda":
        sharing = max(1, int(os.environ.get(WORKERS_PER_DEVICE, "1")))
        return int(torch.cuda.get_device_properties(device).total_memory) // sharing
    return _host_memory_bytes() // local_workers()


def _host_memory_bytes() -> int:
    """The least of what the machine has and what a container or Slurm allows this process."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _cgroup_limits():
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            limits.append(int(path.read_text()))
    with contextlib.suppress(KeyError, ValueError):
        limits.append(int(os.environ["SLURM_MEM_PER_NODE"]) * 2**20)
    with contextlib.suppress(KeyError, ValueError):
        limits.append(int(os.environ["SLURM_MEM_PER_CPU"]) * int(os.environ["SLURM_CPUS_ON_NODE"]) * 2**20)
    return min(limits)


def _cgroup_limits() -> list[Path]:
    """Files that may hold a memory limit: of this process's control group and of those around it."""
    group = ""
    with contextlib.suppress(OSError):
        for line in OWN_CGROUP.read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):  # version 2; elsewhere the group's own files are not where they seem
                group = line.removeprefix("0::/")
    folder = CGROUP_ROOT / group
    inside = [folder, *folder.parents]
    around = inside[: inside.index(CGROUP_ROOT) + 1]
    return [*(each / "memory.max" for each in around), CGROUP_ROOT / "memory" / "memory.limit_in_bytes"]


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was given; nothing to wait for on a CPU."""
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return _nothing


def _nothing() -> None:
    pass


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far in MB (10^6 bytes): allocated on the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Not getrusage: its peak outlives exec, and so may be that of the process that started this one.
    for line in OWN_STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return math.nan
