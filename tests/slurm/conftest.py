"""One cluster for all tests of this folder, as it was at the start for each of them."""

import compileall
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.settings import load_settings
from pipeline.training.data import prepare_data
from tests.slurm.cluster import Cluster, why_not
from tests.slurm.hosts import USER, USERS
from tests.slurm.runs import CHECKOUT, Shell

# Arrays of four tasks at most: a run with more workers than that takes several.
MAX_ARRAY_SIZE = 4
# What is waited for comes within a minute or two; a machine that others keep busy may take many times as long.
TIMEOUT_S = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        # Where these tests must run, a machine that cannot run them is a failure.
        (pytest.fail if os.environ.get("TANDEM_TEST_SLURM") == "always" else pytest.skip)(reason)
    # People cannot write there: left to them, every process would compile the program for itself.
    compileall.compile_dir(CHECKOUT / "pipeline", quiet=1)
    # Not in pytest's own folder: a Unix socket's path may have 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="tandem-slurm-", ignore_cleanup_errors=True) as state,
        Cluster(Path(state), MAX_ARRAY_SIZE) as started,
    ):
        yield started


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    yield running_cluster
    try:
        running_cluster.mend()
    except (TimeoutError, RuntimeError) as error:  # every test after this one would wait for nothing
        pytest.exit(f"the cluster is as no test may find it: {error}", returncode=1)


@pytest.fixture(scope="session")
def data(running_cluster: Cluster) -> Path:
    """Digits, prepared once, where everybody can read them (pytest's own folders are closed to others)."""
    root = running_cluster.state / "data"
    prepare_data(load_settings("digits", [f"data.root={root}"]).data)
    return root


@pytest.fixture
def shell(cluster: Cluster, data: Path) -> Iterator[Shell]:
    """A shell on the login node, of a person without an administrator's rights. Its runs' masters end with the test."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=cluster.state))
    home.chmod(0o755)
    os.chown(home, USERS[USER], USERS[USER])
    shell = Shell(cluster, home, data)
    yield shell
    shell.end_masters()
