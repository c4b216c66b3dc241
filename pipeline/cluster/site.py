"""Whether this cluster can run what the settings ask for: told before anything is submitted, with what would work."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.cluster.addresses import address_towards_nodes
from pipeline.cluster.sbatch_options import (
    Options,
    as_text,
    command,
    command_line,
    master_options,
    queued_at_once,
    worker_arrays,
    worker_options,
)
from pipeline.cluster.users import user_name
from pipeline.errors import SiteError
from pipeline.settings import Settings
from pipeline.wording import counted

# File systems of one machine. Others (nfs, lustre, gpfs, beegfs, ceph, ...) are shared or cannot be told.
LOCAL_FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay", "f2fs", "reiserfs")


def check_site(settings: Settings, folder: Path) -> list[str]:
    """Check that the cluster can do what the settings ask for. Submits nothing.

    Args:
        folder: where the run folder will be.

    Returns:
        Warnings for a person: what may go wrong and cannot be told from here.

    Raises:
        SiteError: it cannot; one line that says what was asked for and what is allowed.
    """
    known = {partition.name: partition for partition in slurm.partitions()}
    workers = _chosen(known, "slurm.partition", settings.slurm.partition)
    _check_time("slurm.walltime_min", settings.slurm.walltime_min, workers)
    _check_margin(settings)
    _check_account(settings.slurm.account, workers)
    _check_gpus(settings, workers)
    if settings.slurm.master == "slurm":
        _check_master(settings, known)
    _check_whole(settings)
    if settings.slurm.master == "login":
        address_towards_nodes(settings)  # raises what the master would
    warnings = [_shared_storage_warning(folder), _shared_storage_warning(settings.data.root)]
    if settings.slurm.master == "login":
        warnings.append(logout_warning())
    return [warning for warning in dict.fromkeys(warnings) if warning]


def describe_request(settings: Settings) -> str:
    """What will be asked for, in words and as sbatch's options."""
    wanted, count = settings.slurm, settings.workers.count
    device = {0: "no GPU", 1: "a GPU"}.get(wanted.gpus_per_worker, f"{wanted.gpus_per_worker} GPUs")
    cores = counted(wanted.cpus_per_worker, "CPU core")
    lines = ["No workers are asked for (workers.count=0)."]
    if count > 0:
        largest = slurm.max_array_size()
        queued = queued_at_once(settings, count, largest)
        (size, options), *others = worker_arrays(settings, queued, largest)
        more = f" (and {len(others)} more arrays: Slurm takes {size} tasks in one)" if others else ""
        lines = [
            f"{counted(queued, 'worker')} as a Slurm array, each with {device}, {cores} and "
            f"{_duration(wanted.walltime_min)}: {command(options, size)}{more}"
        ]
        if queued < count:
            lines.append(
                f"Not {count}: slurm.array_parallelism lets {wanted.array_parallelism} run at once, and Slurm one of "
                f"each array at least, so that there are no more arrays."
            )
    if wanted.master == "slurm":
        lines.append(f"The master as a job of its own: {command(master_options(settings))}")
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    return f"{minutes / 60:g} h" if minutes >= 120 and minutes % 60 == 0 else f"{minutes:g} min"


def _chosen(known: Mapping[str, slurm.Partition], setting: str, names: str | None) -> list[slurm.Partition]:
    """The partitions that a job may start in (sbatch takes several), checked."""
    listed = ", ".join(known) or "none that you may use"
    for name in () if names is None else names.split(","):
        if name not in known:
            raise SiteError(f"{setting}: there is no partition {name!r}. Partitions: {listed}.")
        if not known[name].is_up:
            raise SiteError(f"{setting}: partition {name} is not up. Partitions that are: {_up(known)}.")
    if names is not None:
        return [known[name] for name in names.split(",")]
    default = [partition for partition in known.values() if partition.is_default]
    if not default:
        raise SiteError(
            f"This cluster has no default partition; set slurm.partition (PARTITION=...) to one of: {listed}."
        )
    return default


def _check_master(settings: Settings, known: Mapping[str, slurm.Partition]) -> None:
    """The checks of a master that is a job: most clusters take one that can never start."""
    wanted = settings.slurm
    setting = "slurm.partition" if wanted.master_partition is None else "slurm.master_partition"
    chosen = _chosen(known, setting, wanted.master_partition or wanted.partition)
    _check_time("slurm.master_walltime_min", wanted.master_walltime_min, chosen)
    _check_account(wanted.account, chosen)


def _up(known: Mapping[str, slurm.Partition]) -> str:
    return ", ".join(name for name, partition in known.items() if partition.is_up) or "none"


def _check_margin(settings: Settings) -> None:
    wanted = settings.slurm.walltime_min
    if settings.workers.handback_margin_s / 60 > wanted / 2:
        raise SiteError(
            f"slurm.walltime_min: of {wanted} min a worker would train less than half, because it hands back "
            f"{settings.workers.handback_margin_s:g} s before the end. Ask for more time, or lower "
            f"workers.handback_margin_s to {wanted * 15} or less."
        )


def _check_time(setting: str, wanted: int, chosen: Sequence[slurm.Partition]) -> None:
    for partition in chosen:
        if partition.max_time_min is not None and wanted > partition.max_time_min:
            raise SiteError(
                f"{setting}: {wanted} min is more than partition {partition.name} allows "
                f"({partition.max_time_min:g} min). A shorter limit ends no search: work is handed on, and a master "
                f"that is a job is requeued."
            )


