"""Damaged lines and JSON files of a run: every command copes, and nothing is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.run.folder import RunFolder
from tests.fuzz.commands import check_commands, collect_run, resume, show_status, verify_run
from tests.fuzz.mutations import as_json, mutated_bytes, mutated_value, tries

# Which commands read a file.
READERS = {
    "configs.json": (resume, verify_run, collect_run),
    "results.json": (resume, verify_run, collect_run),
    "journal.jsonl": (resume, verify_run, collect_run),
    "earlier.json": (resume, verify_run, collect_run),
    "status.json": (show_status, collect_run),
    "provenance.json": (collect_run,),
    "configspace.json": (collect_run,),
    "master.json": (resume,),
    "undelivered/0-0-0-b1-a1.json": (resume,),
    "settings.yaml": (resume, verify_run, collect_run),
}
FILES = list(READERS)
LINES, WHOLE = FILES[:4], FILES[4:9]
ADDRESS = {"run_id": "run", "term": 1, "host": "login", "address": "10.0.0.1", "port": 9090}
UNDELIVERED = {
    "attempt": [[0, 0, 0], 1.0, 1], "worker": "w1", "host": "node1",
    "outcome": {"status": "finished", "loss": 0.5, "info": {"training_s": 1.0}, "kind": "", "reason": "",
                "is_leaving": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def complete(folder: RunFolder) -> RunFolder:
    folder.master_address.write_bytes(as_json(ADDRESS))
    configuration = json.loads(folder.configs.read_bytes().splitlines()[0])[1]
    earlier = ([configuration, 1.0, 0.5], [configuration, 3, None, {"parameters": 100.0}])
    folder.earlier.write_bytes(b"".join(as_json(line) + b"\n" for line in earlier))
    folder.undelivered.mkdir()
    (folder.undelivered / "0-0-0-b1-a1.json").write_bytes(as_json(UNDELIVERED))
    return folder


def check(folder: RunFolder, name: str, content: bytes) -> None:
    path = folder.path / name
    original = path.read_bytes()
    try:
        path.write_bytes(content)
        check_commands(folder, path, READERS[name])
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", LINES)
@tries(12)
@given(st.data())
def test_a_line_with_other_values(complete: RunFolder, name: str, data: st.DataObject) -> None:
    lines = [json.loads(line) for line in (complete.path / name).read_bytes().splitlines()]
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(mutated_value(lines[number]))
    check(complete, name, b"".join(as_json(line) + b"\n" for line in lines))


@pytest.mark.parametrize("name", LINES)
@tries(6)
@given(st.data())
def test_lines_that_are_lost_doubled_or_in_another_order(complete: RunFolder, name: str, data: st.DataObject) -> None:
    lines = (complete.path / name).read_bytes().splitlines(keepends=True)
    positions = data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=len(lines) + 3))
    check(complete, name, b"".join(lines[position] for position in positions))


@pytest.mark.parametrize("name", WHOLE)
@tries(8)
@given(st.data())
def test_a_json_file_with_other_values(complete: RunFolder, name: str, data: st.DataObject) -> None:
    value = json.loads((complete.path / name).read_bytes())
    check(complete, name, as_json(data.draw(mutated_value(value))))


@pytest.mark.parametrize("name", FILES)
@tries(5)
@given(st.data())
def test_a_file_with_other_bytes(complete: RunFolder, name: str, data: st.DataObject) -> None:
    check(complete, name, data.draw(mutated_bytes((complete.path / name).read_bytes())))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 5000, b"\xff\xfe{}\n", b"[" * 5_000 + b"\n", b"null\n", b"{" + b'"a": 1, ' * 3 + b"\n", b"[]\n"],
    ids=["empty", "zeros", "not utf-8", "deep", "null", "half", "list"],
)
def test_a_file_that_holds_something_else(complete: RunFolder, name: str, content: bytes) -> None:
    check(complete, name, content)
