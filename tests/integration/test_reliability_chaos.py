"""Chaos at a size that fits: `python -m tests.integration.chaos` runs it at full size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.chaos import disturbed_and_undisturbed


@pytest.mark.parametrize(("variant", "iterations"), [("random", 10), ("bohb-one", 14), ("bohb-many", 14)])
def test_a_disturbed_search_is_the_same_search(tmp_path: Path, variant: str, iterations: int) -> None:
    undisturbed, disturbed = disturbed_and_undisturbed(
        tmp_path, variant, iterations, faults=12, seed=1, pause_s=0.5, seconds=0.1 if variant == "bohb-one" else 0.25
    )
    assert sum(disturbed.faults.values()) >= 8
    assert undisturbed.masters == 1
