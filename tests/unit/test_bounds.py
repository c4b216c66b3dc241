"""The kinds of values that may cross a boundary."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bounds import LINE_BYTES, BoundsError, checked, legible, parse_json, plain
from pipeline.records import AttemptEnd, Configuration, Evaluation, LowerRung
from pipeline.rpc.messages import OUTCOME_STATUSES, AttemptId, Outcome, Registration
from pipeline.run.history import (
    Draw,
    Result,
    draw_line,
    parse_draw,
    parse_earlier,
    parse_event,
    parse_result,
    result_line,
)
from pipeline.run.status import RunStatus

RESULT = Result((0, 0, 1), 3.0, 1.0, 2.0, 3.0, 0.25, {"attempt": 1, "training_s": 2.5}, None)
NOT_NUMBERS = [10**400, float("nan"), float("inf"), -float("inf"), "1", True, None, [1.0], 1e200]


def with_field(**fields: Any) -> Result:
    return Result(**{**vars(RESULT), **fields})


@pytest.mark.parametrize("number", NOT_NUMBERS)
@pytest.mark.parametrize("field", ["budget", "submitted", "started", "finished"])
def test_what_a_reader_would_refuse_is_refused_before_it_is_written(field: str, number: Any) -> None:
    with pytest.raises(BoundsError, match=f"^{field} is "):
        result_line(with_field(**{field: number}))
    line = result_line(RESULT)
    if field == "budget":
        line[1] = number
    else:
        line[2][field] = number
    with pytest.raises(BoundsError, match=f"^{field} is "):
        parse_result(line)


@pytest.mark.parametrize("number", [n for n in NOT_NUMBERS if n is not None])
def test_a_result_of_an_earlier_run_has_numbers_within_bounds(number: Any) -> None:
    for line in ([{"x": 1}, number, 0.5], [{"x": 1}, 3.0, number], [{"x": [number]}, 3.0, 0.5]):
        with pytest.raises(BoundsError):
            parse_earlier(line)


def test_a_result_that_an_earlier_version_took_from_a_guest_is_read_without_its_misfits() -> None:
    line = result_line(RESULT)
    line[3]["info"] |= {"training_s": 10**400, "parameters": "many"}
    assert parse_result(json.loads(json.dumps(line[:3])) + line[3:]).info == {
        "attempt": 1,
        "training_s (as sent)": 10**400,
        "parameters (as sent)": "many",
    }


def test_a_reason_that_is_too_long_or_no_utf8_is_mended_by_writers_and_by_readers() -> None:
    exception = "error: \udcff" + "x" * 10_000_000
    written = parse_result(result_line(with_field(loss=None, info={}, exception=exception)))
    read = parse_result([[0, 0, 1], 3.0, {"submitted": 1, "started": 1, "finished": 1}, None, exception])
    for result in (written, read):
        assert result.exception.startswith("error: \\udcffxx")
        assert len(result.exception.encode()) < LINE_BYTES / 100


@given(st.text(st.characters()), st.integers(10, 60))
def test_a_mended_text_fits_and_can_be_written(text: str, characters: int) -> None:
    mended = legible(text, characters)
    assert len(mended) <= characters
    mended.encode()
    if len(text) <= characters and text.isascii():
        assert mended == text


def refusal(kind: Any, value: Any) -> str:
    """Why a value is not of a kind; "": it is."""
    try:
        checked(kind, value)
    except BoundsError as error:
        return str(error)
    return ""


def test_a_refusal_is_short_whatever_is_refused() -> None:
    for value in ({"\U000c9189" * 90: {"\U000d8957" * 90: ["\U0001e14a" * 90] * 3}}, {"x" * 2000: {}}):
        assert 0 < len(refusal(Configuration, value)) < 400


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_value_is_a_record_or_a_value_error_in_one_line(value: Any) -> None:
    for kind in (Evaluation, AttemptEnd, Configuration, RunStatus):
        text = refusal(kind, value)
        assert "\n" not in text
        assert len(text) < 400
    for parse in (parse_draw, parse_result, parse_event, parse_earlier, AttemptId.from_plain, Registration.from_plain):
        try:
            parse(value)
        except (ValueError, TypeError, KeyError):
            continue
    assert Outcome.from_plain(value).status in OUTCOME_STATUSES


def test_deep_nesting_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def test_what_a_later_version_adds_to_a_draw_stays() -> None:
    draw = Draw((0, 0, 0), {"x": 1}, {"model_based_pick": False, "budget": 3.0, "colour": "red"})  # type: ignore[typeddict-unknown-key]
    assert parse_draw(draw_line(draw)) == draw


def test_a_record_becomes_plain_values_as_dataclasses_asdict_makes_them() -> None:
    rung = LowerRung(3.0, 2)
    evaluation = Evaluation((1, 0, 2), {"rate": 0.1, "kind": "a"}, 9.0, 1, 7, rung)
    assert plain(evaluation) == asdict(evaluation)
