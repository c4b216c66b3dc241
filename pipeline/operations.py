"""What a person does with a run: submit, watch, stop, resume, collect. The command line only calls these."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cluster.users import user_name
from pipeline.errors import RunError, SettingsError, SiteError, TandemError
from pipeline.files import is_there, publish_json, publish_text
from pipeline.launch.backend import Backend, StartedMaster
from pipeline.launch.choice import backend_for, queue_state, settle_where
from pipeline.problems.freezing import changed_since, data_folder, prepare_own_data, read_problem
from pipeline.records import StartedWorkers
from pipeline.run.creation import create_run, extend_run, point_latest, problem_origins, read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.identity import settle_identity
from pipeline.run.status import ENDED, STALE_S, RunStatus, read_status
from pipeline.settings import Settings, budget_ladder

if TYPE_CHECKING:
    from pipeline.master.events import MasterOutcome
    from pipeline.planning.forecast import Forecast

Say = Callable[[str], None]

log = logging.getLogger(__name__)

# A master imports PyTorch's neighbours, makes certificates and reads the run: seconds, a minute on a cold file system.
MASTER_START_S = 120.0
# One that is just starting sees a request to stop as soon as it has.
STOPPING_MASTER_S = 60.0
POLL_S = 0.25
# In the folder of results: what was warned about already.
WARNED_FILE = ".warnings"


def submit(settings: Settings, results: Path, say: Say) -> RunFolder:
    """Check everything, make the run folder, and start the master, which asks for the workers.

    Raises:
        DataError, SettingsError, SiteError, RunError: before anything was submitted, or the master did not start.
    """
    settings = read_problem(settle_where(settings))
    check_search(settings)
    _warn_once(backend_for(settings).check(results), results, say)
    prepare_data(settings, say)
    folder = create_run(settings, results)
    if settings.data.is_own:
        from pipeline.training.data import keep_about

        keep_about(settings.data, folder.images)
    settings = read_settings(folder)
    ladder = ", ".join(f"{b:g}" for b in budget_ladder(settings.search))
    say(f"Run folder: {folder.path}")
    say(f"Budget ladder ({settings.search.budget_unit}): {ladder}")
    say(backend_for(settings).describe())
    _start(folder, settings, say)
    return folder


def check_search(settings: Settings) -> None:
    """Refuse what no search can begin with, before there is a master.

    Raises:
        SettingsError: nothing in the space varies; an expert's value, or one to be tried first, does not lie in it.
    """
    from pipeline.problems.space import build_space
    from pipeline.search.search import Search

    space = build_space(settings)
    if all(hyperparameter.size == 1 for hyperparameter in space.values()):
        raise SettingsError(f"space: nothing is left to search: {', '.join(space)} can have one value only")
    Search(settings)


def _warn_once(warnings: list[str], results: Path, say: Say) -> None:
    """Say warnings that were not said of these results before: they are of the site, and stay true."""
    told = results / WARNED_FILE
    try:
        before = told.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        before = []
    new = [warning for warning in warnings if warning not in before]
    for warning in new:
        say(f"Warning: {warning}")
    if new:
        with contextlib.suppress(OSError):  # making the run folder says what is wrong with the place
            publish_text(told, "\n".join([*before, *new]) + "\n")


def check_submission(settings: Settings, results: Path, say: Say) -> None:
    """All that `submit` checks of the site and says of the request; starts and writes nothing.

    Raises:
        SettingsError: no search can begin with these settings.
        SiteError: the site cannot do it.
    """
    settings = read_problem(settle_where(settings))
    check_search(settings)
    for warning in backend_for(settings).check(results):
        say(f"Warning: {warning}")
    say(backend_for(settings).describe())
    text = backend_for(settings).submission_text(results)
    if text:
        say(f"\nWhat sbatch would be given:\n\n{text}")


def forecast_of(folder: RunFolder, status: RunStatus | None) -> Forecast | None:
    """When a run will end; None where that cannot be told (yet)."""
    from pipeline.planning.forecast import forecast

    try:
        return None if status is None else forecast(folder, read_settings(folder), status)
    except TandemError:  # a status is worth showing also when the run's other files are damaged
        return None


def prepare_data(settings: Settings, say: Say) -> None:
    """Prepare the data unless it is there and whole."""
    settings = read_problem(settings)
    if not settings.problem.is_built_in:
        if data_folder(settings) is not None:
            say(f"Data: {data_folder(settings)}")
            prepare_own_data(settings)
        return
    from pipeline.training import data

    say(f"Data: {settings.data.name} in {settings.data.root.resolve()}")
    data.prepare_data(settings.data)


def resume(folder: RunFolder, iterations: int | None, say: Say) -> None:
    """Start a master again on a run that was stopped or lost its master, or extend a finished one.

    Raises:
        RunError: it is another user's, or a master is at work on it. Nothing of it has been touched.
    """
    _require_owner(folder, "resume")
    status = read_status(folder)
    if status is not None and _is_at_work(folder, status):
        raise RunError(
            f"Run {folder.run_id} has a living master on {status.host}: nothing to resume. `tandem status` shows it."
        )
    settings = read_settings(folder) if iterations is None else extend_run(folder, iterations)
    for line in changed_since(problem_origins(folder)):
        say(line)
    folder.stop_request.unlink(missing_ok=True)
    point_latest(folder)
    _start(folder, settings, say)


def _is_at_work(folder: RunFolder, status: RunStatus) -> bool:
    """Whether the master behind a status lives: whether it says anything more before what it said is stale."""
    if status.has_ended:
        return False
    later = wait_for(folder, lambda s: s.updated > status.updated or s.is_stale(), STALE_S)
    return later is not None and later.updated > status.updated and not later.has_ended


def stop(folder: RunFolder, say: Say, wait_s: float = 180.0) -> None:
    """Ask the master to end the run in order, wait until it has, and cancel what is left in the queue.

    The workers are cancelled whatever else fails.

    Raises:
        RunError: the run is another user's.
        SiteError: Slurm does not answer: what waits in its queue stays there.
    """
    _require_owner(folder, "stop")
    backend = backend_for(read_settings(folder))
    try:
        waits_in_queue = _cancel_waiting_master(backend, folder, say)
        had_ended = _end_in_order(backend, folder, waits_in_queue, say, wait_s)
    finally:
        if told := backend.cancel_workers(folder):
            say(told)
    run = folder.shell_path
    done = "The run had ended already." if had_ended else "Stopped."
    say(f"{done} `tandem resume-search {run}` goes on; `tandem collect-results {run}` collects.")


def _require_owner(folder: RunFolder, what: str) -> None:
    """Raise RunError if the run is another user's: neither its processes nor its files obey this one."""
    owner = folder.path.stat().st_uid
    if os.geteuid() not in (owner, 0):
        raise RunError(f"Run {folder.run_id} is user {user_name(owner)}'s: only they can {what} it.")


