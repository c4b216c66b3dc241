"""Which nodes end workers before they join: a module is missing there, a disk is full, the network is blocked.

The master hears nothing of such a worker. Slurm does: its task has ended, and the journal has no worker of that task.
Without Slurm, this machine does: the worker's process is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.launch import local_workers
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_journal
from pipeline.wording import counted

# States of a task that ended by itself; others were ended by a person, by Slurm or with their node.
ENDED_BY_ITSELF = ("COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY")
LAST_WORDS = 200


class FailedStarts:
    """Counts tasks that ended before their workers joined, by node, until a worker of the node joins.

    Args:
        limit: so many of them, and the node is to be left out, if workers of another node have joined.

    Attributes:
        problem: what a person should know, or "".
        failing_nodes: nodes to leave out, with the reason.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[str] = set()
        self._failed: dict[str, list[str]] = defaultdict(list)
        self._works: set[str] = set()
        self.problem = ""
        self.failing_nodes: Mapping[str, str] = {}

    def submitted(self, jobs: Iterable[str]) -> None:
        """These tasks are to be followed."""
        self._open |= set(jobs)

    def look(self, folder: RunFolder, tasks: Iterable[slurm.Task]) -> None:
        """See which of the tasks have joined, and which have ended instead.

        Args:
            tasks: as squeue has them, those that ended lately included.
        """
        if not self._open:
            return
        ended = [t for t in tasks if t.job_id in self._open and t.state in ENDED_BY_ITSELF]
        # After squeue: what has joined by now has joined.
        joined = {e["slurm_job_id"]: str(e["host"]) for e in read_journal(folder) if e["event"] == "worker_joined"}
        for job in self._open & set(joined):
            self._works.add(joined[job])
            self._failed.pop(joined[job], None)
        for task in ended:
            if task.job_id not in joined:
                self._failed[task.node].append(task.job_id)
        self._open -= {task.job_id for task in ended} | set(joined)
        self._conclude(folder)

    def _conclude(self, folder: RunFolder) -> None:
        self.failing_nodes = {
            node: f"{counted(len(jobs), 'task')} ended there before a worker joined; the last one said: "
            f"{last_words(folder, jobs[-1])}"
            for node, jobs in self._failed.items()
            if len(jobs) >= self._limit and self._works - {node}
        }
        others = {node: jobs for node, jobs in self._failed.items() if node not in self.failing_nodes}
        self.problem = ""
        if others:
            jobs = [job for each in others.values() for job in each]
            self.problem = (
                f"{counted(len(jobs), 'task')} ended on {', '.join(sorted(others))} before a worker joined. The last "
                f"one said: {last_words(folder, jobs[-1])} ({task_log(folder, jobs[-1])})"
            )


class FailedProcesses:
    """Counts worker processes of this machine that ended before they joined, until one joins.

    Attributes:
        problem: what a person should know, or "".
    """

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._failed: list[str] = []
        self.problem = ""

    def submitted(self, jobs: Iterable[str]) -> None:
        """These are to be followed; each is known by its controller."""
        self._open |= set(jobs)

    def ended_on_purpose(self, jobs: Iterable[str]) -> None:
        """These count no more."""
        self._open -= set(jobs)

    def look(self, folder: RunFolder, running: Iterable[str]) -> None:
        """See which have joined, and which have ended instead.

        Args:
            running: the controllers that live.
        """
        if not self._open:
            return
        ended = self._open - set(running)
        # After the look at the processes: what has joined by now has joined.
        names = [str(e["worker"]) for e in read_journal(folder) if e["event"] == "worker_joined"]
        joined = local_workers.among(self._open, names)
        if joined:
            self._failed.clear()
        self._failed += sorted(ended - joined)
        self._open -= ended | joined
        self.problem = ""
        if self._failed:
            self.problem = (
                f"{counted(len(self._failed), 'worker')} of this machine ended before joining. The last one "
                f"said: {last_words(folder, self._failed[-1])} ({task_log(folder, self._failed[-1])})"
            )


def task_log(folder: RunFolder, job: str) -> Path:
    """The log of a task, as submitit names it."""
    return folder.jobs / f"{job}_0_log.out"


def last_words(folder: RunFolder, job: str) -> str:
    """The last line of a task's log that says why it ended."""
    try:
        lines = task_log(folder, job).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "nothing: it has no log, so its node may not see the run folder"
    said = [line.strip() for line in lines if line.strip()]
    own = [line for line in said if not line.startswith("srun: ")]  # srun repeats the exit code
    return (own or said or ["nothing: its log is empty"])[-1][-LAST_WORDS:]
