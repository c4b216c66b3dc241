"""Train one configuration for one budget and report its learning curve."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from models.cost import Cost
from models.registry import model_cost
from pipeline.errors import BrokenError, CrashedError, DataError, says_out_of_memory
from pipeline.records import CurveSink, Evaluation, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings
from pipeline.training.checkpoint import TrainingState, find_resume_point
from pipeline.training.data import ImageData
from pipeline.training.device import memory_limit_bytes, set_up_device, synchroniser, uses_bfloat16
from pipeline.training.loop import TrainingLoop
from pipeline.training.optimiser import MOMENTS, SGD
from pipeline.training.recorder import Recorder
from pipeline.training.trainer import Trainer
from tandem_trial.clock import PhaseClock

StopReason = Callable[[], str | None]


def never_stop() -> str | None:
    """No reason to stop before the budget is spent."""
    return None


def train(
    evaluation: Evaluation,
    settings: Settings,
    folder: RunFolder,
    data: ImageData,
    curve: CurveSink,
    worker: WorkerIdentity,
    should_stop: StopReason = never_stop,
) -> TrainResult:
    """Train until the evaluation's budget is spent, then validate.

    Goes on from the best checkpoint that the run folder holds for the evaluation. Checkpoints are written at
    intervals, when stopped and at the end, where the last one stays for a promotion.

    Args:
        evaluation: what to train, and how long.
        settings: the run's.
        folder: where checkpoints are.
        data: loaded once by the worker; its device trains.
        curve: receives header, rows and end.
        worker: for the records.
        should_stop: asked before every batch; a reason makes training write a checkpoint and hand the evaluation back.

    Returns:
        "finished" with the final validation error as its loss, or "handed_back" with the reason.

    Raises:
        CrashedError: the configuration's fault: too_large (before it is built), out_of_memory, not_finite, error.
        BrokenError: the installation's fault: a full disk, a failed device.
        The curve has ended with status crashed or broken by then.
    """
    phases = PhaseClock(synchroniser(data.device))
    set_up_device(settings, data.device)
    if data.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(data.device)
    try:
        cost = model_cost(evaluation.configuration, data.info.image_shape, data.info.classes)
    except ValueError as error:
        raise CrashedError("error", str(error)) from None
    recorder = Recorder(evaluation, settings, folder.run_id, data, cost, curve, worker, phases)
    with _failures_end_the_curve(recorder):
        refusal = too_large(cost, evaluation, settings, data)
        point = None if refusal else find_resume_point(folder, evaluation)
        state = point.state if point else TrainingState(0, 0.0, [], 0.0, 0.0, 0)
        recorder.begin(point.origin if point else "start", state.rows, state.training_s)
        if refusal:
            raise CrashedError("too_large", refusal)
        trainer = Trainer(evaluation, settings, data)
        if point:
            trainer.load(point)
            del point  # its weights are in the model now
        loop = TrainingLoop(evaluation, settings, folder, trainer, recorder, phases, should_stop)
        return loop.run()


def too_large(cost: Cost, evaluation: Evaluation, settings: Settings, data: ImageData) -> str:
    """Why a configuration must not be built here, with its size; "" when it fits."""
    most = settings.training.max_parameters
    if cost.parameters > most:
        return f"{cost.parameters:,} parameters, training.max_parameters allows {most:,}"
    batch_size = evaluation.configuration.get("batch_size")
    activation_bytes = 2 if uses_bfloat16(settings, data.device) else 4
    moments = MOMENTS.get(str(evaluation.configuration.get("optimizer", SGD)), 1)
    need = cost.training_bytes(int(batch_size or 1), activation_bytes, moments)
    limit = memory_limit_bytes(settings, data.device)
    if need > limit:
        return (
            f"{cost.parameters:,} parameters and a batch of {batch_size} need about {need / 1e9:.1f} GB, "
            f"{limit / 1e9:.1f} GB are allowed (training.memory_gb sets another limit)"
        )
    return ""


@contextlib.contextmanager
def _failures_end_the_curve(recorder: Recorder) -> Iterator[None]:
    """Give every failure its kind, and the curve its end."""
    try:
        yield
    except CrashedError as error:
        recorder.end("crashed", str(error))
        raise
    except (BrokenError, DataError) as error:
        _end_if_possible(recorder, "broken", str(error))
        raise
    except Exception as error:
        failure = _classify(error)
        _end_if_possible(recorder, "crashed" if isinstance(failure, CrashedError) else "broken", str(failure))
        raise failure from error


# The CUDA runtime's own errors; older versions of PyTorch have no class for them.
_DEVICE_ERRORS: tuple[type[Exception], ...] = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))


def _classify(error: Exception) -> CrashedError | BrokenError:
    """Whose fault an unexpected error is."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or says_out_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return CrashedError("out_of_memory", text)
    if isinstance(error, _DEVICE_ERRORS):
        return BrokenError(f"the device failed: {text}")
    return CrashedError("error", f"{type(error).__name__}: {text}")


def _end_if_possible(recorder: Recorder, status: str, reason: str) -> None:
    # The disk that broke the attempt cannot take its end either; the first error is the one to tell.
    with contextlib.suppress(BrokenError):
        recorder.end(status, reason)
