"""What workers of every kind send, as the master understands it."""

from typing import Any

import pytest

from pipeline.master.stock import _outcome
from pipeline.rpc.messages import Outcome
from pipeline.worker.evaluate import is_device_lost


@pytest.mark.parametrize("seconds", ["12 s", True, [1.0], 10**120, 1.1e12, -1.0])
def test_what_is_no_number_of_training_seconds_is_kept_under_another_name(seconds: Any) -> None:
    outcome = Outcome.from_plain({"status": "finished", "loss": 0.5, "info": {"training_s": seconds}})
    assert (outcome.status, outcome.loss) == ("finished", 0.5)
    assert "training_s" not in outcome.info or outcome.info["training_s"] is None


def test_info_of_another_kind_than_tandems_is_kept_and_does_not_pass_for_tandems() -> None:
    info = {"parameters": "many", "device": "a100", "mine": [1, 2]}
    outcome = Outcome.from_plain({"status": "finished", "loss": 0.5, "info": info})
    assert outcome.info == {"parameters (as sent)": "many", "device": "a100", "mine": [1, 2]}


@pytest.mark.parametrize("loss", [10**400, float("nan"), float("inf"), 1e200, "0.5"])
def test_a_loss_that_no_file_may_hold_is_a_crash(loss: Any) -> None:
    outcome = Outcome.from_plain({"status": "finished", "loss": loss, "info": {}})
    assert (outcome.status, outcome.kind) == ("crashed", "bad_result")


def test_a_reason_is_cut_and_mended_before_it_travels() -> None:
    outcome = Outcome.from_plain(Outcome("broken", reason="disk \udcff " + "x" * 10_000_000).to_plain())
    assert outcome.reason.startswith("disk \\udcff x")
    assert len(outcome.reason) <= 2_000


@pytest.mark.parametrize("exception", [None, "", " \n "])
def test_a_stock_worker_without_result_and_reason_is_a_crash(exception: str | None) -> None:
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
def test_a_gpu_that_answers_no_more_is_told_from_every_other_failure(outcome: Outcome, lost: bool) -> None:
    assert is_device_lost(outcome) is lost
