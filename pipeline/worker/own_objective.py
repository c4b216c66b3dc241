"""Evaluate with an objective of the user's own, in a child process that lives on from evaluation to evaluation.

The child may die, hang, or go on although it is to stop: then it is ended, the evaluation is told as what it was, and
the next one gets a fresh child.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable

from pipeline.cluster.gpus import usable_gpus
from pipeline.cluster.sharing import threads_for
from pipeline.errors import BrokenError, CrashedError
from pipeline.problems.description import describe
from pipeline.problems.freezing import CHILD, READ_S, child_interpreter, child_source
from pipeline.records import Evaluation, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings
from pipeline.worker.child_process import ChildProcess
from pipeline.worker.folder_watch import FolderWatch
from pipeline.worker.own_attempt import OwnAttempt

log = logging.getLogger("tandem.worker")

POLL_S = 0.05
# A command's own grace, from TERM to KILL, comes before its child is ended.
COMMAND_GRACES = 3
# A child that holds this much more memory than after its first evaluation, and twice as much, is replaced.
LEAK_MB = 1000.0
# Shares of the budget from which on it is worth a word that an objective keeps to its own.
OVERSPENT, UNDERSPENT = 1.5, 0.5
# After a crash of one of these kinds the process may be in no state to try another.
_POISONS = ("out_of_memory", "died", "hung", "did_not_stop")

ShouldStop = Callable[[], str | None]


class OwnEvaluator:
    """An `Evaluate` whose training is the user's.

    Args:
        folder: the run's, with the problem's copy.
        settings: the run's, frozen.
        identity: the worker's.
    """

    def __init__(self, folder: RunFolder, settings: Settings, identity: WorkerIdentity) -> None:
        self._folder = folder
        self._settings = settings
        self._identity = identity
        self._problem = describe(settings)
        self._device, self._gpus = _device(settings)
        self._child: ChildProcess | None = None
        self._is_ready = False
        self._resident_mb = 0.0
        self._watch = FolderWatch(folder)
        self._start()  # it imports while the worker joins

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
        self._child, self._is_ready, self._resident_mb = None, False, 0.0

    def __call__(self, evaluation: Evaluation, should_stop: ShouldStop) -> TrainResult:
        """One attempt.

        Raises:
            CrashedError: the configuration's fault.
            BrokenError: the installation's: the problem does not import, the disk is full.
        """
        child = self._await_child(should_stop)
        if isinstance(child, str):
            return TrainResult("handed_back", None, {}, child)
        if not self._folder.path.is_dir():  # the child would make it again
            raise BrokenError(f"the run folder {self._folder.path} is gone: was it renamed or moved?")
        attempt = OwnAttempt(
            evaluation, self._settings, self._folder, self._identity, self._problem, self._device, self._gpus
        )
        try:
            with attempt.failures_end_the_curve():
                return self._run(child, attempt, should_stop)
        except CrashedError as error:
            if error.kind in _POISONS or "CUDA" in error.reason:
                self.close()
            raise
        except BaseException:
            self.close()
            raise
        finally:
            with contextlib.suppress(OSError):  # what the objective has left there is its own
                self._folder.trial(evaluation.config_id, evaluation.budget, evaluation.attempt).rmdir()

    # The child -----------------------------------------------------------------------------------------------------
    def _start(self) -> ChildProcess:
        source = child_source(self._settings, self._folder.path)
        command = [child_interpreter(self._settings), str(CHILD), "work", json.dumps(source)]
        threads = str(threads_for(self._settings))
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        }
        try:
            self._child = ChildProcess(command, environment, self._folder.output_log(self._identity.name))
        except OSError as error:
            raise BrokenError(f"problem.python: {command[0]} cannot be started: {error}") from None
        return self._child

    def _await_child(self, should_stop: ShouldStop) -> ChildProcess | str:
        """A child that is ready, or why not to wait for one."""
        child = self._child or self._start()
        deadline = time.monotonic() + READ_S
        while not self._is_ready:
            for message in child.receive(POLL_S):
                if "broken" in message:
                    self.close()
                    raise BrokenError(f"the problem cannot be loaded: {message['broken']}")
                self._is_ready = self._is_ready or "ready" in message
            if not self._is_ready and not child.is_alive:
                how = child.how_it_ended()
                self.close()
                raise BrokenError(f"the problem cannot be loaded: {how}")
            if time.monotonic() > deadline:
                self.close()
                raise BrokenError(f"the problem was not loaded in {READ_S:.0f} s")
            if reason := should_stop():
                return reason
        return child

    # One attempt ---------------------------------------------------------------------------------------------------
    def _run(self, child: ChildProcess, attempt: OwnAttempt, should_stop: ShouldStop) -> TrainResult:
        problem = self._settings.problem
        grace_s = problem.stop_grace_s * (COMMAND_GRACES if problem.command else 1)
        asked, deadline = "", math.inf
        of = attempt.evaluation
        child.begin_evaluation(f"evaluation {of.config_id} on {of.budget:g}, attempt {of.attempt}")
        child.heard_at = time.monotonic()
        child.send(evaluate=attempt.order())
        while not attempt.has_ended:
            messages = child.receive(POLL_S)
            for message in messages:
                attempt.take(message, child)
            attempt.write_when_due()
            if not messages and not child.is_alive:
                raise CrashedError("died", child.how_it_ended())
            now = time.monotonic()
            if not asked and (reason := should_stop()):
                asked, deadline = reason, now + grace_s
                child.send(stop=reason)
            if attempt.told and deadline == math.inf:
                deadline = now + grace_s
            if now > deadline:
                if asked:
                    return self._end_by_force(attempt, asked, grace_s)
                raise CrashedError("did_not_stop", f"it went on for {grace_s:g} s after its budget was spent")
            if now - child.heard_at > 60 * problem.hang_timeout_min:
                silent = f"no row, no step and no question whether to stop for {problem.hang_timeout_min:g} min"
                raise CrashedError("hung", f"{silent} (problem.hang_timeout_min)")
        self._note(attempt)
        return attempt.result(asked)

    def _end_by_force(self, attempt: OwnAttempt, reason: str, grace_s: float) -> TrainResult:
        self.close()
        text = f"{reason}; it did not stop within {grace_s:g} s and was ended"
        log.warning("evaluation %s: %s", attempt.evaluation.config_id, text)
        return attempt.hand_back(text)

    def _note(self, attempt: OwnAttempt) -> None:
        """Say what is worth saying once, and replace a child that has grown."""
        assert attempt.ended is not None
        end, budget, unit = attempt.ended, attempt.evaluation.budget, self._settings.search.budget_unit
        spent = float(end.get("spent", 0.0))
        if not end.get("asked", True) and spent > OVERSPENT * budget:
            attempt.note(f"the objective never asks trial.should_stop(): of {budget:g} {unit} it trained {spent:.3g}")
        elif end.get("status") == "finished" and 0 < spent < UNDERSPENT * budget and not end.get("stop_reason"):
            attempt.note(f"the objective returned by itself after {spent:.3g} of {budget:g} {unit}")
        if self._child is not None and self._child.was_cut:
            attempt.note("its output is more than the log keeps of an evaluation: the rest is left out")
        for name in self._watch.news():
            attempt.note(
                f"{name} came or changed in the run folder while it ran; what it keeps belongs into trial.folder"
            )
        resident_mb = float(end.get("resident_mb", 0.0))
        self._resident_mb = self._resident_mb or resident_mb
        if resident_mb > max(2 * self._resident_mb, self._resident_mb + LEAK_MB):
            log.warning("the objective's process has grown from %.0f to %.0f MB: the next evaluation gets a fresh one",
                        self._resident_mb, resident_mb)  # fmt: skip
            self.close()


def _device(settings: Settings) -> tuple[str, int]:
    """Where objectives train, and on how many GPUs; asked once, since nvidia-smi takes a moment."""
    gpus, wanted = len(usable_gpus(settings)), settings.training.device
    device = ("cuda" if gpus else "cpu") if wanted == "auto" else wanted
    return device, 0 if device == "cpu" else gpus
