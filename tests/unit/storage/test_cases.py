"""What a collected evaluation is: every case of the table, without files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.cases import CASES, Conclusion, ResultKind, Situation, Tried, decide, situation
from pipeline.storage.schema import ATTEMPT_STATUSES, EVALUATION_STATUSES

NONE, CRASHED, FINISHED = ResultKind.NONE, ResultKind.CRASHED, ResultKind.FINISHED
LOST = Tried(1, "lost")


# result, attempt it names, attempts, run has ended -> status, accepted, curve, running, lacks its curve
TABLE = [
    ("at work", NONE, None, [LOST, Tried(2, "unknown")], False, Conclusion("running", None, 2, True, False)),
    ("back in the queue", NONE, None, [Tried(1, "handed_back")], False, Conclusion("waiting", None, 1, False, False)),
    ("lost, not given out again", NONE, None, [LOST], False, Conclusion("waiting", None, 1, False, False)),
    ("the run ended meanwhile", NONE, None, [Tried(1, "unknown")], True, Conclusion("stopped", None, 1, False, False)),
    ("ended before a curve began", NONE, None, [Tried(1, "lost", False)], True,
     Conclusion("stopped", None, 1, False, False)),
    ("finished at once", FINISHED, 1, [Tried(1, "finished")], True, Conclusion("finished", 1, 1, False, False)),
    ("finished after a loss", FINISHED, 2, [LOST, Tried(2, "finished")], False,
     Conclusion("finished", 2, 2, False, False)),
    ("an earlier attempt counted", FINISHED, 1, [Tried(1, "finished"), Tried(2, "finished")], False,
     Conclusion("finished", 1, 1, False, False)),
    ("finished, its last attempt still out", FINISHED, 1, [Tried(1, "finished"), Tried(2, "unknown")], False,
     Conclusion("finished", 1, 1, False, False)),
    ("its file is damaged", FINISHED, 1, [Tried(1, "finished", False, True)], True,
     Conclusion("finished", 1, 1, False, False)),
    ("its file is gone", FINISHED, 1, [Tried(1, "finished", False)], True, Conclusion("finished", 1, 1, False, True)),
    ("its attempt is unknown", FINISHED, 3, [LOST], True, Conclusion("finished", None, None, False, True)),
    ("finished by another's worker", FINISHED, None, [], True, Conclusion("finished", None, None, False, True)),
    ("crashed", CRASHED, None, [LOST, Tried(2, "crashed")], True, Conclusion("crashed", 2, 2, False, False)),
    ("crashed, then lost", CRASHED, None, [Tried(1, "crashed"), Tried(2, "lost")], True,
     Conclusion("crashed", 1, 1, False, False)),
    ("lost too often", CRASHED, None, [LOST, Tried(2, "lost")], True, Conclusion("crashed", 2, 2, False, False)),
    ("crashed before any attempt is known", CRASHED, None, [], True, Conclusion("crashed", None, None, False, False)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "named", "tried", "ended", "wanted"), [c[1:] for c in TABLE], ids=[c[0] for c in TABLE]
)
def test_an_evaluation_is_what_the_table_says(
    result: ResultKind, named: int | None, tried: list[Tried], ended: bool, wanted: Conclusion
) -> None:
    assert decide(result, named, tried, ended) == wanted


def test_the_cases_above_reach_every_row_of_the_table() -> None:
    assert set(CASES) == set(Situation)
    assert {situation(*case[1:5]) for case in TABLE} == set(Situation)


TRIED = st.lists(
    st.builds(Tried, st.just(0), st.sampled_from(ATTEMPT_STATUSES), st.booleans(), st.booleans()), max_size=4
).map(lambda found: [Tried(n, a.outcome, a.has_curve, a.is_damaged) for n, a in enumerate(found, start=1)])


@given(st.sampled_from(ResultKind), st.none() | st.integers(1, 5), TRIED, st.booleans())
def test_a_decision_names_only_attempts_that_there_are(
    result: ResultKind, named: int | None, tried: list[Tried], ended: bool
) -> None:
    decision = decide(result, named, tried, ended)
    numbers = {attempt.number for attempt in tried} | {None}
    assert decision.status in EVALUATION_STATUSES
    assert decision.accepted in numbers
    assert decision.curve in numbers
    assert not (decision.is_running and (result is not NONE or ended))
    assert decision.accepted is None or result is not NONE
    assert (decision.status == "crashed") == (result is CRASHED)
