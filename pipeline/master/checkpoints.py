"""Which checkpoints are still of use: the others are deleted, so that disk use is bounded.

A configuration that can still be promoted keeps the checkpoint of its accepted attempt on its highest budget; an
attempt that runs keeps two, and one that is being written; until it has one, the attempt that it goes on from keeps
two as well, and so does one that waits to go on. Everything else goes, in a thread of its own. Each budget's incumbent
keeps its weights in `incumbents/`. So at most

    largest checkpoint x (configurations that can still be promoted + 5 x running attempts + 2 x interrupted ones)

is on disk, which `tandem status` shows. With promotions that restart, no finished attempt needs its checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.files import publish_json
from pipeline.master.events import Event
from pipeline.master.threads import guarded
from pipeline.records import ConfigId, budget_name, config_name
from pipeline.rpc.messages import AttemptId
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result
from pipeline.search.brackets import Bracket
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

Task = Callable[[], None]

MEASURE_S = 30.0
# How soon what the disk has refused is tried again.
RETRY_S = 5.0
# With what is appended to the name of a previous one, and put before that of one being written.
CHECKPOINT_NAME = re.compile(r"\.?b(?P<budget>.+)-a(?P<attempt>\d+)\.pt")


class CheckpointKeeper:
    """Deletes checkpoints and keeps incumbents.

    Attributes:
        used_mb: disk that checkpoints use, measured every half minute.
        bound_mb: the most that they may come to now.
        problem: what keeps an incumbent's weights from being kept now, or "".
    """

    def __init__(self, folder: RunFolder, settings: Settings, inbox: queue.SimpleQueue[Event]) -> None:
        self._folder = folder
        self._continues = settings.search.promotion == "continue"
        self._tasks: queue.SimpleQueue[tuple[ConfigId | None, Task] | None] = queue.SimpleQueue()
        # What the disk has refused, and what was to follow, by configuration.
        self._refused: dict[ConfigId, list[Task]] = {}
        self._cleared: set[ConfigId] = set()
        self._largest = 0
        self._slots = 0
        self.used_mb = 0.0
        self.problem = ""
        self._thread = threading.Thread(
            target=guarded(inbox, "checkpoints", self._run), name="checkpoints", daemon=True
        )
        self._thread.start()

    @property
    def bound_mb(self) -> float:
        """See the class."""
        return self._slots * self._largest / 1e6

    def catch_up(self, search: Search) -> None:
        """Do what an earlier master may have died before: results are durable before checkpoints are looked at."""
        for budget, (config_id, loss) in search.incumbents.items():
            self._keep(AttemptId(config_id, budget, search.accepted[config_id, budget].attempt), loss)
        for bracket in search.iterations:
            self._clear_useless(bracket)

    def evaluation_ended(self, search: Search, result: Result, attempt: AttemptId) -> None:
        """An evaluation has its result, and the search knows it: keep what is of use, delete the rest, soon."""
        config_id, budget = attempt.key
        if search.incumbents.get(budget, (None,))[0] == config_id and result.loss is not None:
            self._keep(attempt, result.loss)
        self._clear_useless(search.iterations[config_id[0]])
        if config_id not in self._cleared:
            self._put(config_id, lambda: self._clear_older(attempt))

    def attempt_ended(self, attempt: AttemptId) -> None:
        """An attempt was interrupted: what it has written replaces what those before it left."""
        self._put(attempt.config_id, lambda: self._clear_before(attempt))

    def attempt_was_superfluous(self, attempt: AttemptId) -> None:
        """Another attempt has the result: this one's checkpoints are of no use."""
        self._put(attempt.config_id, lambda: self._clear_attempt(attempt))

    def _keep(self, attempt: AttemptId, loss: float) -> None:
        self._put(attempt.config_id, lambda: self._keep_incumbent(attempt, loss))

    def _clear_useless(self, bracket: Bracket) -> None:
        for config_id, datum in bracket.data.items():
            if datum.status in ("TERMINATED", "CRASHED", "COMPLETED") and config_id not in self._cleared:
                self._cleared.add(config_id)
                self._put(config_id, lambda config_id=config_id: self._clear(config_id))  # type: ignore[misc]

    def _put(self, config_id: ConfigId | None, task: Task) -> None:
        self._tasks.put((config_id, task))

    def note_load(self, search: Search, running: int, interrupted: int) -> None:
        """How many checkpoints are of use now."""
        alive = sum(len(b.data) - sum(c in self._cleared for c in b.data) for b in search.open_brackets())
        self._slots = (alive if self._continues else 0) + 5 * running + 2 * interrupted

    def seconds_since_checkpoint(self, attempt: AttemptId, started: float | None, was_seen: bool) -> float:
        """About how long a lost attempt has trained since its last checkpoint, in s.

        Args:
            started: when it began, s since 1970; None: it never did.
            was_seen: its worker was there until now: an upper bound, since its last minutes are in nobody's books. Else
                nobody knows when it ended, and what its files show is taken.
        """
        if started is None:
            return 0.0
        written = max(started, _modified(self._folder.checkpoint(*attempt.key, attempt.number)))
        ended = time.time() if was_seen else _modified(self._folder.attempt(*attempt.key, attempt.number))
        return max(0.0, ended - written)

    def call(self, task: Task) -> None:
        """Have a task done after those before it, and wait for it."""
        done = threading.Event()
        self._put(None, task)
        self._put(None, done.set)
        done.wait()

    def close(self) -> None:
        """Do what is left to do as far as the disk lets it, and end."""
        self._tasks.put(None)
        self._thread.join()

    # The thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        measured = 0.0
        while True:
            try:
                entry = self._tasks.get(timeout=RETRY_S if self._refused else MEASURE_S)
            except queue.Empty:
                self._try_again()
            else:
                if entry is None:
                    return  # what the disk refuses still, the next master does
                self._do(*entry)
            if time.monotonic() - measured >= MEASURE_S:
                measured = time.monotonic()
                self.measure()

    def _do(self, config_id: ConfigId | None, task: Task) -> None:
        """Do a task. What follows a refused one of the same configuration waits: it would delete what is to be kept."""
        if config_id in self._refused:
            self._refused[config_id].append(task)
            return
        try:
            task()
        except OSError as error:
            if config_id is None:
                raise
            log.warning("the checkpoints of %s cannot be put in order yet: %s", config_name(config_id), error)
            self._refused[config_id] = [task]
            self.problem = f"an incumbent's weights cannot be kept in {self._folder.incumbents}: {error}"

    def _try_again(self) -> None:
        refused, self._refused = self._refused, {}
        for config_id, tasks in refused.items():
            for task in tasks:
                self._do(config_id, task)
        if not self._refused:
            self.problem = ""

    def _keep_incumbent(self, attempt: AttemptId, loss: float) -> None:
        source = self._folder.checkpoint(*attempt.key, attempt.number)
        target = self._folder.incumbents / f"b{budget_name(attempt.budget)}.pt"
        if not source.exists():
            return
        self._folder.incumbents.mkdir(exist_ok=True)
        temporary = target.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)  # no second copy on disk, and done at once
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # replacing a file by another link to itself leaves both
        about = {"config_id": config_name(attempt.config_id), "budget": attempt.budget, "attempt": attempt.number}
        publish_json(target.with_suffix(".json"), {**about, "loss": loss})

    def _clear(self, config_id: ConfigId) -> None:
        shutil.rmtree(self._checkpoints_of(config_id), ignore_errors=True)

    def _clear_older(self, accepted: AttemptId) -> None:
        """Delete what other attempts on this budget, and all on lower ones, have left; the next rung may have begun."""
        kept = self._folder.checkpoint(*accepted.key, accepted.number).name if self._continues else None
        for path, budget, _ in self._written(accepted.config_id):
            if budget <= accepted.budget and path.name != kept:
                path.unlink(missing_ok=True)

    def _clear_before(self, attempt: AttemptId) -> None:
        """Delete what the attempts before this one have left on this budget, once it has a checkpoint of its own."""
        if not self._folder.checkpoint(*attempt.key, attempt.number).exists():
            return
        for path, budget, number in self._written(attempt.config_id):
            if budget == attempt.budget and number < attempt.number:
                path.unlink(missing_ok=True)

    def _clear_attempt(self, attempt: AttemptId) -> None:
        for path, budget, number in self._written(attempt.config_id):
            if budget == attempt.budget and number == attempt.number:
                path.unlink(missing_ok=True)

    def _written(self, config_id: ConfigId) -> Iterator[tuple[Path, float, int]]:
        """What attempts at a configuration have left: files of checkpoints, with their budgets and attempts."""
        for path in self._checkpoints_of(config_id).glob("*"):
            named = CHECKPOINT_NAME.match(path.name)
            if named is not None:
                yield path, float(named["budget"]), int(named["attempt"])

    def _checkpoints_of(self, config_id: ConfigId) -> Path:
        return self._folder.checkpoint(config_id, 1.0, 1).parent

    def measure(self) -> None:
        """Look at what is on disk (in the keeper's thread)."""
        sizes = []
        try:
            for path in self._folder.checkpoints.rglob("*"):
                with contextlib.suppress(OSError):  # deleted meanwhile
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        sizes.append(status.st_size)
        except OSError as error:  # of a folder; the next time will do
            log.info("the checkpoints cannot be measured now: %s", error)
            return
        self.used_mb = sum(sizes) / 1e6
        self._largest = max([self._largest, *sizes])


def _modified(path: Path) -> float:
    """When a file was written last, s since 1970; 0 when there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
