"""Keep the checkpoints that are of use and delete the others, so that disk use is bounded.

`pipeline.master.retention` says which are of use. Files are deleted in a thread of its own. Each budget's incumbent
keeps its weights in `incumbents/`, and so does, where there are several objectives, every configuration of the front on
the largest budget. Beside these, at most

    largest checkpoint x (configurations that can still be promoted + 5 x running attempts + 2 x interrupted ones)

is on disk, which `tandem status` shows.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import shutil
import stat
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pipeline.files import publish_json
from pipeline.master.lease import LeaseLostError
from pipeline.master.retention import Standing, is_over, most_checkpoints, parse_checkpoint, standing_of, useless
from pipeline.master.threads import guarded
from pipeline.records import ConfigId, config_name
from pipeline.rpc.messages import AttemptId
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.search.brackets import ConfigGroup
from pipeline.search.search import Search

log = logging.getLogger("tandem.master")

Task = Callable[[], None]

MEASURE_S = 30.0
# How soon what the disk has refused is tried again.
RETRY_S = 5.0


class CheckpointKeeper:
    """Deletes checkpoints and keeps incumbents.

    Args:
        check_lease: raises LeaseLostError once the files are another master's to put in order.

    Attributes:
        used_mb: disk that checkpoints use, measured every half minute.
        bound_mb: the most that they may come to now.
        problem: what keeps an incumbent's weights from being kept now, or "".
    """

    def __init__(
        self,
        folder: RunFolder,
        search: Search,
        inbox: Queue,
        runtime: Runtime = SYSTEM,
        check_lease: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_lease = check_lease
        self._runtime = runtime
        self._folder = folder
        self._search = search
        self._continues = search.settings.search.promotion == "continue"
        # The latest attempt that ended without a result, by configuration and budget.
        self._interrupted: dict[ConfigId, dict[float, int]] = defaultdict(dict)
        self._tasks: Queue = runtime.queue()
        # What the disk has refused, and what was to follow, by configuration.
        self._refused: dict[ConfigId, list[Task]] = {}
        self._cleared: set[ConfigId] = set()
        self._front: set[ConfigId] = set()  # whose weights are kept
        self._largest = 0
        self._load = (0, 0)
        self.used_mb = 0.0
        self.problem = ""
        self._thread = runtime.thread(guarded(inbox, "checkpoints", self._run), "checkpoints")
        self._thread.start()

    @property
    def bound_mb(self) -> float:
        """See the class."""
        return most_checkpoints(self._search, *self._load, self._continues) * self._largest / 1e6

    def catch_up(self) -> None:
        """Do what an earlier master may have died before: results are durable before checkpoints are looked at."""
        for budget, (config_id, loss) in self._search.incumbents.items():
            self._keep(config_id, budget, loss)
        if self._search.objectives:  # among all that have been there, whose weights an earlier master may have kept
            self._keep_front(set(self._search.objectives.on_budget(self._search.ladder[-1])[0]))
        for bracket in self._search.iterations:
            self._tidy_those_that_are_over(bracket)

    def evaluation_ended(self, result: Result, attempt: AttemptId) -> None:
        """An evaluation has its result, and the search knows it: keep what is of use, delete the rest, soon."""
        config_id, budget = attempt.key
        if self._search.incumbents.get(budget, (None,))[0] == config_id and result.loss is not None:
            self._keep(config_id, budget, result.loss)
        if self._search.objectives and budget == self._search.ladder[-1]:
            self._keep_front(self._front)
        # Without barriers, every configuration may be promoted until the last evaluation ends.
        for bracket in self._search.iterations if self._search.is_done else [self._search.iterations[config_id[0]]]:
            self._tidy_those_that_are_over(bracket)
        if config_id not in self._cleared:
            self._tidy(config_id)

    def attempt_ended(self, attempt: AttemptId) -> None:
        """An attempt ended without a result: what it has written replaces what those before it left."""
        latest = self._interrupted[attempt.config_id]
        latest[attempt.budget] = max(attempt.number, latest.get(attempt.budget, 0))
        self._tidy(attempt.config_id)

    def attempt_was_superfluous(self, attempt: AttemptId) -> None:
        """Another attempt has the result: this one's checkpoints are of no use."""
        self._tidy(attempt.config_id)

    def _keep(self, config_id: ConfigId, budget: float, loss: float) -> None:
        attempt = AttemptId(config_id, budget, self._search.accepted[config_id, budget].attempt)
        target = self._folder.kept_weights(budget)
        self._put(config_id, lambda: self._keep_weights(attempt, loss, target))

    def _keep_front(self, before: set[ConfigId]) -> None:
        """Keep the weights of the front on the largest budget, and delete those of `before` that are not on it."""
        budget, objectives = self._search.ladder[-1], self._search.objectives
        front = set(objectives.front(budget))
        for config_id in sorted(front - self._front):
            attempt = AttemptId(config_id, budget, self._search.accepted[config_id, budget].attempt)
            target, loss = self._folder.kept_weights(budget, config_id), objectives.losses[config_id, budget][0]
            self._put(config_id, functools.partial(self._keep_weights, attempt, loss, target))
        for config_id in sorted(before - front):
            self._put(config_id, functools.partial(_delete_weights, self._folder.kept_weights(budget, config_id)))
        self._front = front

    def _tidy_those_that_are_over(self, bracket: ConfigGroup) -> None:
        for config_id in bracket.data:
            if config_id not in self._cleared and is_over(bracket, config_id):
                self._cleared.add(config_id)
                self._interrupted.pop(config_id, None)
                self._tidy(config_id)

    def _tidy(self, config_id: ConfigId) -> None:
        """Delete what is of no use now, soon. The thread sees the search as it stands at this moment."""
        standing = standing_of(self._search, config_id, self._interrupted.get(config_id, {}))
        self._put(config_id, lambda: self._delete_useless(config_id, standing))

    def _put(self, config_id: ConfigId | None, task: Task) -> None:
        self._tasks.put((config_id, task))

    def note_load(self, running: int, interrupted: int) -> None:
        """How many attempts are under way and how many evaluations wait to go on: what the bound depends on."""
        self._load = running, interrupted

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
        ended = self._runtime.time() if was_seen else _modified(self._folder.attempt(*attempt.key, attempt.number))
        return max(0.0, ended - written)

    def call(self, task: Task) -> None:
        """Have a task done after those before it, and wait for it."""
        done = self._runtime.event()
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
            if self._runtime.monotonic() - measured >= MEASURE_S:
                measured = self._runtime.monotonic()
                self.measure()

    def _do(self, config_id: ConfigId | None, task: Task) -> None:
        """Do a task. What follows a refused one of the same configuration waits: it would delete what is to be kept."""
        if config_id in self._refused:
            self._refused[config_id].append(task)
            return
        try:
            if config_id is not None:
                self._check_lease()
            task()
        except LeaseLostError:
            return
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

    def _keep_weights(self, attempt: AttemptId, loss: float, target: Path) -> None:
        source = self._folder.checkpoint(*attempt.key, attempt.number)
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

    def _delete_useless(self, config_id: ConfigId, standing: Standing) -> None:
        folder = self._checkpoints_of(config_id)
        if standing.is_over:
            shutil.rmtree(folder, ignore_errors=True)
            return
        found = [file for path in folder.glob("*") if (file := parse_checkpoint(path.name)) is not None]
        for file in useless(found, standing, self._continues):
            (folder / file.name).unlink(missing_ok=True)

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


def _delete_weights(kept: Path) -> None:
    for path in (kept.with_suffix(".json"), kept):
        path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    """When a file was written last, s since 1970; 0 when there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
