"""What evaluates a problem of one's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.records import WorkerIdentity
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.worker.own_objective import OwnEvaluator


@pytest.fixture(scope="module")
def evaluator(folder: RunFolder) -> Iterator[OwnEvaluator]:
    """Of the run that the test file calls `folder`."""
    made = OwnEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
    yield made
    made.close()