def _check_account(account: str | None, chosen: Sequence[slurm.Partition]) -> None:
    enforced = "associations" in slurm.configuration().get("AccountingStorageEnforce", "")
    if account is None:
        account = _default_account()
    else:
        own, every = _accounts(f"user={user_name()}"), _accounts()
        allowed = own if enforced else every
        if allowed and account not in allowed:
            raise SiteError(
                f"slurm.account: {account!r} is not one you may charge. Accounts: {', '.join(sorted(allowed))}."
            )
    for partition in chosen:
        if account is not None and partition.accounts and account not in partition.accounts:
            raise SiteError(
                f"slurm.account: partition {partition.name} does not take account {account!r}. "
                f"It takes: {', '.join(partition.accounts)}."
            )


def _default_account() -> str | None:
    """The account that Slurm charges where none is named; None without accounting."""
    try:
        listed = slurm.run_command("sacctmgr", "-nP", "show", "user", f"name={user_name()}", "format=defaultaccount")
    except SiteError:
        return None
    return listed.strip().splitlines()[0].strip() if listed.strip() else None


def _accounts(*which: str) -> set[str]:
    """Accounts that Slurm's accounting knows; empty without accounting."""
    try:
        listed = slurm.run_command("sacctmgr", "-nP", "show", "assoc", *which, "format=account")
    except SiteError:
        return set()
    return {line.strip() for line in listed.splitlines() if line.strip()}


def _check_gpus(settings: Settings, chosen: Sequence[slurm.Partition]) -> None:
    wanted = settings.slurm
    if wanted.gpus_per_worker == 0:
        if settings.training.device == "cuda":
            raise SiteError("training.device is cuda, and slurm.gpus_per_worker=0 asks for no GPU: set it to 1.")
        return
    nodes = slurm.nodes()
    names = {partition.name for partition in chosen}
    if any(node.gpus(wanted.gpu_type) >= wanted.gpus_per_worker for node in nodes if node.partition in names):
        return
    there = ", ".join(sorted({node.gres for node in nodes if node.partition in names and node.gpus()})) or "no GPUs"
    elsewhere = ", ".join(sorted({node.partition for node in nodes if node.gpus(wanted.gpu_type)})) or "none"
    kind = "a GPU" if wanted.gpus_per_worker == 1 else f"{wanted.gpus_per_worker} GPUs"
    kind += "" if wanted.gpu_type is None else f" of type {wanted.gpu_type!r}"
    raise SiteError(
        f"slurm.gpus_per_worker: no node of partition {', '.join(sorted(names))} has {kind} (it has {there}). "
        f"Partitions with one: {elsewhere}. To train on CPUs: slurm.gpus_per_worker=0."
    )


def _check_whole(settings: Settings) -> None:
    """Let Slurm itself judge each request as a whole, without submitting it."""
    largest = min(settings.workers.count, slurm.max_array_size())
    array = {"array": f"0-{largest - 1}"} if largest else {}
    requests: dict[str, Options] = {"workers": {**worker_options(settings), **array}}
    if settings.slurm.master == "slurm":
        requests["master"] = master_options(settings)
    for role, options in requests.items():
        command = ["sbatch", "--test-only", *command_line(options), "--wrap=true"]
        try:
            tried = subprocess.run(
                command, capture_output=True, text=True, timeout=slurm.COMMAND_TIMEOUT_S, check=False,
                env=slurm.job_environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SiteError(
                f"Slurm did not say within {slurm.COMMAND_TIMEOUT_S:.0f} s whether it would take the {role}: nothing "
                f"was submitted. Its controller may be busy; try again."
            ) from None
        if tried.returncode != 0:
            said = " ".join(line.strip() for line in tried.stderr.splitlines() if line.strip())
            raise SiteError(f"Slurm would refuse the {role}: {said} (asked for: {as_text(options)})")


def _shared_storage_warning(path: Path) -> str | None:
    """A warning if a path seems to lie on a disk of this machine, which the nodes would not see."""
    kind = file_system(path)
    if kind in LOCAL_FILE_SYSTEMS:
        return (
            f"{path.expanduser().absolute()} is on a {kind} file system, which usually belongs to one machine. If "
            f"the nodes do not see it, name a place on shared storage (RESULTS=... for runs, data.root for data)."
        )
    return None


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Type of the file system that a path (or its nearest parent that exists) lies on; None: cannot be told."""
    resolved = path.expanduser().resolve()
    try:
        entries = [line.split()[1:3] for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for point, kind in entries:
        folder = Path(point.encode().decode("unicode_escape"))  # /proc writes a space as \040
        # Of mounts on the same folder, the last one is what is seen.
        if (resolved == folder or folder in resolved.parents) and (best is None or len(folder.parts) >= best[0]):
            best = (len(folder.parts), kind)
    return None if best is None else best[1]


def logout_warning() -> str | None:
    """A warning if this system ends a user's processes at logout, the master among them."""
    if shutil.which("loginctl") is None:
        return None
    # An option for each: loginctl takes no list, and then prints nothing.
    names = ("KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers")
    command = ["loginctl", "show-session", *(f"--property={name}" for name in names)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode != 0 or not kills_at_logout(told.stdout.splitlines(), user_name()):
        return None
    return (
        "This host ends your processes when you log out (systemd's KillUserProcesses), the master among them. "
        "MASTER=slurm (slurm.master=slurm) runs it as a Slurm job instead; `tandem resume-search` starts it again."
    )


def kills_at_logout(properties: Iterable[str], user: str) -> bool:
    """Whether systemd-logind's properties ("KillUserProcesses=yes", ...) mean the end of this user's processes."""
    values = dict(line.split("=", 1) for line in properties if "=" in line)
    only = values.get("KillOnlyUsers", "").split()
    excluded = values.get("KillExcludeUsers", "").split()
    return values.get("KillUserProcesses") == "yes" and user not in excluded and (not only or user in only)
