"""When this process must hand back its work: the end of its Slurm allocation, and signals.

A worker asks `should_stop` between batches. What to do afterwards depends on why:

    the margin before the allocation's end   the time is up: requeue the task, if the search goes on
    USR1, USR2                                the same, or a warning of preemption
    TERM                                      a preemption's grace time: requeue; else, scancel: leave
    INT, HUP                                  a person: leave, unless they were ignored from the start
"""

from __future__ import annotations

import datetime
import logging
import os
import platform
import re
import secrets
import signal
import time
from collections.abc import Mapping
from types import FrameType

from pipeline.cluster import slurm
from pipeline.cluster.early_signals import END_SIGNALS, WARNING_SIGNALS
from pipeline.cluster.slurm import run_command, slurm_task_id
from pipeline.errors import SiteError
from pipeline.records import WorkerIdentity

log = logging.getLogger(__name__)

# Why a worker leaves in time for the end of its allocation (`pipeline.worker.worker` says the same).
ALLOCATION_END = "allocation_end"

# Slurm sends its warning before the time limit up to a minute early. One that comes this close to an end that is known
# says nothing new, and work goes on to the margin; an earlier one is of preemption.
LIMIT_WARNING_S = 150.0

PERSONS_SIGNALS = (signal.SIGINT, signal.SIGHUP)

# A margin longer than this share of the allocation would leave no time to train.
MAX_MARGIN_SHARE = 0.25


def allocation_end(environment: Mapping[str, str] = os.environ) -> float | None:
    """When the Slurm allocation of this process ends, in s since 1970; None off Slurm, without a limit, or untold.

    Slurm 23.02 and newer say it in SLURM_JOB_END_TIME; older ones are asked once.
    """
    job_id = environment.get("SLURM_JOB_ID")
    if job_id is None:
        return None
    told = environment.get("SLURM_JOB_END_TIME", "")
    if told.isdigit():
        return float(told)
    try:
        return parse_end_time(run_command("scontrol", "-o", "show", "job", job_id))
    except SiteError as error:
        log.warning("Cannot tell when this allocation ends: %s Only Slurm's signal will say so.", error)
        return None


def parse_end_time(job: str) -> float | None:
    """EndTime in the output of `scontrol -o show job`, in s since 1970; None: unknown or unlimited.

    Slurm writes it in the host's time zone.
    """
    match = re.search(r"\bEndTime=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", job)
    return None if match is None else datetime.datetime.fromisoformat(match[1]).timestamp()


def worker_identity(environment: Mapping[str, str] = os.environ) -> WorkerIdentity:
    """A name that no other worker of any run has, not even this task before it was requeued.

    Host, job and restart count are for people; the random end makes it unique where job ids start again.
    """
    host = platform.node().split(".")[0]
    task = slurm_task_id(environment)
    job = task or environment.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())
    restarts = int(environment.get("SLURM_RESTART_COUNT") or 0)
    restarted = f"-r{restarts}" if restarts else ""
    return WorkerIdentity(f"{host}-{job}{restarted}-{secrets.token_hex(2)}", host, task)


class Allocation:
    """The time that this process has, and the signals that end it early.

    Attributes:
        end: s since 1970; None: no limit known.
        margin_s: how long before the end work is handed back.
    """

    def __init__(self, end: float | None, margin_s: float) -> None:
        self.end = end
        self.margin_s = margin_s
        self._signal: signal.Signals | None = None
        if end is not None:
            longest = MAX_MARGIN_SHARE * max(0.0, end - time.time())
            if margin_s > longest:
                log.warning(
                    "workers.handback_margin_s is %.0f s, the allocation ends in %.0f s: handing back %.0f s before.",
                    margin_s, end - time.time(), longest,
                )  # fmt: skip
                self.margin_s = longest

    def listen(self) -> None:
        """From now on, note the signals that end an allocation instead of dying of them (main thread only).

        Those that came while this process was starting, and were held, are noted now. A person's signals stay ignored
        where they are: by nohup, and in what a script started in the background.
        """
        numbers = (*WARNING_SIGNALS, *END_SIGNALS)
        for number in numbers:
            if number not in PERSONS_SIGNALS or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt  # a person who presses Ctrl-C twice wants to leave at once
        if number in WARNING_SIGNALS and self.end is not None and self.end - time.time() < LIMIT_WARNING_S:
            return
        # TERM is final: a warning that comes after it changes nothing.
        if self._signal not in END_SIGNALS:
            self._signal = signal.Signals(number)

    def should_stop(self) -> str | None:
        """Why to checkpoint and hand back now; None: go on. Cheap enough to ask after every batch."""
        if self._signal is not None:
            return _signal_reason(self._signal)
        return ALLOCATION_END if self.is_over else None

    @property
    def is_over(self) -> bool:
        """The margin before the allocation's end has begun."""
        return self.end is not None and time.time() >= self.end - self.margin_s

    def asks_for_requeue(self, reason: str) -> bool:
        """Whether a process that leaves for this reason does so because its time is up, not because it shall go.

        To be asked before it ends: after TERM, Slurm tells a preemption from a cancellation only while the job runs.
        """
        if reason == _signal_reason(signal.SIGTERM):
            return slurm.this_job_is_preempted()
        warned = self._signal in WARNING_SIGNALS and reason == _signal_reason(self._signal)
        return self._signal not in END_SIGNALS and (warned or reason == ALLOCATION_END)


def _signal_reason(number: signal.Signals) -> str:
    return f"signal {number.name}"
