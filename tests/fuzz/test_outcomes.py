"""What guests send as the end of an attempt: whatever of it a master keeps, every command can read again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.rpc.messages import Outcome
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from tests.fuzz.commands import collect_run, resume, verify_run
from tests.fuzz.mutations import hostile, mutated_value, tries
from tests.unit.master.conftest import Master

INFO = {"attempt": 1, "training_s": 1.0, "batches": 7, "parameters": 100, "test_error": 0.5, "notes": "slow",
        "metrics": {"accuracy": 0.5}, "host": "node1", "origin": "start"}  # fmt: skip
ENDS: list[dict[str, Any]] = [
    {"status": "finished", "loss": 0.5, "info": INFO, "kind": "", "reason": "", "is_leaving": False},
    {"status": "crashed", "loss": None, "info": {}, "kind": "not_finite", "reason": "nan", "is_leaving": False},
    {"status": "handed_back", "loss": None, "info": {}, "kind": "", "reason": "walltime", "is_leaving": False},
    {"status": "lost", "loss": None, "info": {}, "kind": "", "reason": "the GPU is gone", "is_leaving": True},
]
LONG = st.sampled_from(["x" * 3_000_000, "\ud800" * 1_000_000, "a\nb\x00" * 500_000])
KNOWN_TO_HURT: list[Any] = [
    {**ENDS[0], "info": {**INFO, "notes": "x" * 3_000_000}},
    {**ENDS[0], "info": {**INFO, "training_s": 10**400}},
    {**ENDS[1], "reason": "\ud800" * 1_000_000},
]


@st.composite
def sent(draw: Any) -> Any:
    """An end as it should be, with parts of it replaced; often with a hostile value at a known name."""
    end = draw(mutated_value(draw(st.sampled_from(ENDS))))
    if isinstance(end, dict) and draw(st.booleans()):
        end[draw(st.sampled_from(["reason", "kind", "status"]))] = draw(LONG)
    if isinstance(end, dict) and isinstance(end.get("info"), dict) and draw(st.booleans()):
        end["info"][draw(st.sampled_from([*INFO, "\ud800", "x" * 70_000]))] = draw(hostile | LONG)
    return end


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("results")
    master = Master(place)
    master.close()
    return create_run(master.settings, place).path


@tries(12)
@example(KNOWN_TO_HURT)
@given(st.lists(sent(), min_size=1, max_size=4))
def test_nothing_that_a_guest_delivers_becomes_durable_and_cannot_be_read_again(
    fresh: Path, tmp_path_factory: pytest.TempPathFactory, ends: list[Any]
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("guest") / "run")
    shutil.copytree(fresh, folder.path)
    master = Master(folder.path)
    for host, end in enumerate(ends):
        master.join(f"w{host}", f"node{host}")
        master.step()
        if master.connections[f"w{host}"].dispatched:
            master.deliver(f"w{host}", Outcome.from_plain(end))
        master.step()
    master.close()
    for command in (resume, verify_run, collect_run):
        command(folder)
