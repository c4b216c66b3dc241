"""Checks of one machine: versions, storage, data, limits, devices. A compute node goes through some of them too."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.doctor.findings import FAULT, OK, WARNING, Finding
from pipeline.errors import DataError
from pipeline.files import publish_text
from pipeline.settings import Settings

DISTRIBUTION = "tandem-nas"
PYTHONS = ((3, 11), (3, 13))
FSYNCS = 5
SLOW_FSYNC_S = 0.2
LITTLE_SPACE_GB = 5.0
FEW_INODES = 10_000
FEW_FILES = FEW_THREADS = 1024
SKEWED_S = 5.0


def check_versions() -> list[Finding]:
    """Whether Python and the packages are those that this version was made for."""
    python = ".".join(map(str, sys.version_info[:3]))
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [Finding("versions", FAULT, f"Python {python}", "use Python 3.11 to 3.13: `make install PYTHON=...`")]
    wrong = _unsatisfied()
    if wrong:
        mend = "`make install` installs the versions that the tests pass with"
        return [Finding("versions", FAULT, "; ".join(wrong), mend)]
    return [Finding("versions", OK, f"Python {python} at {sys.executable}, packages as required"), *_mixed_builds()]


def _mixed_builds() -> list[Finding]:
    """A torchvision of another build than PyTorch cannot be imported; only some data sets need it."""
    torch, torchvision = (Version(metadata.version(name)) for name in ("torch", "torchvision"))
    if torch.local == torchvision.local:
        return []
    found = f"torch {torch} and torchvision {torchvision} are different builds"
    mend = "images in folders and downloads of data need both of one build: give pip an index that has it"
    return [Finding("versions: builds", WARNING, found, mend)]


def _unsatisfied() -> list[str]:
    """Requirements of the installed distribution that the environment does not meet."""
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [f"{DISTRIBUTION} is not installed"]
    wrong = []
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is installed, {requirement.specifier} is required")
    return wrong


def check_storage(folder: Path) -> list[Finding]:
    """Whether a folder can hold runs: atomic rename, exclusive creation, fsync, room.

    Args:
        folder: where the run folders will be; it and its parents are made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        return [_renames(probe), _creates_exclusively(probe), _fsync_time(probe), _room(folder)]
    except OSError as error:
        mend = f"{error.filename or folder}: give a folder that you may write, with RESULTS=... (`--results`)"
        return [Finding("storage", FAULT, f"{folder}: {error.strerror}", mend)]


def _renames(probe: Path) -> Finding:
    publish_text(probe, "first")
    publish_text(probe, "second")
    text = probe.read_text(encoding="utf-8")
    probe.unlink()
    if text != "second":
        mend = "this file system does not replace files in one step; use another for RESULTS"
        return Finding("storage: atomic rename", FAULT, f"a replaced file still reads {text!r}", mend)
    return Finding("storage: atomic rename", OK, "a replaced file is the new one at once")


def _creates_exclusively(probe: Path) -> Finding:
    """The lease of a run hangs on it."""
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL))
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return Finding("storage: exclusive creation", OK, "a file that is there is not created again")
    finally:
        probe.unlink()
    mend = "two masters could hold one run: mount it with NFS 3 or later, or use another file system for RESULTS"
    return Finding("storage: exclusive creation", FAULT, "a file was created twice", mend)


def _fsync_time(probe: Path) -> Finding:
    """A result is on disk before it counts, so that this is what a result costs at least."""
    times = []
    with probe.open("wb") as file:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    probe.unlink()
    median_s = statistics.median(times)
    found = f"fsync takes {1000 * median_s:.1f} ms (median of {FSYNCS})"
    if median_s > SLOW_FSYNC_S:
        mend = "results are written one after the other; with budgets of seconds use a faster file system for RESULTS"
        return Finding("storage: fsync", WARNING, found, mend)
    return Finding("storage: fsync", OK, found)


