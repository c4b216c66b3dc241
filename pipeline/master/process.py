"""The master process: takes the run's lease, lets its heart beat, and becomes the master's loop until that ends.

It imports nothing that takes long. Importing what searches and rebuilding a long search take seconds, on a cold file
system a minute: another master would take over if no heart were beating meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import RunError, TandemError
from pipeline.master.events import MasterOutcome
from pipeline.master.lease import BEAT_S, STOPPED_S, Lease, LeaseLostError, take_lease
from pipeline.master.threads import guarded
from pipeline.master.worker_requests import RequestWorkers
from pipeline.rpc.limits import raise_limits
from pipeline.rpc.network import PYRO, Network
from pipeline.run.folder import RunFolder
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.master.loop import Loop

log = logging.getLogger("tandem.master")


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
        LivingMasterError: a living master holds the run.
        RunError: its files do not fit together, or cannot be written. Of a run that is refused nothing has been
            touched but its lease, which has ended.
        SiteError: it cannot listen on the address.
        Exception: a defect of the program; the run is left resumable, and its status says "broken".
    """
    raise_limits()
    try:
        lease = take_lease(folder, stopped_s, runtime)
    except OSError as error:
        raise RunError(_explain_disk(error, folder)) from None
    master = _Master(folder, settings, request_workers, address, should_leave, lease, runtime, network)
    try:
        outcome = master.run()
    except LeaseLostError as error:
        log.error("%s", error)
        outcome = MasterOutcome("left", str(error))
    return replace(outcome, term=lease.term)


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

    def run(self) -> MasterOutcome:
        """Be the master."""
        inbox = self.runtime.queue()
        heartbeat = _Heartbeat(self.lease, inbox, self.runtime)
        heartbeat.start()
        try:
            loop = self._begin(inbox)
        except (OSError, TandemError) as error:
            heartbeat.stop()
            self._give_back()
            if isinstance(error, OSError):
                raise RunError(_explain_disk(error, self.folder)) from None
            raise
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

    def _begin(self, inbox: Queue) -> Loop:
        from pipeline.master.loop import begin

        return begin(
            self.folder, self.settings, self.request_workers, self.address, self.should_leave, self.lease, inbox,
            self.runtime, self.network,
        )  # fmt: skip

    def _give_back(self) -> None:
        """End the lease of a master that has refused the run: nobody need watch its heart."""
        with contextlib.suppress(OSError, LeaseLostError):
            self.lease.check()
            self.lease.end("refused")


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


def _explain_disk(error: OSError, folder: RunFolder) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"No space is left for {folder.path} ({error.strerror}). Every acknowledged result is safe; workers leave, "
            f"with a checkpoint if there is room for one. Free some space, then `tandem resume-search` goes on."
        )
    return f"{folder.path} cannot be written ({error}). When it can be again, `tandem resume-search` goes on."


__all__ = ["MasterOutcome", "run_master"]
