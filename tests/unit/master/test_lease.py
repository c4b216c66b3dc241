"""One master per run, across hosts, without process ids or clocks."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from pipeline.errors import RunError
from pipeline.master import lease as lease_module
from pipeline.master.lease import LeaseLostError, is_newest, take_lease
from pipeline.run.folder import RunFolder
from tests.unit.master.hearts import beating


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_terms_rise(folder: RunFolder) -> None:
    first = take_lease(folder)
    first.end("finished")
    second = take_lease(folder)
    assert (first.term, second.term) == (1, 2)


def test_a_master_whose_heart_beats_is_not_replaced_and_the_message_says_where_it_is(folder: RunFolder) -> None:
    first = take_lease(folder)
    with beating(first):
        with pytest.raises(RunError, match=r"A master is at work on .*: term 1, process \d+ on .*stop-search"):
            take_lease(folder, stopped_s=3)
        first.check()


def test_a_master_whose_heart_has_stopped_is_replaced_and_writes_no_more(folder: RunFolder) -> None:
    first = take_lease(folder)
    second = take_lease(folder, stopped_s=0.5)
    with pytest.raises(LeaseLostError, match="Another master has taken over this run"):
        first.check()
    second.check()


def test_a_master_that_has_ended_is_the_newest_until_another_comes(folder: RunFolder) -> None:
    first = take_lease(folder)
    assert is_newest(folder, 1)
    first.end("broken")
    assert is_newest(folder, 1)
    take_lease(folder)
    assert (is_newest(folder, 1), is_newest(folder, 2)) == (False, True)
    assert not is_newest(folder, 0), "no master had that term"


CANDIDATE = """
import sys
from pathlib import Path
from pipeline.errors import RunError
from pipeline.run.folder import RunFolder
from pipeline.master.lease import take_lease
try:
    lease = take_lease(RunFolder(Path(sys.argv[1])), stopped_s=1.0)
    sys.stdin.read()  # until every candidate has had its turn
    lease.check()
    print("master")
except RunError:
    print("refused")
"""


def test_of_masters_that_start_at_once_one_wins(folder: RunFolder) -> None:
    take_lease(folder)  # and is heard of no more
    command = [sys.executable, "-c", CANDIDATE, str(folder.path)]
    candidates = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(3)]
    deadline = time.monotonic() + 30
    while sum(c.poll() is None for c in candidates) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    said = sorted(candidate.communicate("", timeout=30)[0].strip() for candidate in candidates)
    assert said == ["master", "refused", "refused"]


def test_clocks_do_not_matter(folder: RunFolder) -> None:
    first = take_lease(folder)
    beat = folder.masters / "000001.beat"
    content = json.loads(beat.read_text())
    beat.write_text(json.dumps({**content, "time": content["time"] + 1e6}))
    assert take_lease(folder, stopped_s=0.5).term == 2
    with pytest.raises(LeaseLostError):
        first.check()


@pytest.mark.slow
def test_a_lease_that_cannot_be_read_stops_its_master(folder: RunFolder) -> None:
    lease = take_lease(folder)
    (folder.masters / "000001.json").write_text("{")
    with pytest.raises(LeaseLostError, match="cannot be read"):
        lease.check()


def test_a_master_that_may_open_no_more_files_for_a_while_has_not_lost_its_lease(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "CHECK_S", 0.1)
    lease = take_lease(folder)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        threading.Timer(0.5, allow).start()
        lease.check()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        monkeypatch.setattr(lease_module, "SHORTAGE_S", 0.1)
        with pytest.raises(OSError, match="Too many open files"):
            lease.check()
    finally:
        allow()
    lease.check()