def _room(folder: Path) -> Finding:
    facts = os.statvfs(folder)
    free_gb, inodes = facts.f_bavail * facts.f_frsize / 1e9, facts.f_favail
    found = f"{free_gb:,.0f} GB and {inodes:,} inodes free" if facts.f_files else f"{free_gb:,.0f} GB free"
    if free_gb < LITTLE_SPACE_GB or (facts.f_files and inodes < FEW_INODES):
        mend = "make room, or use another file system for RESULTS; a quota may leave you less than that"
        return Finding("storage: room", WARNING, found, mend)
    return Finding("storage: room", OK, found)


def check_clock(folder: Path) -> list[Finding]:
    """The clock of this host against the one that the file server gives files: it is common to all hosts."""
    beat = folder / f".clock-{platform.node()}-{os.getpid()}"
    beat.touch()
    try:
        skew_s = time.time() - beat.stat().st_mtime
    finally:
        beat.unlink(missing_ok=True)
    found = f"{skew_s:+.1f} s from the file server's"
    if abs(skew_s) > SKEWED_S:
        mend = "times in logs and figures will not fit together; ask the site to synchronise its clocks"
        return [Finding("clock", WARNING, found, mend)]
    return [Finding("clock", OK, found)]


def check_data(settings: Settings) -> list[Finding]:
    """Whether the data is prepared and whole."""
    if not settings.problem.is_built_in:
        return []
    from pipeline.training.data import check_data as check

    try:
        check(settings.data)
    except DataError as error:
        mend = "do so, or let submit-search prepare it from a host with internet"
        return [Finding("data", WARNING, str(error), mend)]
    return [Finding("data", OK, f"{settings.data.dataset} is prepared in {settings.data.root.resolve()}")]


def check_limits() -> list[Finding]:
    """Whether this machine lets a master have a connection per worker, and live after its person has logged out."""
    from pipeline.cluster.site import logout_warning

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 20
    found = f"{soft} open files, at most {most}"
    findings = [Finding("limits: open files", OK, found)]
    if most < FEW_FILES:
        mend = "a master needs three per worker: raise `ulimit -Hn`, or run it as a job (MASTER=slurm)"
        findings = [Finding("limits: open files", WARNING, found, mend)]
    findings += [_threads(), _cpu_time()]
    warning = logout_warning()
    if warning:
        findings.append(Finding("limits: logging out", WARNING, warning, "run the master as a job: MASTER=slurm"))
    else:
        findings.append(Finding("limits: logging out", OK, "nothing here ends processes when you log out"))
    return findings


def _threads() -> Finding:
    """What a master may start counts with whatever else its person runs on this machine."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if hard == resource.RLIM_INFINITY or hard >= FEW_THREADS:
        return Finding("limits: threads", OK, "enough" if hard < 0 else f"at most {hard} processes and threads")
    mend = "a master needs three per worker: raise `ulimit -Hu`, or run it as a job (MASTER=slurm)"
    return Finding("limits: threads", WARNING, f"at most {hard} processes and threads of yours", mend)


def _cpu_time() -> Finding:
    """Many sites end processes of a login node after some CPU time; a master of 100 workers takes minutes a day."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limits_s = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    if not limits_s:
        return Finding("limits: CPU time", OK, "processes may run for ever")
    mend = "a master that reaches it is killed: run it as a job (MASTER=slurm)"
    return Finding("limits: CPU time", WARNING, f"a process may take {min(limits_s):,} s of CPU time", mend)


def check_devices(settings: Settings) -> list[Finding]:
    """Whether PyTorch sees the devices that are to train, with a training step on each."""
    from pipeline.training.speed import NoDeviceError, device_speeds

    try:
        speeds = device_speeds(settings)
    except NoDeviceError as error:
        mend = "ask for a GPU (slurm.gpus_per_worker=1), install a PyTorch for its driver, or set training.device=cpu"
        return [Finding("devices", FAULT, str(error), mend)]
    return [Finding("devices", OK, f"{s.name}: {_rate(s.images_per_s)} images/s ({s.what})") for s in speeds]


def _rate(per_s: float) -> str:
    """A few images a second, on a busy CPU, are not none."""
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.2g}"


def safely(check: Callable[[], list[Finding]], name: str) -> list[Finding]:
    """The findings of a check; an exception is a fault of its own, and the other checks go on."""
    try:
        return check()
    except Exception as error:
        return [Finding(name, FAULT, f"{type(error).__name__}: {error}", "")]
