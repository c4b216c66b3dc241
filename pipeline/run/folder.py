"""Every file name that a run can create, in one place.

A run folder is the truth about its run: nothing about a run is known that is not in here.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.records import ConfigId, budget_name, config_name, parse_config_name

LATEST = "latest"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    Attributes:
        path: the folder; its name is the run's id.
    """

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id: the folder's name."""
        return self.path.name

    @property
    def shell_path(self) -> str:
        """The path as a person types it into a shell."""
        return shlex.quote(str(self.path))

    # What the run is -------------------------------------------------------------------------------------------
    @property
    def settings(self) -> Path:
        """The validated settings, frozen at submission."""
        return self.path / "settings.yaml"

    @property
    def provenance(self) -> Path:
        """Commit, dirty flag, package versions, host and command."""
        return self.path / "provenance.json"

    @property
    def identity(self) -> Path:
        """The label by which the run is told from its copies."""
        return self.path / "identity.json"

    @property
    def configspace(self) -> Path:
        """The search space as ConfigSpace writes it."""
        return self.path / "configspace.json"

    @property
    def images(self) -> Path:
        """What was found out about images of the user's own: classes, shape, counts, what is damaged."""
        return self.path / "images.json"

    # What the search knows (hpbandster's format; enough to rebuild it) -------------------------------------------
    @property
    def configs(self) -> Path:
        """A line per configuration drawn: [config_id, configuration, config_info]."""
        return self.path / "configs.json"

    @property
    def earlier(self) -> Path:
        """Results of the run that this one starts from, a line each: [configuration, budget, loss]."""
        return self.path / "earlier.json"

    @property
    def results(self) -> Path:
        """A line per result: [config_id, budget, timestamps, result, exception]."""
        return self.path / "results.json"

    @property
    def journal(self) -> Path:
        """A line per dispatch, loss, join and leave: attempts are numbered from it."""
        return self.path / "journal.jsonl"

    # How processes find each other -------------------------------------------------------------------------------
    @property
    def masters(self) -> Path:
        """A file per term of a master, created exclusively: the highest one is the lease."""
        return self.path / "masters"

    @property
    def master_address(self) -> Path:
        """Where the present master listens."""
        return self.path / "master.json"

    @property
    def status(self) -> Path:
        """What the master last said of workers, brackets and incumbents; rewritten every few seconds."""
        return self.path / "status.json"

    @property
    def stop_request(self) -> Path:
        """Its presence asks the master, from any host, to end the run in order."""
        return self.path / "stop.json"

    @property
    def reserve(self) -> Path:
        """Room on the disk for the last words of a master that a full disk ends."""
        return self.path / ".reserve"

    @property
    def undelivered(self) -> Path:
        """Results of workers that had to leave while there was no master: a JSON file per attempt."""
        return self.path / "undelivered"

    @property
    def tls(self) -> Path:
        """The run's certificate authority and certificates (0700)."""
        return self.path / "tls"

    @property
    def jobs(self) -> Path:
        """The folder that submitit writes to."""
        return self.path / "jobs"

    @property
    def logs(self) -> Path:
        """The master's and the workers' logs."""
        return self.path / "logs"

    @property
    def master_log(self) -> Path:
        """The log of every master of this run, one after the other."""
        return self.logs / "master.log"

    def worker_log(self, worker: str) -> Path:
        """One worker's log."""
        return self.logs / f"worker-{worker}.log"

    def output_log(self, worker: str) -> Path:
        """What objectives and commands of the user's own print, by the worker that they run under."""
        return self.logs / f"output-{worker}.log"

    def trial(self, config_id: ConfigId, budget: float, attempt: int) -> Path:
        """The folder of one attempt of an objective of the user's own, and its working directory."""
        return self.path / "trials" / config_name(config_id) / f"b{budget_name(budget)}-a{attempt}"

    # What training writes ----------------------------------------------------------------------------------------
    @property
    def attempts(self) -> Path:
        """Learning curves: a file per attempt."""
        return self.path / "attempts"

    def attempt(self, config_id: ConfigId, budget: float, attempt: int) -> Path:
        """The learning curve of one attempt."""
        return self.attempts / config_name(config_id) / f"b{budget_name(budget)}-a{attempt}.h5"

    def parse_attempt(self, path: Path) -> tuple[ConfigId, float, int]:
        """The inverse of `attempt`.

        Raises:
            RunError: the name is not one that `attempt` gives.
        """
        try:
            budget, attempt = path.stem.removeprefix("b").rsplit("-a", 1)
            return parse_config_name(path.parent.name), float(budget), int(attempt)
        except ValueError:
            raise RunError(f"{path} is not the file of an attempt; remove it from {self.attempts}") from None

    @property
    def checkpoints(self) -> Path:
        """Weights and states that training can go on from."""
        return self.path / "checkpoints"

    def checkpoint(self, config_id: ConfigId, budget: float, attempt: int) -> Path:
        """The last checkpoint of one attempt; the one before has the suffix `.previous`."""
        return self.checkpoints / config_name(config_id) / f"b{budget_name(budget)}-a{attempt}.pt"

    @property
    def incumbents(self) -> Path:
        """The trained weights of each budget's incumbent, and of a front on the largest budget."""
        return self.path / "incumbents"

    def kept_weights(self, budget: float, config_id: ConfigId | None = None) -> Path:
        """Those of a budget's incumbent, or of one configuration of its front; a `.json` beside them says whose."""
        whose = "" if config_id is None else f"-{config_name(config_id)}"
        return self.incumbents / f"b{budget_name(budget)}{whose}.pt"

    @property
    def compile_cache(self) -> Path:
        """torch.compile's cache, shared by this user's runs of the results folder: the next search finds it filled."""
        return self.path.parent / f".compile-cache-{os.geteuid()}"

    # What collection makes ---------------------------------------------------------------------------------------
    @property
    def collected(self) -> Path:
        """Everything that was collected, in one file."""
        return self.path / "results.h5"

    @property
    def tables(self) -> Path:
        """CSV, Markdown and parquet."""
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        """PNG and PDF."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def live_page(self) -> Path:
        """The run as it goes on, renewed by `tandem watch --page`."""
        return self.path / "live.html"


def make_inside(folder: RunFolder, path: Path, mode: int = 0o777) -> None:
    """Make a folder that lies directly in a run's, unless it is there; the run's own is never made again.

    Raises:
        RunError: the run's folder is gone, or this one cannot be made.
    """
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except FileNotFoundError:
        raise RunError(f"The run folder {folder.path} is gone. Was it renamed or moved?") from None
    except OSError as error:
        raise RunError(f"Cannot make {path}: {error.strerror}. Move what is in its place away.") from None


def ensure_jobs_folder(folder: RunFolder) -> None:
    """Make the folder of submitit's pickles, and check that nobody else can put a pickle there: tasks run them.

    Raises:
        RunError: it, or the run folder that holds it, is not this user's alone to write, which says how to mend it;
            or as `make_inside`.
    """
    make_inside(folder, folder.jobs, 0o700)
    for path in (folder.path, folder.jobs):
        _require_own(path, "submit a run of your own")


def ensure_compile_cache(folder: RunFolder) -> Path:
    """Make this user's cache of torch.compile, and check that nobody else can write there: torch runs what it finds.

    Raises:
        RunError: as `ensure_jobs_folder`.
    """
    make_inside(folder, folder.compile_cache, 0o700)
    _require_own(folder.compile_cache, "let TORCHINDUCTOR_CACHE_DIR name another")
    return folder.compile_cache


def _require_own(path: Path, otherwise: str) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise RunError(
            f"{path} must be a folder of yours that nobody else may write (mode {stat.S_IMODE(found.st_mode):04o}, "
            f"owner {found.st_uid}): what lies in it is run as you. If it is yours: "
            f"`chmod go-w {shlex.quote(str(path))}`; else {otherwise}."
        )


def find_collected(results: Path, name: str | None = None) -> RunFolder:
    """As `find_run`, or where a results.h5 lies alone: that file, or the folder that holds it.

    Raises:
        RunError: there is neither.
    """
    for candidate in () if name is None else (Path(name), results / name):
        folder = RunFolder((candidate.parent if candidate.is_file() else candidate).resolve())
        if folder.collected.is_file() and not folder.settings.is_file():
            return folder
    return find_run(results, name)


def find_run(results: Path, name: str | None = None) -> RunFolder:
    """The run that a person means: a path, an id under `results` or the name that it begins with, or (None) the latest.

    Raises:
        RunError: there is no such run, or there are several of this name.
    """
    candidates = [results / LATEST] if name is None else [Path(name), results / name]
    for candidate in candidates:
        folder = RunFolder(candidate.resolve())
        if is_there(folder.settings):
            return folder
        if is_there(folder.configspace) or is_there(folder.provenance):
            raise RunError(
                f"{folder.path} is a run folder that was never finished (its submission was interrupted): there is "
                f"nothing to go on with. Remove it, and submit again."
            )
        if any(part.exists() for part in (folder.masters, folder.status, folder.attempts, folder.jobs)):
            raise RunError(
                f"{folder.path} has no {folder.settings.name}: it is what was written after the run was renamed or "
                f"moved. Name the folder that has {folder.settings.name}; this one may be removed."
            )
    if name is None:
        raise RunError(f"No run in {results} yet. `make submit-search` starts one; RUN=... names one elsewhere.")
    known = sorted(p.parent.name for p in results.glob("*/settings.yaml") if p.parent.name != LATEST)
    named = [run_id for run_id in known if re.fullmatch(rf"{re.escape(name)}-\d{{8}}-\d{{6}}(-\d+)?", run_id)]
    if len(named) == 1:
        return RunFolder((results / named[0]).resolve())
    if named:
        raise RunError(f"{len(named)} runs in {results} have the name {name!r}: {', '.join(named[-8:])}. Say which.")
    raise RunError(f"No run {name!r} in {results}. Known: {', '.join(known[-8:]) or 'none'}.")
