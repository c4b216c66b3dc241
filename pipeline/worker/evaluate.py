"""Run one attempt and turn whatever happens into an outcome that can travel."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from pipeline.errors import BrokenError, CrashedError, TandemError, says_out_of_memory
from pipeline.records import Evaluation, TrainResult, WorkerIdentity
from pipeline.rpc.messages import Outcome
from pipeline.rpc.plain import finite_loss, plain_info
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings

log = logging.getLogger("tandem.worker")

ShouldStop = Callable[[], str | None]
Evaluate = Callable[[Evaluation, ShouldStop], TrainResult]


def run_attempt(evaluate: Evaluate, evaluation: Evaluation, should_stop: ShouldStop) -> Outcome:
    """The outcome of one attempt; never raises, except for KeyboardInterrupt.

    Failures of the configuration (not finite, out of memory, an error in the training code) are crashes; failures of
    the installation (an import, the data, a file system, a full disk) are broken.
    """
    try:
        result = evaluate(evaluation, should_stop)
    except CrashedError as error:
        return Outcome("crashed", kind=error.kind, reason=error.reason)
    except (BrokenError, TandemError, ImportError, OSError) as error:
        log.exception("the installation is at fault")
        return Outcome("broken", reason=f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        raise
    except MemoryError as error:
        return Outcome("crashed", kind="out_of_memory", reason=f"host memory: {error or 'no more could be had'}")
    except BaseException as error:  # sys.exit() in an evaluation must not lose it
        log.exception("the evaluation raised an error")
        # By name: torch is not imported here.
        is_out_of_memory = type(error).__name__ == "OutOfMemoryError" or says_out_of_memory(error)
        kind = "out_of_memory" if is_out_of_memory else "error"
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(
            "crashed", kind=kind, reason=f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        )
    return _outcome(result)


def _outcome(result: Any) -> Outcome:
    if not isinstance(result, TrainResult):
        return Outcome("crashed", kind="bad_result", reason=f"training returned a {type(result).__name__}")
    if result.status == "handed_back":
        return Outcome("handed_back", reason=result.reason)
    try:
        return Outcome("finished", loss=finite_loss(result.loss), info=plain_info(_mapping(result.info)))
    except TypeError as error:
        return Outcome("crashed", kind="bad_result", reason=str(error))
    except ValueError as error:
        kind = "not_finite" if str(error).startswith("the loss is") else "bad_result"
        return Outcome("crashed", kind=kind, reason=str(error))


def _mapping(info: Any) -> Mapping[str, Any]:
    return {} if info is None else info


def is_device_lost(outcome: Outcome) -> bool:
    """Whether this process's GPU answers no more: after such an error every later call fails, too."""
    signs = ("CUDA error", "AcceleratorError", "CUBLAS_STATUS_EXECUTION_FAILED", "device-side assert")
    may_be = outcome.status == "broken" or outcome.kind == "error"
    return may_be and any(sign in outcome.reason for sign in signs)


class TrainingEvaluator:
    """The real thing: trains with `pipeline.training`; the data are loaded by the first evaluation.

    torch is imported when this is made, before the worker joins: on a cold file system that takes minutes, in which
    Python answers no ping.
    """

    def __init__(self, folder: RunFolder, settings: Settings, identity: WorkerIdentity) -> None:
        self._folder = folder
        self._settings = settings
        self._identity = identity
        self._data: Any = None
        with contextlib.suppress(Exception):  # the first evaluation meets it again, and tells the master
            import_module("pipeline.training.train")

    def __call__(self, evaluation: Evaluation, should_stop: ShouldStop) -> TrainResult:
        """Train one attempt; errors as `pipeline.training.train`."""
        from pipeline.storage.curves import AttemptFile
        from pipeline.training.data import load_data
        from pipeline.training.device import device_for
        from pipeline.training.train import train

        if self._data is None:
            self._data = load_data(self._settings.data, device_for(self._settings))
        path = self._folder.attempt(evaluation.config_id, evaluation.budget, evaluation.attempt)
        curve = AttemptFile(path, self._folder.path)
        return train(evaluation, self._settings, self._folder, self._data, curve, self._identity, should_stop)
