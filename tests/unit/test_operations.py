"""What a person does with a run; the place where its processes live is a fake one."""

from pathlib import Path

import pytest

from pipeline import operations
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings


class FakeBackend:
    """A place in which a master waits, or does not."""

    def __init__(self, master_waits: bool = False) -> None:
        self.master_waits = master_waits
        self.calls = []

    def cancel_waiting_master(self, folder: RunFolder) -> bool:
        self.calls.append("cancel master")
        return self.master_waits

    def cancel_workers(self, folder: RunFolder) -> None:
        self.calls.append("cancel workers")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create_run(load_settings("digits", ["workers.where=local"]), tmp_path / "results")


@pytest.mark.parametrize("waits", [True, False])
def test_stopping_a_run_tells_a_master_that_waited_in_the_queue_from_one_that_is_gone(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    backend, said = FakeBackend(waits), []
    monkeypatch.setattr(operations, "backend_for", lambda settings: backend)
    operations.stop(run, said.append)
    assert run.stop_request.exists()
    assert backend.calls == ["cancel master", "cancel workers"]
    assert any("cancelled before it started" in text for text in said) is waits
    assert any("does not answer" in text for text in said) is not waits
