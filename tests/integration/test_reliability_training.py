"""kill -9 of a worker in mid-training: what is lost, what is kept, and whether the budget adds up."""

from __future__ import annotations

from pathlib import Path

from tests.integration.kill_training import CHECKPOINT_S, kill_workers


def test_workers_killed_in_mid_training_lose_no_finished_epoch_and_repeat_less_than_a_checkpoint_interval(
    tmp_path: Path,
) -> None:
    account = kill_workers(tmp_path, kills=3, seed=1)
    assert account.kills == 3
    assert account.evaluations == 2
    assert account.missing_epochs == 0
    batch_s = account.longest_batch_s
    assert max(account.repeated_s) <= CHECKPOINT_S + 2 * batch_s
    # The clock stops at the first batch that ends beyond the budget; a batch may be longer than the mean of its epoch.
    assert all(-1e-6 <= overshoot <= 3 * batch_s for overshoot in account.overshoot_s)
