"""Checkpoints: all that training needs to go on in mid-epoch, written whole, the previous one kept.

Data order and augmentation are seeded by (seed, epoch) and (seed, batch), so the number of batches is the state of
every random generator. A checkpoint is a zip file as `torch.save` writes it, holding tensors and plain values only,
and is loaded without unpickling anything else. Behind it stands a seal, the checksum of all that is before: the zip
file has one for each of its members and none for its directory, which says which bytes are whose.
"""

from __future__ import annotations

import contextlib
import logging
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from pipeline.errors import BrokenError
from pipeline.files import publish
from pipeline.records import EpochRow, Evaluation
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import await_lower_rung, candidates, previous_path

FORMAT = 1
# The seal: this mark and a CRC-32, which finds every single flipped bit. torch and zip look past it.
MARK = b"tandem CRC-32"
SEAL_BYTES = len(MARK) + 4
CHUNK_BYTES = 2**20
log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """The state of training, apart from the weights and the optimiser's momentum.

    Attributes:
        batches: steps since the first one ever; places the data order and all randomness.
        training_s: budget clock.
        rows: the curve so far, over the whole chain.
        loss_sum, error_sum: over the batches since the last row.
        batches_in_sums: how many those are.
    """

    batches: int
    training_s: float
    rows: list[EpochRow]
    loss_sum: float
    error_sum: float
    batches_in_sums: int


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint that was read.

    Attributes:
        origin: for the curve's header: "attempt 2" or "rung 3 attempt 1".
        state: see there.
        model, optimiser: state dicts, on the CPU.
    """

    origin: str
    state: TrainingState
    model: dict[str, Any]
    optimiser: dict[str, Any]


def save_checkpoint(
    path: Path,
    evaluation: Evaluation,
    state: TrainingState,
    model: dict[str, Any],
    optimiser: dict[str, Any],
    inside: Path | None = None,
) -> None:
    """Publish a checkpoint; the one that was there becomes the previous one; `inside`: see `publish`.

    Raises:
        BrokenError: it cannot be written (disk full, no permission); the text names the file.
    """
    content = {
        "format": FORMAT,
        "configuration": dict(evaluation.configuration),
        "seed": evaluation.seed,
        "state": {**asdict(state), "rows": [asdict(row) for row in state.rows]},
        "model": model,
        "optimiser": optimiser,
    }
    try:
        with publish(path, inside) as temporary:
            with temporary.open("wb") as file:
                sealed = _Sealed(file)
                torch.save(content, cast("IO[bytes]", sealed))  # it calls write and flush alone
                sealed.seal()
            # At no moment is there no whole checkpoint: the previous one is kept until this one has its name.
            if path.exists():
                path.replace(previous_path(path))
    except FileNotFoundError as error:
        raise BrokenError(f"cannot write the checkpoint {path}: {error}") from error
    # torch's zip writer wraps the disk's error in a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise BrokenError(f"cannot write the checkpoint {path}: {error}. Is the disk full?") from error


class _Sealed:
    """A file that is written from its beginning to its end, and keeps the checksum meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = 0

    def write(self, content: bytes) -> int:
        """As a file's."""
        self._sum = zlib.crc32(content, self._sum)
        return self._file.write(content)

    def flush(self) -> None:
        """As a file's."""
        self._file.flush()

    def seal(self) -> None:
        """Write the seal: nothing may follow."""
        self._file.write(MARK + self._sum.to_bytes(4, "big"))


def check_seal(path: Path) -> None:
    """Make sure that a checkpoint is as it was written; one of a version that wrote no seal passes.

    Raises:
        ValueError: it is not.
    """
    rest = path.stat().st_size - SEAL_BYTES
    checksum = 0
    with path.open("rb") as file:
        while rest > 0:
            chunk = file.read(min(rest, CHUNK_BYTES))
            if not chunk:
                raise ValueError("it becomes shorter while it is read")
            checksum = zlib.crc32(chunk, checksum)
            rest -= len(chunk)
        seal = file.read(SEAL_BYTES)
    if seal.startswith(MARK) and seal[len(MARK) :] != checksum.to_bytes(4, "big"):
        raise ValueError("its checksum differs")


def discard_previous(path: Path) -> None:
    """Delete the checkpoint before `path`, once an evaluation is finished and no longer needs it."""
    with contextlib.suppress(OSError):
        previous_path(path).unlink(missing_ok=True)


def find_resume_point(folder: RunFolder, evaluation: Evaluation) -> ResumePoint | None:
    """The best whole checkpoint that an evaluation can go on from; None: it starts from the beginning.

    In the order of `pipeline.run.lineage.candidates`. A damaged checkpoint is reported in the log and passed over.
    """
    await_lower_rung(folder, evaluation)
    for candidate in candidates(folder, evaluation):
        if candidate.path.is_file():
            try:
                return _load(candidate.path, candidate.origin, evaluation)
            except Exception as error:  # torch.load raises whatever zip, pickle and zlib do for damaged files
                log.warning("Checkpoint %s is unusable (%s); looking for an older one.", candidate.path, error)
    if evaluation.attempt > 1 or evaluation.continues is not None:
        log.warning("No usable checkpoint for %s: training starts from the beginning.", evaluation.config_id)
    return None


def _load(path: Path, origin: str, evaluation: Evaluation) -> ResumePoint:
    check_seal(path)
    with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums that torch.save wrote
        if damaged := archive.testzip():
            raise ValueError(f"checksum of {damaged} differs")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
    if content["configuration"] != dict(evaluation.configuration) or content["seed"] != evaluation.seed:
        raise ValueError("it belongs to another configuration or seed")
    state = dict(content["state"])
    state["rows"] = [EpochRow(**row) for row in state["rows"]]
    return ResumePoint(origin, TrainingState(**state), content["model"], content["optimiser"])
