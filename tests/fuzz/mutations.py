"""Damage of every kind, for files and values: what disks, editors, guests and other programs do."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# TANDEM_FUZZ=100 tries a hundred times as many.
FACTOR = int(os.environ.get("TANDEM_FUZZ", "1"))

HOSTILE = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, -(10**30), 10**400, 0.5, -0.5, 1e99, 1e308,
    float("nan"), float("inf"),
    "", "many", "0-0-0", "1-2", "3", "nan", "\ud800", "\x00", "a\nb", "x" * 5000, "searching", "finished",
    [], [1], [0, 0, 0], [None, None, None], [1e400] * 3, {}, {"a": 1}, {"__class__": "x"}, {"loss": None, "info": None},
]  # fmt: skip
# Copies: what is put into a value may be changed there.
hostile = st.sampled_from(HOSTILE).map(copy.deepcopy) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def tries(count: int) -> Any:
    """Settings of a test with so many examples (times TANDEM_FUZZ), whatever each takes."""
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@st.composite
def mutated_value(draw: Any, value: Any) -> Any:
    """A JSON value with one to three of its parts replaced, left out, doubled or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        value = _mutate(draw, value)
    return value


def _mutate(draw: Any, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value, key=str)))
        match draw(st.integers(0, 5)):
            case 0:
                del value[key]
            case 1:
                value[draw(st.text(max_size=5))] = draw(hostile)
            case _:
                value[key] = _mutate(draw, value[key])
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        index = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del value[index]
            case 1:
                value.insert(index, draw(hostile))
            case _:
                value[index] = _mutate(draw, value[index])
        return value
    return draw(hostile)


@st.composite
def mutated_bytes(draw: Any, content: bytes) -> bytes:
    """A file's bytes with bits flipped, cut, doubled, zeroed, replaced or followed by something."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(damaged) - 1)))
        length = draw(st.integers(1, 40))
        match draw(st.integers(0, 6)):
            case 0 | 1 if damaged:
                damaged[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del damaged[at:]
            case 3:
                damaged[at : at + length] = bytes(length)
            case 4:
                damaged[at : at + length] = draw(st.binary(max_size=length))
            case 5:
                damaged[at:at] = damaged[at : at + length]
            case _:
                damaged += draw(st.binary(max_size=length))
    return bytes(damaged)


def as_json(value: Any) -> bytes:
    """The value as JSON, whatever is in it."""
    return json.dumps(value).encode()
