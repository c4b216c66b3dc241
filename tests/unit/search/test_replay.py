"""A search is rebuilt from its files, also where a disk has lost their last lines."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RunError
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, draw_line, event_line, read_history, read_journal, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.search.replay import lost_results, rebuild, replay_order, underivable
from pipeline.search.verify import verify
from tests.unit.search.test_brackets import result_of, settings_for, write_run


class LivingRun:
    """A search with its files, as a master keeps them; its workers outlive masters and deliver late."""

    def __init__(self, folder: RunFolder, run_settings: Any, workers: int, seed: int) -> None:
        self.folder, self.settings, self.workers = folder, run_settings, workers
        self.random = random.Random(seed)
        self.running = []
        write_run(folder, run_settings, [], [])
        self.start_master()

    def start_master(self) -> None:
        history = read_history(self.folder)
        self.search = rebuild(self.settings, history)
        while self.search.next_evaluation(may_draw=False) is not None:
            pass  # what was under way and what is to be run again: `outstanding` has it
        if lost_results(history):
            lost = {"event": "results_lost", "draws": len(history.draws), "results": len(history.results)}
            self.append(self.folder.journal, [event_line({"time": time.time(), **lost})])

    def append(self, path: Path, lines: Any) -> None:
        with JsonLinesWriter(path) as writer:
            writer.append(lines, durable=False)

    def go_on(self, results: int) -> None:
        """Until so many more results are in, or the search is done."""
        end = self.search.results_seen + results
        while self.search.results_seen < end and not self.search.is_done:
            outstanding = [(config_id, budget) for config_id, _, budget in self.search.outstanding()]
            self.running = [key for key in self.running if key in outstanding]
            self.running += [key for key in outstanding if key not in self.running]
            while len(self.running) < self.workers and (due := self.search.next_evaluation()) is not None:
                self.running.append((due[0], due[2]))
            self.append(self.folder.configs, [draw_line(draw) for draw in self.search.take_new_draws()])
            config_id, budget = self.running.pop(self.random.randrange(min(self.workers, len(self.running))))
            result = result_of(config_id, budget, number=self.search.results_seen)
            self.append(self.folder.results, [result_line(result)])
            self.search.absorb(result)

    def lose(self, lines: int) -> None:
        """The disk forgets the last lines of results.json, and the master dies."""
        kept = self.folder.results.read_bytes().splitlines(keepends=True)
        self.folder.results.write_bytes(b"".join(kept[: max(0, len(kept) - lines)]))
        self.start_master()


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_a_run_that_loses_results_again_and_again_is_resumed_each_time_and_verified(
    tmp_path_factory: pytest.TempPathFactory, losses: Any, n: Any, seed: int
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    run = LivingRun(folder, settings_for("search.iterations=6"), n, seed)
    for results, lost in losses:
        run.go_on(results)
        run.lose(lost)
        assert verify(folder) == []
    run.go_on(10_000)
    assert run.search.is_done
    assert rebuild(run.settings, read_history(folder)).is_done
    assert verify(folder) == []


@pytest.fixture
def recovered(tmp_path: Path) -> LivingRun:
    run = LivingRun(RunFolder(tmp_path), settings_for("search.method=bohb", "search.iterations=12"), 4, 0)
    run.go_on(50)
    run.lose(10)
    run.go_on(10_000)
    return run


def test_draws_that_had_seen_lost_results_are_named_and_all_others_are_derived(recovered: LivingRun) -> None:
    history = read_history(recovered.folder)
    lost = underivable(history, read_journal(recovered.folder))
    assert 0 < len(lost) < 20
    changed = [
        replace(d, configuration={**d.configuration, "momentum": 0.5}) if d.config_id not in lost else d
        for d in history.draws
    ]
    recovered.folder.configs.unlink()
    recovered.folder.results.unlink()
    write_run(recovered.folder, recovered.settings, changed, list(history.results))
    differences = verify(recovered.folder)
    assert {d.partition(":")[0] for d in differences if "momentum" in d} == {
        "-".join(map(str, d.config_id)) for d in changed if d.config_id not in lost
    }


def test_a_run_that_an_earlier_version_recovered_without_a_word_is_rebuilt(recovered: LivingRun) -> None:
    recovered.folder.journal.unlink()
    assert rebuild(recovered.settings, read_history(recovered.folder)).is_done
    assert any("results; results.json has" in difference for difference in verify(recovered.folder))


def test_of_two_lines_of_one_draw_the_first_counts(recovered: LivingRun) -> None:
    history = read_history(recovered.folder)
    other = replace(history.draws[3], configuration={**history.draws[3].configuration, "momentum": 0.5})
    doubled = History((*history.draws[:6], other, *history.draws[6:]), history.results)
    assert other not in replay_order(doubled)
    search = rebuild(recovered.settings, doubled)
    assert search.is_done
    assert search.iterations[0].data[other.config_id].config == history.draws[3].configuration


@pytest.mark.parametrize("value", [None, -1.0, "many"])
def test_a_draw_that_is_not_of_the_search_space_is_named_by_its_own_line(recovered: LivingRun, value: Any) -> None:
    history = read_history(recovered.folder)
    edited = replace(history.draws[3], configuration={**history.draws[3].configuration, "momentum": value})
    history = History((*history.draws[:3], edited, *history.draws[4:]), history.results)
    with pytest.raises(RunError, match=r"^configs\.json, line 4 .* is not one of the search space"):
        rebuild(recovered.settings, history)


def test_a_draw_that_followed_lost_crashes_waits_until_it_is_due_again_or_is_never_made(tmp_path: Path) -> None:
    folder, run_settings = RunFolder(tmp_path / "run"), settings_for("search.max_budget=3", "search.iterations=1")
    run = LivingRun(folder, run_settings, workers=1, seed=0)
    crashed = replace(result_of((0, 0, 0), 1.0), loss=None, info={}, exception="error: as always")
    while (due := run.search.next_evaluation()) is not None:  # every configuration of the lowest rung crashes
        run.append(folder.configs, [draw_line(draw) for draw in run.search.take_new_draws()])
        if due[2] > 1.0:
            break
        result = replace(crashed, config_id=due[0])
        run.append(folder.results, [result_line(result)])
        run.search.absorb(result)
    assert due is not None
    assert due[0] == (0, 1, 0), "drawn for the second rung, since nothing could be promoted"

    run.lose(1)
    lost = {config_id for config_id, _, _ in run.search.outstanding()}
    assert lost == {(0, 0, 2)}
    again = rebuild(run_settings, read_history(folder))
    again.absorb(replace(crashed, config_id=(0, 0, 2)))
    assert [config_id for config_id, _, _ in again.outstanding()] == [(0, 1, 0)]
    assert again.next_evaluation() is not None
    assert not again.take_new_draws(), "it is drawn already"

    run.go_on(2)  # this time it does not crash, and is promoted: the draw is never due
    assert run.search.is_done
    assert rebuild(run_settings, read_history(folder)).is_done
    assert verify(folder, run_settings) == []
