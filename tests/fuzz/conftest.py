"""A small run folder whose files are damaged in every way, and the commands that must cope with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.run.folder import RunFolder
from pipeline.run.status import publish_status
from pipeline.settings import load_settings
from tests.unit.run.statuses import status_of

SETTINGS = load_settings(
    "digits", ["search.iterations=2", "workers.count=2", "search.max_budget=9", "search.min_budget=1"]
)


@pytest.fixture(scope="module", autouse=True)
def _no_patience() -> Iterator[None]:
    """What is damaged stays damaged: nobody need wait for another host's file to become whole."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pipeline.files", "pipeline.run.history"):
            patch.setattr(f"{module}.read_fresh", lambda path, read, wait_s=0.0: read(path))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = write_synthetic_run(tmp_path_factory.mktemp("results") / "run", SETTINGS, evaluations=5, max_rows=3)
    publish_status(made, status_of())
    return made
