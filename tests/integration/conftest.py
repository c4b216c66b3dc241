"""What tests with real processes share, and the report that several of them look at."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.analysis.report import make_report
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from tests.integration.surrogate import Processes


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Processes that a test starts and adds; whatever still lives ends with the test."""
    started: Processes = []
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with its report: a ladder of four budgets, 12 brackets, made once and changed by nobody."""
    settings = load_settings(
        "digits", ["search.min_budget=1", "search.max_budget=27", "workers.count=4", "search.iterations=12"]
    )
    folder = write_synthetic_run(tmp_path_factory.mktemp("results") / "run", settings, seed=2, max_rows=8)
    make_report(collect(folder), folder)
    return folder