def _cancel_waiting_master(backend: Backend, folder: RunFolder, say: Say) -> bool:
    try:
        waits = backend.cancel_waiting_master(folder)
    except SiteError as error:  # a master that is at work needs no Slurm to end
        say(f"Warning: {error}")
        return False
    if waits:
        say("The master waited in Slurm's queue; it was cancelled before it started.")
    return waits


def _end_in_order(backend: Backend, folder: RunFolder, waits_in_queue: bool, say: Say, wait_s: float) -> bool:
    """Ask the master to stop, and wait until it has; say so if it does not. Whether the run had ended before."""
    try:
        status = read_status(folder)
    except RunError as error:  # it was damaged; the master can be asked all the same
        say(f"Warning: {error}")
        status = None
    states = ENDED if _request_stop(folder, say) else (*ENDED, "left")
    if states != ENDED and not backend.end_master(folder):
        say("The master cannot be told to stop from here; it asks for workers again until it is.")
    if waits_in_queue:
        return False
    if status is not None and status.has_ended:
        return True
    if status is not None and not status.is_stale():
        say("Asked the master to stop; its workers checkpoint and leave ...")
        status = wait_for(folder, lambda s: s.state in states, wait_s)
    if status is None or status.state not in states:
        say("The master does not answer; its workers are cancelled, and every result it acknowledged is on disk.")
    return False


def _request_stop(folder: RunFolder, say: Say) -> bool:
    """Put the request into the run folder; whether it is there."""
    request = {"requested": time.time(), "host": platform.node(), "user": user_name(os.getuid())}
    try:
        publish_json(folder.stop_request, request, inside=folder.path)
    except OSError as error:
        try:
            folder.stop_request.touch()  # a full disk may have room for a name; that the file is there is enough
        except OSError:
            say(f"Warning: {folder.stop_request} cannot be written ({error.strerror}).")
            return False
    return True


def watch(folder: RunFolder, wait: Callable[[float], None] = time.sleep) -> Iterator[RunStatus | None]:
    """The run's status again and again, each time it may have changed, until it has ended or its master is lost.

    Args:
        wait: waits at most so many seconds.
    """
    while True:
        status = read_status(folder)
        yield status
        if status is not None and (status.has_ended or (status.is_stale() and not _master_waits(folder))):
            return
        wait(1.0)


def _master_waits(folder: RunFolder) -> bool:
    """Whether the run's master is a job that Slurm will start (again)."""
    queue = queue_state(folder)
    return queue is not None and queue.master_waits


def wait_for(
    folder: RunFolder,
    condition: Callable[[RunStatus], bool],
    wait_s: float,
    is_hopeless: Callable[[], bool] = lambda: False,
) -> RunStatus | None:
    """The first status that meets the condition, or the last one once `wait_s` has passed or waiting is hopeless."""
    deadline = time.monotonic() + wait_s
    while True:
        status = read_status(folder)
        if (status is not None and condition(status)) or time.monotonic() > deadline or is_hopeless():
            return status
        time.sleep(POLL_S)


