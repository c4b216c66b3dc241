"""What workers of every kind send, as the master understands it."""

import pytest

from pipeline.master.stock import _outcome
from pipeline.rpc.messages import Outcome
from pipeline.worker.evaluate import is_device_lost


@pytest.mark.parametrize("seconds", ["12 s", True, [1.0]])
def test_training_seconds_that_are_no_number_are_a_crash_and_never_reach_the_files(seconds):
    outcome = Outcome.from_plain({"status": "finished", "loss": 0.5, "info": {"training_s": seconds}})
    assert (outcome.status, outcome.kind) == ("crashed", "bad_result")
    assert "training_s" in outcome.reason


@pytest.mark.parametrize("exception", [None, "", " \n "])
def test_a_stock_worker_without_result_and_reason_is_a_crash(exception):
    assert _outcome({"result": None, "exception": exception}).status == "crashed"


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [
        (Outcome("broken", reason="the device failed: CUDA error: an illegal memory access"), True),
        (Outcome("crashed", kind="error", reason="RuntimeError: CUDA error: device-side assert triggered"), True),
        (Outcome("broken", reason="No data: digits.npz is missing"), False),
        (Outcome("crashed", kind="out_of_memory", reason="CUDA error: out of memory"), False),
        (Outcome("finished", loss=0.1), False),
    ],
)
def test_a_gpu_that_answers_no_more_is_told_from_every_other_failure(outcome, lost):
    assert is_device_lost(outcome) is lost
