"""The master process: one loop that owns all state, and threads around it that only bring it events.

Because a single thread absorbs results, draws and dispatches, there are no locks to order and none that a call to a
worker could hold. Everything that arrived while the loop was writing is written together next time: one fsync covers
many results.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import queue
import resource
import threading
import time
import traceback
from collections.abc import Callable

from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.master.dispatcher import Dispatcher
from pipeline.master.events import Event, MasterOutcome, ThreadDied
from pipeline.master.lease import BEAT_S, STOPPED_S, Lease, LeaseLostError, take_lease
from pipeline.master.run_files import RunFiles
from pipeline.master.scheduler import Scheduler
from pipeline.master.status_publisher import StatusPublisher
from pipeline.master.threads import guarded
from pipeline.rpc.master_address import MasterAddress, publish_master_address, read_master_address
from pipeline.rpc.tls import ensure_authority, issue_certificate, use_tls
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from pipeline.search.replay import rebuild
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

TICK_S = 0.2
# Enough for the last status of a run with hundreds of workers.
RESERVE_BYTES = 256 * 1024
STATUS_S = 1.0


def run_master(
    folder: RunFolder,
    settings: Settings,
    request_workers: Callable[[int], None] | None,
    address: str,
    *,
    should_leave: Callable[[], str | None] = lambda: None,
    stopped_s: float = STOPPED_S,
) -> MasterOutcome:
    """Be the master of a run until the search is done, stopped (`folder.stop_request` appears) or broken.

    Args:
        request_workers: called from a thread of its own with the number of workers that are missing: when the master
            starts (once living workers have had time to return), and again, at most every `REQUEST_S` and less often
            while nothing comes of it, when there is work for more workers than there are. What is still pending or
            starting from earlier requests it must subtract itself. None: workers come by themselves.
        address: host name or IP address of the interface to listen on, as workers reach it.
        should_leave: asked every second; a reason makes the master end without its workers ("left").
        stopped_s: see `take_lease`.

    Raises:
        RunError: a living master holds the run, or its files do not fit together. Nothing was written then.
        SiteError: it cannot listen on the address.
        Exception: a defect of the program; the run is left resumable, and its status says "broken".
    """
    _allow_many_connections()
    # Read first: a run that cannot be rebuilt is refused before anything of it is touched.
    rebuild(settings, read_history(folder))
    read_journal(folder)
    lease = take_lease(folder, stopped_s)
    try:
        return _run(folder, settings, request_workers, address, should_leave, lease)
    except LeaseLostError as error:
        log.error("%s", error)
        return MasterOutcome("left", str(error))


def _run(
    folder: RunFolder,
    settings: Settings,
    request_workers: Callable[[int], None] | None,
    address: str,
    should_leave: Callable[[], str | None],
    lease: Lease,
) -> MasterOutcome:
    ensure_authority(folder.tls)
    use_tls(issue_certificate(folder.tls, f"master-{lease.term}", sorted({address, "127.0.0.1", "localhost"})))
    files = RunFiles(folder, lease)
    _reserve_room(folder)
    search = rebuild(settings, read_history(folder))
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    dispatcher = Dispatcher(folder.run_id, address, settings.network.ports, inbox)
    scheduler = Scheduler(folder, search, files, dispatcher, request_workers, read_journal(folder))
    location = MasterAddress(folder.run_id, lease.term, platform.node(), address, dispatcher.server.port)
    publisher = StatusPublisher(folder, settings, lease.term, location.location)
    files.note("master_started", term=lease.term, host=location.host, pid=os.getpid(), address=location.location)
    files.write_journal(durable=True)
    dispatcher.start()
    publish_master_address(folder, location)
    log.info("master of %s, term %d, listens on %s", folder.run_id, lease.term, location.location)
    heartbeat = _Heartbeat(lease, inbox)
    heartbeat.start()
    outcome = MasterOutcome("broken", "the master was interrupted")
    try:
        outcome = _loop(folder, scheduler, publisher, inbox, should_leave, location, lease)
    except OSError as error:
        outcome = MasterOutcome("broken", _explain_disk(error, folder))
    except (LeaseLostError, KeyboardInterrupt):
        raise
    except Exception:
        outcome = MasterOutcome("broken", f"a defect of the program: {traceback.format_exc()}")
        raise
    finally:
        heartbeat.stop()
        _end(scheduler, publisher, lease, outcome)
    return outcome


def _loop(
    folder: RunFolder,
    scheduler: Scheduler,
    publisher: StatusPublisher,
    inbox: queue.SimpleQueue[Event],
    should_leave: Callable[[], str | None],
    location: MasterAddress,
    lease: Lease,
) -> MasterOutcome:
    next_tick = next_status = 0.0
    while True:
        for event in _take_all(inbox, max(0.0, next_tick - time.monotonic())):
            if isinstance(event, ThreadDied):
                raise RuntimeError(f"thread {event.name!r} died:\n{event.traceback}")
            scheduler.handle(event)
        scheduler.commit()
        now = time.monotonic()
        if now >= next_tick:
            next_tick = now + TICK_S
            scheduler.tick()
        if now >= next_status:
            next_status = now + STATUS_S
            lease.check()  # nothing else writes for minutes while everybody trains
            if is_there(folder.stop_request):
                scheduler.end("stopped", "asked to stop")
            leave = should_leave()
            if leave is not None:
                return MasterOutcome("left", leave)
            publisher.publish(scheduler)
            if read_master_address(folder) != location:
                publish_master_address(folder, location)  # somebody damaged it, and late workers need it
        scheduler.advance()
        if scheduler.outcome is not None:
            return scheduler.outcome


def _take_all(inbox: queue.SimpleQueue[Event], wait_s: float) -> list[Event]:
    """Every event that is there, after waiting for the first one."""
    events: list[Event] = []
    try:
        events.append(inbox.get(timeout=wait_s))
        while True:
            events.append(inbox.get_nowait())
    except queue.Empty:
        return events


def _end(scheduler: Scheduler, publisher: StatusPublisher, lease: Lease, outcome: MasterOutcome) -> None:
    """Write how the master ended, as far as the disk and the lease still allow."""
    log.info("master ends: %s%s", outcome.state, f" ({outcome.message})" if outcome.message else "")
    scheduler.files.note("master_ended", term=lease.term, reason=f"{outcome.state}: {outcome.message}")
    last_words: list[Callable[[], None]] = [
        lambda: scheduler.folder.reserve.unlink(missing_ok=True),
        lambda: scheduler.files.write_journal(durable=True),
        lambda: publisher.publish_last(scheduler, outcome),
        lambda: lease.end(outcome.state),
    ]
    for say in last_words:
        try:
            say()
        except (OSError, RunError) as error:
            log.error("the last words could not be written: %s", error)
    scheduler.close()


class _Heartbeat:
    """Renews the lease, in a thread of its own: a slow disk under the results is no reason to lose the run."""

    def __init__(self, lease: Lease, inbox: queue.SimpleQueue[Event]) -> None:
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=guarded(inbox, "heartbeat", self._run), name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            try:
                self._lease.check()
                self._lease.beat()
            except LeaseLostError:
                return  # the loop finds out before it writes
            except OSError as error:
                log.warning("the heartbeat could not be written: %s", error)


def _reserve_room(folder: RunFolder) -> None:
    """Put some disk aside, so that a master that ends because there is none left can say so."""
    with contextlib.suppress(OSError):
        folder.reserve.write_bytes(os.urandom(RESERVE_BYTES))  # no file system makes nothing of these


def _explain_disk(error: OSError, folder: RunFolder) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"No space is left for {folder.path} ({error.strerror}). Every acknowledged result is safe; workers leave, "
            f"with a checkpoint if there is room for one. Free some space, then `tandem resume-search` goes on."
        )
    return f"{folder.path} cannot be written ({error}). When it can be again, `tandem resume-search` goes on."


def _allow_many_connections() -> None:
    """Two connections per worker: the usual limit of 1,024 open files is reached at 500 workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


__all__ = ["MasterOutcome", "run_master"]
