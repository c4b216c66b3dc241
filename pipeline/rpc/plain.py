"""Values that can travel: numpy's scalars, tensors and paths become plain Python types, or an error says which cannot.

Pyro4's serializers write `np.float64(1.0)`, the other side cannot read it, and a oneway call tells nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.bounds import INFO_BYTES, JSON_BYTES, MAX_INTEGER, MAX_NUMBER, REASON_CHARACTERS, legible

MAX_ELEMENTS = 1000
MAX_DEPTH = 30
CLASS_KEY = "__class__"


def to_plain(value: Any, where: str = "value", depth: int = 0) -> Any:
    """The value in plain types (dict, list, str, int, float, bool, None); a number without bounds becomes None.

    Raises:
        ValueError: it cannot be made plain, or is nested too deeply (in itself, say); the text says where and why.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{where[:80]}... is nested more than {MAX_DEPTH} levels deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return legible(value, JSON_BYTES)
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_INTEGER else None
    if isinstance(value, float):
        return float(value) if abs(value) <= MAX_NUMBER else None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Mapping):
        if CLASS_KEY in value:
            raise ValueError(f"{where} has the key {CLASS_KEY!r}, which Pyro4 takes for an object of its own")
        return {
            legible(str(key), REASON_CHARACTERS): to_plain(item, f"{where}[{key!r}]", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    return _from_array_like(value, where, depth)


def plain_info(info: Any) -> dict[str, Any]:
    """The info of a result in plain types, small enough for a line of results.json.

    Raises:
        ValueError: as `to_plain`; or it is no dict, or too large.
    """
    if not isinstance(info, Mapping):
        raise ValueError(f"info is a {type(info).__name__}, not a dict")
    plain = to_plain(info, "info")
    size = len(json.dumps(plain))
    if size > INFO_BYTES:
        raise ValueError(f"info takes {size} bytes as JSON; at most {INFO_BYTES} fit into a result")
    assert isinstance(plain, dict)
    return plain


def finite_loss(loss: Any) -> float:
    """The loss as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, infinite, or beyond what files may hold.
    """
    if hasattr(loss, "item") and not isinstance(loss, int | float):
        try:
            loss = loss.item()
        except (ValueError, RuntimeError):
            raise TypeError(f"the loss is a {type(loss).__name__} with more than one element") from None
    if isinstance(loss, bool) or not isinstance(loss, int | float):
        raise TypeError(f"the loss is a {type(loss).__name__}, not a number")
    try:
        plain = float(loss)
    except OverflowError:
        raise ValueError("the loss is larger than any float") from None
    if not abs(plain) <= MAX_NUMBER:
        raise ValueError(f"the loss is {plain}")
    return plain


def _from_array_like(value: Any, where: str, depth: int) -> Any:
    # numpy scalars and arrays and torch tensors alike, without importing either.
    if hasattr(value, "tolist"):
        elements = getattr(value, "size", None)
        elements = value.numel() if hasattr(value, "numel") else elements
        if isinstance(elements, int) and elements > MAX_ELEMENTS:
            raise ValueError(f"{where} is an array of {elements} elements; at most {MAX_ELEMENTS} may travel")
        return to_plain(value.tolist(), where, depth + 1)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise ValueError(f"{where} is a {type(value).__name__}, which cannot travel")
