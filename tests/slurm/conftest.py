"""One cluster for all tests of this folder, as it was at the start for each of them."""

import os
import tempfile
from pathlib import Path

import pytest

from .cluster import Cluster, why_not


@pytest.fixture(scope="session")
def running_cluster():
    reason = why_not()
    if reason is not None:
        # Where these tests must run (.ci/run), a machine that cannot run them is a failure.
        (pytest.fail if os.environ.get("TANDEM_TEST_SLURM") == "always" else pytest.skip)(reason)
    # A short path: a Unix socket's may have 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="tandem-slurm-", ignore_cleanup_errors=True) as state,
        Cluster(Path(state)) as it,
    ):
        yield it


@pytest.fixture
def cluster(running_cluster):
    yield running_cluster
    running_cluster.mend()
