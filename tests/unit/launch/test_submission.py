"""A process of its own submits, and what it says comes back."""

import os
from pathlib import Path
from typing import Any, Never

import pytest

from pipeline.errors import SiteError
from pipeline.launch.submission import submit_apart


def say_where_it_runs(request: Any) -> list[str]:
    return [request["word"], str(os.getsid(0)), os.environ.get("SLURM_JOB_ID", "no job"), os.environ["TANDEM_DEVICE"]]


def fail(request: Any) -> Never:
    raise RuntimeError("sbatch: error: invalid partition")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


def test_the_process_that_submits_is_in_no_job_and_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    word, session, job, device = submit_apart(say_where_it_runs, {"word": "a b'"}, "it", {"TANDEM_DEVICE": "3"})
    assert (word, job, device) == ("a b'", "no job", "3")
    assert session != str(os.getsid(0))


def test_a_submission_that_fails_says_what_slurm_said() -> None:
    with pytest.raises(SiteError, match=r"Submitting 2 workers failed: .*sbatch: error: invalid partition"):
        submit_apart(fail, {}, "2 workers")
