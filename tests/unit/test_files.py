import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest

from pipeline.errors import RunError
from pipeline.files import publish, publish_json, publish_text, read_json, sweep_temporaries
from pipeline.launch.tasks import start_master_here
from pipeline.master.lease import take_lease
from pipeline.records import AttemptHeader
from pipeline.rpc.master_address import MasterAddress, publish_master_address
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.tls import ensure_authority
from pipeline.rpc.undelivered import Undelivered, leave_result
from pipeline.run.folder import RunFolder, ensure_jobs_folder, find_run
from pipeline.run.json_lines import JsonLinesWriter, read_json_lines
from pipeline.run.status import publish_status
from pipeline.storage.curves import AttemptFile
from pipeline.worker import child_process
from tests.unit.run.test_status import status_of

HEADER = AttemptHeader(
    "run", (0, 0, 0), {"x": 1}, 1.0, "seconds", 1, 7, 0.0, 0.0, "start", "digits", 10, 1.0, "cpu", "h", "w", "", {}
)


def test_a_file_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    publish_text(path, "first")

    def fail_in_the_middle() -> Never:
        with publish(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    publish_text(path, "secret", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_waits_for_a_file_that_is_not_visible_yet(tmp_path: Path) -> None:
    path = tmp_path / "late.json"
    timer = threading.Timer(0.2, publish_json, (path, {"a": 1}))
    timer.start()
    # A busy disk makes the publication, which is synced, wait for many seconds.
    assert read_json(path, wait_s=120) == {"a": 1}
    timer.join()


def test_a_reader_gives_up_after_its_limit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "never.json", wait_s=0.1)


def test_a_reader_never_sees_half_a_published_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    publish_json(path, ["x"] * 1000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            publish_json(path, ["x"] * 1000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            assert len(json.loads(path.read_text())) == 1000
    finally:
        stop.set()
        writer.join()


def test_a_torn_last_line_is_left_out_by_readers_and_cut_by_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    with JsonLinesWriter(path) as writer:
        writer.append([[1], {"b": 2}])
    path.write_bytes(path.read_bytes() + b'[3, "tor')
    assert read_json_lines(path) == [[1], {"b": 2}]
    with JsonLinesWriter(path) as writer:
        assert writer.torn_bytes == len(b'[3, "tor')
        writer.append([[4]])
    assert read_json_lines(path) == [[1], {"b": 2}, [4]]


def test_a_writer_that_finds_lines_of_another_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    with JsonLinesWriter(path) as first:
        first.append([1])
        with JsonLinesWriter(path) as second:
            second.append([2])
            with pytest.raises(RunError, match=r"has 4 bytes and had 2 .* resume-search"):
                first.append([3])
            second.append([4])
    assert read_json_lines(path) == [1, 2, 4]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text("[1]\n[2\n[3]\n")
    with pytest.raises(RunError, match=r"lines\.json, line 2"):
        read_json_lines(path)


def test_nan_never_reaches_a_file_that_hpbandster_reads(tmp_path: Path) -> None:
    with JsonLinesWriter(tmp_path / "lines.json") as writer, pytest.raises(ValueError, match="not JSON compliant"):
        writer.append([[float("nan")]])


# A run that is renamed, and processes that are killed -----------------------------------------------------------
def test_no_writer_of_a_run_makes_its_folder_again_once_it_is_renamed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    lease = take_lease(folder)
    curve = AttemptFile(folder.attempt((0, 0, 0), 1.0, 1), folder.path)
    curve.begin(HEADER, [])
    folder.path.rename(tmp_path / "renamed")
    attempt, outcome = AttemptId((0, 0, 0), 1.0, 1), Outcome("finished", loss=0.5)
    silent = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    writers: list[Callable[[], object]] = [
        lambda: publish_status(folder, status_of()),
        lambda: publish_master_address(folder, MasterAddress("run", 1, "h", "127.0.0.1", 1)),
        lambda: leave_result(folder, Undelivered(attempt, outcome, "w", "h")),
        lambda: curve.begin(HEADER, []),
        lease.beat,
        lambda: lease.end("stopped"),
        lambda: take_lease(folder),
        lambda: JsonLinesWriter(folder.journal),
        lambda: ensure_authority(folder.tls, "run-0a1b"),
    ]
    for write in writers:
        with pytest.raises(FileNotFoundError):
            write()
    for make in (lambda: ensure_jobs_folder(folder), lambda: start_master_here(folder)):
        with pytest.raises(RunError, match=r"run is gone\. Was it renamed or moved\?"):
            make()
    output = child_process._Output(silent, folder.output_log("w"), lambda: None)
    output.restart("0-0-0 on 1")
    output.join()
    assert [path.name for path in tmp_path.iterdir()] == ["renamed"]


def test_the_ghost_of_a_renamed_run_is_told_from_a_run(tmp_path: Path) -> None:
    RunFolder(tmp_path / "ghost").attempts.mkdir(parents=True)
    with pytest.raises(RunError, match=r"ghost has no settings\.yaml: it is what was written after the run was"):
        find_run(tmp_path, "ghost")


def test_temporary_files_of_killed_processes_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    host = os.uname().nodename
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = tmp_path / "attempts" / "0-0-1"
    folder.mkdir(parents=True)
    mine, killed, elsewhere, old, other = (
        folder / name
        for name in (
            f".b1-a1.h5.{host}.{os.getpid()}.tmp", f".b3-a1.h5.{host}.{dead.pid}.tmp", ".b9-a1.pt.node-7.a.b.12.tmp",
            ".b9-a2.pt.node-7.12.tmp", ".notes.tmp",
        )
    )  # fmt: skip
    for path in (mine, killed, elsewhere, old, other):
        path.touch()
    os.utime(old, (0, 0))
    assert set(sweep_temporaries(tmp_path, 3600.0)) == {killed, old}
    assert set(folder.iterdir()) == {mine, elsewhere, other}