def require_unbroken(folder: RunFolder) -> None:
    """Raise RunError, with the cause, if the run broke or its master was lost."""
    status = read_status(folder)
    if status is None or status.is_stale():
        raise RunError(
            f"The master is gone. `tandem resume-search {folder.shell_path}` goes on; its log: {folder.master_log}"
        )
    if status.state == "broken":
        raise RunError(f"Run {folder.run_id} is broken: {status.message} Its log: {folder.master_log}")


def collect(folder: RunFolder, say: Say, correlation: str = "spearman", start: str | None = None) -> Path:
    """Collect what is there, finished or not, and make tables, figures and the report; returns report.html's path.

    `correlation` and `start` are `make_report`'s.
    """
    from pipeline.analysis.report import make_report

    collect_data(folder, say)
    say("Drawing figures and writing the report ...")
    return make_report(folder.collected, folder, correlation=correlation, start=start)


def compare(folders: list[RunFolder], output: Path, say: Say) -> Path:
    """Collect the runs anew and show them on the same axes; returns comparison.html's path.

    Raises:
        RunError: the runs have different data sets or largest budgets.
    """
    from pipeline.analysis.comparison import compare_runs

    for folder in folders:
        collect_data(folder, say)
    return compare_runs([folder.collected for folder in folders], output)


def collect_data(folder: RunFolder, say: Say) -> None:
    """Build results.h5 anew, unless it is all that there is of the run (a copy on another machine)."""
    from pipeline.storage.collect import collect

    if is_there(folder.settings):
        if not os.access(folder.path, os.W_OK):
            owner = user_name(folder.path.stat().st_uid)
            raise RunError(
                f"Run {folder.run_id} is user {owner}'s, and results are written into its folder: ask them to collect, "
                f"or collect a copy of {folder.path}."
            )
        say(f"Collecting {folder.path} ...")
        collect(folder)
    else:
        say(f"Using {folder.collected} as it is: the run itself is not here.")


def run_master(folder: RunFolder) -> None:
    """Be the run's master until it ends, or until this process is told to end (TERM: the run stays resumable).

    In a Slurm job whose time is up, the job is requeued and goes on, perhaps on another node.

    Raises:
        RunError: the run broke, or a living master holds it; the text has the cause.
        SiteError: Slurm does not answer, or does not requeue this job.
    """
    from pipeline.cluster.allocation import Allocation, allocation_end
    from pipeline.launch import master_job
    from pipeline.master import process
    from pipeline.master.lease import is_newest

    settle_identity(folder)
    settings = read_settings(folder)
    allocation = Allocation(allocation_end(), master_job.MARGIN_S)
    allocation.listen()
    backend = backend_for(settings)
    address = master_job.master_address(backend, allocation)

    def request_workers(count: int) -> StartedWorkers:
        return backend.start_workers(folder, count)

    def be_master() -> MasterOutcome:
        return process.run_master(folder, settings, request_workers, address, should_leave=allocation.should_stop)

    outcome = master_job.after_its_predecessor(folder, be_master, allocation)
    if outcome.state == "left" and allocation.asks_for_requeue(outcome.message):
        master_job.requeue(folder, outcome, allocation)
    # Since its lease ended another master may have come: the workers are that one's then.
    if outcome.state in ENDED and is_newest(folder, outcome.term):
        try:
            backend.cancel_workers(folder)
        except SiteError as error:  # workers were told, and tasks that start later see that the run has ended
            log.error("%s", error)
    if outcome.state == "broken":
        raise RunError(f"Run {folder.run_id} is broken: {outcome.message}")


def _start(folder: RunFolder, settings: Settings, say: Say) -> None:
    """Start the master, and wait until it listens; Ctrl-C meanwhile ends what was started."""
    settle_identity(folder)
    backend = backend_for(settings)
    before = read_status(folder)
    term_before = -1 if before is None else before.term
    started = None
    try:
        started = backend.start_master(folder)
        say(started.where)
        if started.process is not None:
            _wait_for_master(folder, started, term_before, say)
    except KeyboardInterrupt:
        say("Interrupted while the master starts: it is stopped.")
        _request_stop(folder, say)
        if started is not None and started.process is not None:
            _wait_for_process(started.process)
        stop(folder, say)
        raise


def _wait_for_process(process: subprocess.Popen[bytes]) -> None:
    """Wait until a starting master has seen that it shall stop; one that does not in time is ended."""
    try:
        process.wait(STOPPING_MASTER_S)
    except subprocess.TimeoutExpired:
        process.terminate()


def _wait_for_master(folder: RunFolder, started: StartedMaster, term_before: int, say: Say) -> None:
    status = wait_for(folder, lambda s: s.term > term_before, MASTER_START_S, started.has_died)
    if status is None or status.term <= term_before:
        what = "ended at once" if started.has_died() else f"did not start within {MASTER_START_S:.0f} s"
        raise RunError(f"The master {what}. The end of {folder.master_log}:\n{_tail(folder.master_log)}")
    say(f"The master listens on {status.address} (term {status.term}).")


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log was written)"
