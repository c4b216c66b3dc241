"""Whether this cluster can run what the settings ask for: told before anything is submitted, with what would work."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.cluster.addresses import address_towards_nodes
from pipeline.cluster.sbatch_options import Options, as_text, command_line, master_options, worker_options
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
    partition = _check_partition(settings)
    _check_time(settings, partition)
    _check_account(settings, partition)
    _check_gpus(settings, partition)
    _check_whole(settings)
    if settings.slurm.master == "login":
        address_towards_nodes(settings)  # raises what the master would
    warnings = [_shared_storage_warning(folder), _shared_storage_warning(settings.data.root)]
    if settings.slurm.master == "login":
        warnings.append(logout_warning())
    return [warning for warning in dict.fromkeys(warnings) if warning]


def describe_request(settings: Settings) -> str:
    """What will be asked for, in words and as sbatch's options."""
    count = settings.workers.count
    wanted = settings.slurm
    device = "a GPU" if wanted.gpus_per_worker else "no GPU"
    lines = [
        f"{counted(count, 'worker')} as a Slurm array, each with {device}, {wanted.cpus_per_worker} CPU cores and "
        f"{_duration(wanted.walltime_min)}: "
        f"sbatch --array=0-{max(count - 1, 0)} {as_text(worker_options(settings, count))}"
    ]
    if wanted.master == "slurm":
        lines.append(f"The master as a job of its own: sbatch {as_text(master_options(settings))}")
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    return f"{minutes / 60:g} h" if minutes >= 120 and minutes % 60 == 0 else f"{minutes:g} min"


def _check_partition(settings: Settings) -> list[slurm.Partition]:
    """The partitions that workers may start in (sbatch takes several)."""
    found = {partition.name: partition for partition in slurm.partitions()}
    known = ", ".join(found) or "none that you may use"
    for setting, value in (("partition", settings.slurm.partition), ("master_partition", _masters(settings))):
        for name in () if value is None else value.split(","):
            if name not in found:
                raise SiteError(f"slurm.{setting}: there is no partition {name!r}. Partitions: {known}.")
            if not found[name].is_up:
                raise SiteError(f"slurm.{setting}: partition {name} is not up. Partitions that are: {_up(found)}.")
    if settings.slurm.partition is not None:
        return [found[name] for name in settings.slurm.partition.split(",")]
    default = [partition for partition in found.values() if partition.is_default]
    if not default:
        raise SiteError(
            f"This cluster has no default partition; set slurm.partition (PARTITION=...) to one of: {known}."
        )
    return default


def _masters(settings: Settings) -> str | None:
    return settings.slurm.master_partition if settings.slurm.master == "slurm" else None


def _up(found: dict[str, slurm.Partition]) -> str:
    return ", ".join(name for name, partition in found.items() if partition.is_up) or "none"


def _check_time(settings: Settings, chosen: list[slurm.Partition]) -> None:
    wanted = settings.slurm.walltime_min
    margin_min = settings.workers.handback_margin_s / 60
    if margin_min > wanted / 2:
        raise SiteError(
            f"slurm.walltime_min: of {wanted} min a worker would train less than half, because it hands back "
            f"{settings.workers.handback_margin_s:g} s before the end. Ask for more time, or lower "
            f"workers.handback_margin_s to {wanted * 15} or less."
        )
    for partition in chosen:
        if partition.max_time_min is not None and wanted > partition.max_time_min:
            raise SiteError(
                f"slurm.walltime_min: {wanted} min is more than partition {partition.name} allows "
                f"({partition.max_time_min:g} min). Budgets may be longer than that: work is handed on."
            )


def _check_account(settings: Settings, chosen: list[slurm.Partition]) -> None:
    account = settings.slurm.account
    enforced = "associations" in slurm.configuration().get("AccountingStorageEnforce", "")
    if account is None:
        return
    own, every = _accounts(f"user={getpass.getuser()}"), _accounts()
    allowed = own if enforced else every
    if allowed and account not in allowed:
        raise SiteError(
            f"slurm.account: {account!r} is not one you may charge. Accounts: {', '.join(sorted(allowed))}."
        )
    for partition in chosen:
        if partition.accounts and account not in partition.accounts:
            raise SiteError(
                f"slurm.account: partition {partition.name} does not take account {account!r}. "
                f"It takes: {', '.join(partition.accounts)}."
            )


def _accounts(*which: str) -> set[str]:
    """Accounts that Slurm's accounting knows; empty without accounting."""
    try:
        listed = slurm.run_command("sacctmgr", "-nP", "show", "assoc", *which, "format=account")
    except SiteError:
        return set()
    return {line.strip() for line in listed.splitlines() if line.strip()}


def _check_gpus(settings: Settings, chosen: list[slurm.Partition]) -> None:
    wanted = settings.slurm
    if wanted.gpus_per_worker == 0:
        return
    nodes = slurm.nodes()
    names = {partition.name for partition in chosen}
    if any(node.gpus(wanted.gpu_type) >= wanted.gpus_per_worker for node in nodes if node.partition in names):
        return
    there = ", ".join(sorted({node.gres for node in nodes if node.partition in names and node.gpus()})) or "no GPUs"
    elsewhere = ", ".join(sorted({node.partition for node in nodes if node.gpus(wanted.gpu_type)})) or "none"
    kind = "a GPU" if wanted.gpu_type is None else f"a GPU of type {wanted.gpu_type!r}"
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
    command = ["loginctl", "show-session", "--property=KillUserProcesses,KillOnlyUsers,KillExcludeUsers"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode != 0 or not kills_at_logout(told.stdout.splitlines(), getpass.getuser()):
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
