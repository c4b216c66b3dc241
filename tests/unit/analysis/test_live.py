"""The page of a run that goes on: what it says, and who may read it."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.analysis.live import BAR_WIDTH, SHOWN_BRACKETS, bar, best_curve, shown_brackets, write_live_page
from pipeline.analysis.serving import served
from pipeline.cli.pages import watch
from pipeline.cli.runs import _page_line
from pipeline.files import publish_text
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result
from pipeline.run.status import BracketStatus, IncumbentStatus, RungStatus, RunStatus, WorkerStatus, publish_status
from pipeline.settings import dump_settings, load_settings
from tandem_trial.problem import Metric

NOW = 1_700_000_000.0


def status_of(state: str = "searching", done: int = 5, updated: float = NOW) -> RunStatus:
    rungs = (RungStatus(1.0, 9, done, 1, 2, 1), RungStatus(3.0, 3, 0, 0, 0, 0))
    return RunStatus(
        run_id="r", state=state, message="", term=1, host="login", pid=1, address="login:9", started=NOW - 60,
        updated=updated, iterations=1, planned=12, finished=done, crashed=1, queued=1, lost=0, retried=0,
        trained_s=5.0, lost_s=0.0, draws=9, model_based=0, checkpoint_mb=0.0, checkpoint_bound_mb=1.0,
        workers=(WorkerStatus("w0", "node1", "", "cpu", "training", "0-0-7 on 1", NOW - 2),),
        brackets=(BracketStatus(0, False, rungs),),
        incumbents=(IncumbentStatus(1.0, "0-0-3", 0.04, "4.00%"),), suspected_nodes={"gpu3": "it lost <3> attempts"},
    )  # fmt: skip


def page_of(folder: Path, status: RunStatus | None, end: str = "") -> str:
    run = RunFolder(folder)
    write_live_page(run, status, end, now=NOW)
    return run.live_page.read_text()


def test_the_live_page_tells_rungs_workers_the_best_and_the_time_left(tmp_path: Path) -> None:
    page = page_of(tmp_path, status_of(), "End: in about 3 min")
    for text in ("6 of 12", "6 of 9, 2 running", "0 of 3", "w0", "0-0-7 on 1", "4.00%", "End: in about 3 min"):
        assert text in page
    assert "it lost &lt;3&gt; attempts" in page


def test_the_live_page_reloads_itself_until_the_run_has_ended_and_runs_no_script(tmp_path: Path) -> None:
    for status, reloads in ((None, True), (status_of(), True), (status_of("finished"), False)):
        page = page_of(tmp_path, status)
        assert ('http-equiv="refresh"' in page) == reloads
        assert "default-src &#39;none&#39;" in page
        assert "<script" not in page
        assert ' style="' not in page


def test_a_silent_master_is_told(tmp_path: Path) -> None:
    assert "has been silent for 5 min" in page_of(tmp_path, status_of(updated=NOW - 300))


@settings(deadline=None)
@given(st.integers(1, 50), st.lists(st.integers(0, 20), min_size=4, max_size=4))
def test_the_pieces_of_a_bar_lie_side_by_side_and_never_leave_it(planned: int, counts: list[int]) -> None:
    drawn = bar([RungStatus(1.0, planned, *counts)])
    assert drawn is not None
    ends = [left + width for _, left, width in drawn.pieces]
    assert all(end <= BAR_WIDTH + 0.02 for end in ends)
    assert all(after[1] == pytest.approx(end, abs=0.02) for end, after in zip(ends, drawn.pieces[1:], strict=False))


def test_open_brackets_are_shown_before_those_that_ended() -> None:
    brackets = [BracketStatus(i, is_finished=i != 3, rungs=()) for i in range(30)]
    shown = [b.iteration for b in shown_brackets(brackets)]
    assert shown == [3, *range(30 - SHOWN_BRACKETS + 1, 30)]


def test_the_curve_of_the_best_goes_down_on_the_largest_budget_alone() -> None:
    results = [
        Result((0, 0, i), budget, 0.0, 0.0, finished, loss, {}, None)
        for i, (budget, finished, loss) in enumerate(
            [(1.0, 1.0, 0.01), (3.0, 2.0, -0.5), (3.0, 3.0, -0.4), (3.0, 4.0, -0.8)]
        )
    ]
    curve = best_curve(results, Metric("accuracy", direction="maximise", percent=True))
    assert curve is not None
    assert (curve.highest, curve.lowest, curve.budget) == ("80.00%", "50.00%", "3")
    assert curve.path.count("V") == 1


def test_only_who_knows_the_secret_reads_the_served_page(tmp_path: Path) -> None:
    page = tmp_path / "live.html"
    page.write_text("<p>here</p>")
    with served(page, 0) as address:
        assert address.startswith("http://localhost:")
        assert urllib.request.urlopen(address, timeout=30).read() == b"<p>here</p>"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address.rsplit("/", 2)[0] + "/", timeout=30)


def test_the_command_renews_the_page_until_the_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.path.mkdir()
    publish_text(folder.settings, dump_settings(load_settings("digits")))
    publish_status(folder, status_of("finished", done=11))
    assert "tandem watch --page" in _page_line(folder)
    watch(str(folder.path), page=True, port=0)
    assert "12 of 12" in folder.live_page.read_text()
    said = capsys.readouterr().out
    assert "http://localhost:" in said
    assert "ssh -L" in said
    assert str(folder.live_page) in _page_line(folder)
