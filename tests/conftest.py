"""What holds for every test: it has the marker of its folder, and shares a process with those that it would disturb."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if folder in ("unit", "integration", "slurm"):
            item.add_marker(folder)
        # `make test` runs two processes: beside the cluster, which mostly waits, whatever else there is. Tests with
        # processes of their own follow one another.
        if folder != "unit":
            item.add_marker(pytest.mark.xdist_group("slurm" if folder == "slurm" else "processes"))
