"""Damaged checkpoints: training goes on from what was written, or from an older one, never from garbage."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Evaluation
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import previous_path
from pipeline.training.checkpoint import SEAL_BYTES, TrainingState, find_resume_point, save_checkpoint
from tests.fuzz.mutations import mutated_bytes, tries

EVALUATION = Evaluation((0, 0, 0), {"batch_size": 64}, 9.0, 1, 7)
AGAIN = Evaluation((0, 0, 0), {"batch_size": 64}, 9.0, 2, 7)
WEIGHTS = {"conv": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(5)}


def save(folder: RunFolder, batches: int) -> Path:
    path = folder.checkpoint((0, 0, 0), 9.0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = TrainingState(batches, 0.5 * batches, [], 0.25, 0.5, 3)
    save_checkpoint(path, EVALUATION, state, {k: v + batches for k, v in WEIGHTS.items()}, {"momentum": [1.0, 2.0]})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path, bytes]:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    save(folder, 10)
    path = save(folder, 20)
    return folder, path, path.read_bytes()


def loaded_batches(folder: RunFolder) -> int:
    """How many batches the checkpoint that is found has; its weights are those of that moment."""
    point = find_resume_point(folder, AGAIN)
    assert point is not None
    for name, value in WEIGHTS.items():
        torch.testing.assert_close(point.model[name], value + point.state.batches)
    assert point.optimiser == {"momentum": [1.0, 2.0]}
    return point.state.batches


@tries(120)
@given(st.data())
def test_a_damaged_checkpoint_is_passed_over(checkpoint: tuple[RunFolder, Path, bytes], data: st.DataObject) -> None:
    folder, path, content = checkpoint
    path.write_bytes(data.draw(mutated_bytes(content)))
    assert loaded_batches(folder) in (10, 20)


def test_every_flipped_bit_of_the_directory_is_found(checkpoint: tuple[RunFolder, Path, bytes]) -> None:
    folder, path, content = checkpoint
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    for at in range(start, len(content) - SEAL_BYTES, 23):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert loaded_batches(folder) == 10
    path.write_bytes(content)
    assert loaded_batches(folder) == 20


def test_checkpoints_without_a_seal_are_read_as_before(checkpoint: tuple[RunFolder, Path, bytes]) -> None:
    folder, path, content = checkpoint
    path.write_bytes(content[:-SEAL_BYTES])
    assert loaded_batches(folder) == 20
    assert set(torch.load(path, weights_only=True)) == set(torch.load(previous_path(path), weights_only=True))
