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
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RunError
from pipeline.files import is_there, sweep_temporaries
from pipeline.master.dispatcher import Dispatcher
from pipeline.master.events import Event, MasterOutcome, ThreadDied
from pipeline.master.lease import BEAT_S, STOPPED_S, Lease, LeaseLostError, take_lease
from pipeline.master.past import Past, read_past
from pipeline.master.run_files import RunFiles
from pipeline.master.scheduler import Scheduler
from pipeline.master.status_publisher import StatusPublisher
from pipeline.master.threads import guarded
from pipeline.master.worker_requests import RequestWorkers
from pipeline.rpc.master_address import MasterAddress, publish_master_address, read_master_address
from pipeline.rpc.network import PYRO, Network
from pipeline.run.folder import RunFolder
from pipeline.run.identity import run_label
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.search.replay import lost_results
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

TICK_S = 0.2
# A tick that comes this late says that the master itself was paused, or its disk: nobody else is to be blamed.
LATE_S = 2.0
# Enough for the last status of a run with hundreds of workers.
RESERVE_BYTES = 256 * 1024
STATUS_S = 1.0
# Writing takes seconds, and a frozen worker on another host may yet go on.
ABANDONED_S = 24 * 3600.0


def run_master(
    folder: RunFolder,
    settings: Settings,
    request_workers: RequestWorkers | None,
    address: str,
    *,
    should_leave: Callable[[], str | None] = lambda: None,
    stopped_s: float = STOPPED_S,
    runtime: Runtime = SYSTEM,
    network: Network = PYRO,
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
        RunError: a living master holds the run, its files do not fit together, or cannot be written.
        SiteError: it cannot listen on the address.
        Exception: a defect of the program; the run is left resumable, and its status says "broken".
    """
    _allow_many_connections()
    try:
        # Read first: a run that cannot be rebuilt is refused before anything of it is touched.
        past = read_past(folder, settings)
        lease = take_lease(folder, stopped_s, runtime)
    except OSError as error:
        raise RunError(_explain_disk(error, folder)) from None
    master = _Master(folder, settings, request_workers, address, should_leave, lease, runtime, network)
    try:
        return master.run(past)
    except LeaseLostError as error:
        log.error("%s", error)
        return MasterOutcome("left", str(error))


@dataclass
class _Master:
    """One master, from its lease to its last word."""

    folder: RunFolder
    settings: Settings
    request_workers: RequestWorkers | None
    address: str
    should_leave: Callable[[], str | None]
    lease: Lease
    runtime: Runtime
    network: Network

    def run(self, past: Past) -> MasterOutcome:
        """Be the master; `past` was read before the lease was taken."""
        inbox = self.runtime.queue()
        # At once: rebuilding a long search takes longer than another master would watch a heart that stands still.
        heartbeat = _Heartbeat(self.lease, inbox, self.runtime)
        heartbeat.start()
        try:
            loop = self._start(inbox, past)
        except OSError as error:
            heartbeat.stop()
            raise RunError(_explain_disk(error, self.folder)) from None
        except BaseException:
            heartbeat.stop()
            raise
        outcome = MasterOutcome("broken", "the master was interrupted")
        try:
            outcome = loop.run()
        except OSError as error:
            outcome = MasterOutcome("broken", _explain_disk(error, self.folder))
        except (LeaseLostError, KeyboardInterrupt):
            raise
        except RunError as error:
            outcome = MasterOutcome("broken", str(error))
        except Exception:
            outcome = MasterOutcome("broken", f"a defect of the program: {traceback.format_exc()}")
            raise
        finally:
            heartbeat.stop()
            loop.end(outcome)
        return outcome

    def _start(self, inbox: Queue, past: Past) -> _Loop:
        folder, lease = self.folder, self.lease
        label = run_label(folder)
        self.network.make_authority(folder.tls, label)
        addresses = sorted({self.address, "127.0.0.1", "localhost"})
        self.network.take_credentials(folder.tls, f"master-{lease.term}", addresses)
        files = RunFiles(folder, lease, self.runtime)
        _reserve_room(folder)
        if not past.is_current(folder):  # the master before wrote while its heart was being watched
            past = read_past(folder, self.settings)
        if lost_results(past.history):
            files.note("results_lost", draws=len(past.history.draws), results=len(past.history.results))
        ports = self.settings.network.ports
        dispatcher = Dispatcher(folder.run_id, self.address, ports, inbox, self.runtime, self.network)
        scheduler = Scheduler(folder, past.search, files, dispatcher, self.request_workers, past.journal, self.runtime)
        port = dispatcher.server.port
        location = MasterAddress(folder.run_id, lease.term, platform.node(), self.address, port, label)
        publisher = StatusPublisher(folder, self.settings, lease, location.location, self.runtime)
        files.note("master_started", term=lease.term, host=location.host, pid=os.getpid(), address=location.location)
        files.write_journal(durable=True)
        dispatcher.start()
        publish_master_address(folder, location)
        self.runtime.thread(lambda: _sweep(folder), "sweep").start()
        log.info("master of %s, term %d, listens on %s", folder.run_id, lease.term, location.location)
        return _Loop(folder, scheduler, publisher, inbox, self.should_leave, location, lease, self.runtime)


@dataclass
class _Loop:
    """Takes events in, makes what follows durable, gives out work, and looks at the time now and then."""

    folder: RunFolder
    scheduler: Scheduler
    publisher: StatusPublisher
    inbox: Queue
    should_leave: Callable[[], str | None]
    location: MasterAddress
    lease: Lease
    runtime: Runtime
    _next_tick: float = 0.0
    _next_status: float = 0.0

    def run(self) -> MasterOutcome:
        """Go on until it is known how the master ends."""
        self._next_tick = self.runtime.monotonic()
        while True:
            outcome = self._pass(self._take_all(max(0.0, self._next_tick - self.runtime.monotonic())))
            if outcome is not None:
                return outcome

    def _pass(self, events: list[Event]) -> MasterOutcome | None:
        for event in events:
            if isinstance(event, ThreadDied):
                raise RuntimeError(f"thread {event.name!r} died:\n{event.traceback}")
            self.scheduler.handle(event)
        self.scheduler.commit()
        now = self.runtime.monotonic()
        if now >= self._next_tick:
            if now - self._next_tick > LATE_S:
                self.scheduler.excuse_silence(now - self._next_tick)
            self._next_tick = now + TICK_S
            self.scheduler.tick()
        if now >= self._next_status:
            self._next_status = now + STATUS_S
            leave = self._look_around()
            if leave is not None:
                return MasterOutcome("left", leave)
        self.scheduler.advance()
        return self.scheduler.outcome

    def _look_around(self) -> str | None:
        """What is asked every second: whether the run is still this master's, and to go on; why to leave, or None."""
        self.lease.check()  # nothing else writes for minutes while everybody trains
        if is_there(self.folder.stop_request):
            self.scheduler.end("stopped", "asked to stop")
        leave = self.should_leave()
        if leave is not None:
            return leave
        self.publisher.publish(self.scheduler)
        if read_master_address(self.folder) != self.location:
            self.lease.check()  # it may be the successor's: a master that stood still since the look above is no judge
            publish_master_address(self.folder, self.location)  # somebody damaged it, and late workers need it
        return None

    def _take_all(self, wait_s: float) -> list[Event]:
        """Every event that is there, after waiting for the first one."""
        events: list[Event] = []
        try:
            events.append(self.inbox.get(timeout=wait_s))
            while True:
                events.append(self.inbox.get_nowait())
        except queue.Empty:
            return events

    def end(self, outcome: MasterOutcome) -> None:
        """Write how the master ended, as far as the disk and the lease still allow."""
        scheduler, lease = self.scheduler, self.lease
        log.info("master ends: %s%s", outcome.state, f" ({outcome.message})" if outcome.message else "")
        scheduler.files.note("master_ended", term=lease.term, reason=f"{outcome.state}: {outcome.message}")
        last_words: list[Callable[[], None]] = [
            lambda: self.folder.reserve.unlink(missing_ok=True),
            lambda: scheduler.files.write_journal(durable=True),
            lambda: self.publisher.publish_last(scheduler, outcome),
            lambda: lease.end(outcome.state),
            lambda: self.publisher.tell_end(scheduler, outcome),
        ]
        for say in last_words:
            try:
                lease.check()  # the reserve and the status are the successor's by now, if there is one
                say()
            except LeaseLostError:
                break
            except (OSError, RunError) as error:
                log.error("the last words could not be written: %s", error)
        self.publisher.close()
        scheduler.close()


class _Heartbeat:
    """Renews the lease, in a thread of its own: a slow disk under the results is no reason to lose the run."""

    def __init__(self, lease: Lease, inbox: Queue, runtime: Runtime) -> None:
        self._lease = lease
        self._stopped = runtime.event()
        self._thread = runtime.thread(guarded(inbox, "heartbeat", self._run), "heartbeat")

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


def _sweep(folder: RunFolder) -> None:
    """Delete the temporary files of processes that were killed while they wrote: one of a checkpoint may be large."""
    try:
        swept = sweep_temporaries(folder.path, ABANDONED_S)
    except OSError as error:  # the next master will do
        log.info("temporary files cannot be looked for now: %s", error)
        return
    if swept:
        log.info("deleted %d temporary files of processes that were killed", len(swept))


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
