"""Which checkpoints are of use, as a function of the search's state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.master.retention import (
    CheckpointFile,
    Standing,
    most_checkpoints,
    parse_checkpoint,
    standing_of,
    useless,
)
from pipeline.run.history import Result
from pipeline.search.search import Search
from pipeline.settings import load_settings


def files(*names: str) -> list[CheckpointFile]:
    parsed = [parse_checkpoint(name) for name in names]
    assert None not in parsed
    return [file for file in parsed if file is not None]


def names(found: list[CheckpointFile]) -> set[str]:
    return {file.name for file in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b1-a2.pt", CheckpointFile("b1-a2.pt", 1.0, 2, is_last=True)),
        ("b0.5-a10.pt.previous", CheckpointFile("b0.5-a10.pt.previous", 0.5, 10, is_last=False)),
        (".b400-a1.pt.node1.77.tmp", CheckpointFile(".b400-a1.pt.node1.77.tmp", 400.0, 1, is_last=False)),
        ("notes.txt", None),
    ],
)
def test_what_a_file_is_stands_in_its_name(name: str, expected: CheckpointFile | None) -> None:
    assert parse_checkpoint(name) == expected


def test_a_configuration_that_is_over_needs_nothing() -> None:
    left = files("b1-a1.pt", "b3-a1.pt", ".b3-a2.pt.x.tmp")
    assert useless(left, Standing(is_over=True, accepted={1.0: 1}), continues=True) == left


def test_the_accepted_attempt_of_the_highest_budget_is_what_a_promotion_goes_on_from() -> None:
    left = files("b1-a1.pt", "b3-a1.pt", "b3-a2.pt", "b3-a2.pt.previous")
    standing = Standing(accepted={1.0: 1, 3.0: 2})
    assert names(useless(left, standing, continues=True)) == {"b1-a1.pt", "b3-a1.pt", "b3-a2.pt.previous"}


def test_where_promotions_start_again_a_finished_budget_needs_nothing() -> None:
    left = files("b1-a1.pt", "b3-a1.pt")
    assert names(useless(left, Standing(accepted={1.0: 1}), continues=False)) == {"b1-a1.pt"}


def test_what_runs_now_keeps_all_that_it_has_written() -> None:
    left = files("b1-a1.pt", "b3-a1.pt", "b3-a1.pt.previous", ".b3-a1.pt.x.tmp")
    assert useless(left, Standing(accepted={1.0: 1}), continues=True) == []


def test_an_interrupted_attempt_replaces_those_before_it_once_it_has_a_checkpoint() -> None:
    left = files("b1-a1.pt", "b1-a2.pt", "b1-a2.pt.previous", "b1-a4.pt")
    assert names(useless(left, Standing(interrupted={1.0: 2}), True)) == {"b1-a1.pt"}
    # The third wrote none: what it had gone on from stays. The fourth runs, and nobody goes on from it yet.
    assert names(useless(left, Standing(interrupted={1.0: 3}), True)) == {"b1-a1.pt"}
    only_begun = files("b1-a1.pt", ".b1-a2.pt.x.tmp")
    assert useless(only_begun, Standing(interrupted={1.0: 2}), True) == []


BUDGETS = (1.0, 3.0, 9.0)
some_files = st.lists(
    st.builds(
        lambda budget, attempt, kind: parse_checkpoint(kind.format(f"b{budget:g}-a{attempt}.pt")),
        st.sampled_from(BUDGETS),
        st.integers(1, 4),
        st.sampled_from(["{}", "{}.previous", ".{}.tmp"]),
    ),
    unique=True,
)
some_standing = st.builds(
    lambda rungs, attempts, interrupted: Standing(
        False, dict(zip(BUDGETS[:rungs], attempts, strict=False)), interrupted
    ),
    st.integers(0, 3),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
    st.dictionaries(st.sampled_from(BUDGETS), st.integers(1, 4)),
)


@given(some_files, some_standing, st.booleans())
def test_what_training_would_go_on_from_is_never_useless(
    left: list[CheckpointFile], standing: Standing, continues: bool
) -> None:
    kept = [file for file in left if file not in useless(left, standing, continues)]
    highest = max(standing.accepted, default=0.0)
    for file in left:
        if continues and file.is_last and file.budget == highest and file.attempt == standing.accepted[highest]:
            assert file in kept
        if file.budget > highest and file.attempt > standing.interrupted.get(file.budget, 0):
            assert file in kept
    for budget in [b for b in BUDGETS if b > highest]:
        ended = [
            f for f in left if f.budget == budget and f.is_last and f.attempt <= standing.interrupted.get(budget, 0)
        ]
        if ended:
            assert max(ended, key=lambda f: f.attempt) in kept


@given(some_files, some_standing, st.booleans())
def test_looking_again_finds_nothing_more(left: list[CheckpointFile], standing: Standing, continues: bool) -> None:
    kept = [file for file in left if file not in useless(left, standing, continues)]
    assert useless(kept, standing, continues) == []


def test_the_standing_follows_the_search() -> None:
    search = Search(load_settings("digits", ["search.min_budget=1", "search.max_budget=3", "search.method=hyperband"]))
    assert standing_of(search, (0, 0, 0), {}) == Standing()
    for index in range(3):
        config_id, _, budget = search.next_evaluation()
        search.absorb(Result(config_id, budget, 0, 0, 0, 0.1 * index, {"attempt": index + 1}, None))
    assert standing_of(search, (0, 0, 0), {}) == Standing(accepted={1.0: 1})  # promoted
    assert standing_of(search, (0, 0, 2), {}) == Standing(is_over=True, accepted={1.0: 3})
    assert most_checkpoints(search, running=2, interrupted=1, continues=True) == 1 + 10 + 2
    assert most_checkpoints(search, running=2, interrupted=1, continues=False) == 10 + 2
