"""Slow proposals, made in a thread of their own: the master's loop never waits for a model."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.master.events import Proposed
from pipeline.master.threads import guarded
from pipeline.runtime import Queue, Reply, Runtime
from pipeline.search.proposers import Proposal


class ProposalMaker:
    """Makes one proposal after the other, and wakes the loop at the end of each.

    Args:
        inbox: the loop's.
    """

    def __init__(self, inbox: Queue, runtime: Runtime) -> None:
        self._inbox = inbox
        self._runtime = runtime
        self._plans = runtime.queue()
        runtime.thread(guarded(inbox, "proposals", self._run), "proposals").start()

    def __call__(self, plan: Callable[[], Proposal]) -> Reply:
        """Make a proposal soon."""
        reply = self._runtime.reply()
        self._plans.put((plan, reply))
        return reply

    def close(self) -> None:
        """End, after what is being made."""
        self._plans.put(None)

    def _run(self) -> None:
        while (task := self._plans.get()) is not None:
            plan, reply = task
            reply.set_result(plan())
            self._inbox.put(Proposed())
