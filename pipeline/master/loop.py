"""The master's loop, which owns all state, and threads around it that only bring it events.

Because a single thread absorbs results, draws and dispatches, there are no locks to order and none that a call to a
worker could hold. Everything that arrived while the loop was writing is written together next time: one fsync covers
many results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RunError
from pipeline.files import is_there, sweep_temporaries
from pipeline.master.dispatcher import Dispatcher
from pipeline.master.events import Event, MasterOutcome, ThreadDied
from pipeline.master.lease import Lease, LeaseLostError
from pipeline.master.past import read_past
from pipeline.master.run_files import RunFiles
from pipeline.master.scheduler import Scheduler
from pipeline.master.status_publisher import StatusPublisher
from pipeline.master.worker_requests import RequestWorkers
from pipeline.rpc.master_address import MasterAddress, publish_master_address, read_master_address
from pipeline.rpc.network import Network
from pipeline.run.folder import RunFolder
from pipeline.run.identity import run_label
from pipeline.runtime import Queue, Runtime
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


def begin(
    folder: RunFolder,
    settings: Settings,
    request_workers: RequestWorkers | None,
    address: str,
    should_leave: Callable[[], str | None],
    lease: Lease,
    inbox: Queue,
    runtime: Runtime,
    network: Network,
) -> Loop:
    """Read a run's files, rebuild its search, and listen.

    Args:
        inbox: where threads put their events.

    Others are as of `pipeline.master.process.run_master`.

    Raises:
        RunError: the files do not fit together or to the settings. Nothing of the run has been touched by then.
        SiteError: it cannot listen on the address.
        OSError: the files cannot be read or written.
    """
    past = read_past(folder, settings)
    lease.check()  # a master that stood still in the middle of that may have a successor by now
    label = run_label(folder)
    network.make_authority(folder.tls, label)
    network.take_credentials(folder.tls, f"master-{lease.term}", sorted({address, "127.0.0.1", "localhost"}))
    files = RunFiles(folder, lease, runtime)
    _reserve_room(folder)
    if lost_results(past.history):
        files.note("results_lost", draws=len(past.history.draws), results=len(past.history.results))
    dispatcher = Dispatcher(folder.run_id, address, settings.network.ports, inbox, runtime, network)
    scheduler = Scheduler(folder, past.search, files, dispatcher, request_workers, past.journal, runtime)
    location = MasterAddress(folder.run_id, lease.term, platform.node(), address, dispatcher.server.port, label)
    publisher = StatusPublisher(folder, settings, lease, location.location, inbox, runtime)
    files.note("master_started", term=lease.term, host=location.host, pid=os.getpid(), address=location.location)
    files.write_journal(durable=True)
    dispatcher.start()
    publish_master_address(folder, location)
    runtime.thread(lambda: _sweep(folder), "sweep").start()
    log.info("master of %s, term %d, listens on %s", folder.run_id, lease.term, location.location)
    return Loop(folder, scheduler, publisher, inbox, should_leave, location, lease, runtime)


@dataclass
class Loop:
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
            except (OSError, ValueError, RunError) as error:
                log.error("the last words could not be written: %s", error)
        self.publisher.close()
        scheduler.close()


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
