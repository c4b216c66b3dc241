"""What tests with real processes share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

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
