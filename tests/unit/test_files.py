import json
import stat
import threading
from pathlib import Path
from typing import Never

import pytest

from pipeline.errors import RunError
from pipeline.files import publish, publish_json, publish_text, read_json
from pipeline.run.json_lines import JsonLinesWriter, read_json_lines


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
    assert read_json(path, wait_s=10) == {"a": 1}
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


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text("[1]\n[2\n[3]\n")
    with pytest.raises(RunError, match=r"lines\.json, line 2"):
        read_json_lines(path)


def test_nan_never_reaches_a_file_that_hpbandster_reads(tmp_path: Path) -> None:
    with JsonLinesWriter(tmp_path / "lines.json") as writer, pytest.raises(ValueError, match="not JSON compliant"):
        writer.append([[float("nan")]])
