"""What may cross a boundary: the kinds of values in messages and files, each with its bounds, and one way to check.

A record is a frozen dataclass whose fields have these kinds. Whoever writes one checks it before, whoever reads one
checks it after, by the same declaration. So nothing becomes durable that a reader would refuse.

Numbers outside of their bounds are refused. Texts are mended: they are cut at their limit, and what UTF-8 cannot hold
is replaced. A text says what happened, and part of it is worth more than none.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, overload

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, TypeAdapter, ValidationError

T = TypeVar("T")

# A worker sends one line as a reason; the message of a broken run may be a traceback.
NAME_CHARACTERS, REASON_CHARACTERS, MESSAGE_CHARACTERS = 255, 2_000, 20_000
# A result belongs in a line of results.json; arrays and curves belong in the attempt's file.
INFO_BYTES = 64 * 1024
# Far above what the program writes: a larger file is another program's, or damage.
LINE_BYTES = 2**20
JSON_BYTES = 64 * 2**20
CUT = " [...]"


class BoundsError(ValueError):
    """A value is not what its field may be; the text says in one line which field, what it is and what it may be."""


def legible(text: Any, characters: int) -> Any:
    """A text as UTF-8 can hold it, cut at its limit; what is no text is left for the check that follows."""
    if not isinstance(text, str):
        return text
    if type(text) is str and text.isascii() and len(text) <= characters:
        return text
    if len(text) > characters:
        text = text[: characters - len(CUT)] + CUT
    # Of a name that is no UTF-8, Python keeps bytes as lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode()[:characters]


def _number_or_nan(value: float) -> float:
    if abs(value) > MAX_NUMBER:  # false for NaN
        raise ValueError(f"a number between -{MAX_NUMBER:g} and {MAX_NUMBER:g}, or NaN")
    return value


def column_name(name: str) -> str:
    """A name, where it can be that of a column in an HDF5 file; raises ValueError otherwise."""
    if name in ("", ".") or "/" in name or "\0" in name:
        raise ValueError("a name of one character at least, without / and NUL, and not a dot alone")
    return name


# Squares and sums of these stay finite.
MAX_NUMBER = 1e100
MAX_INTEGER = 2**63 - 1  # HDF5 and pandas store 64 bits

Count = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Integer = Annotated[int, Field(strict=True, ge=-MAX_INTEGER, le=MAX_INTEGER)]
Number = Annotated[float, Field(strict=True, ge=-MAX_NUMBER, le=MAX_NUMBER)]
# A measurement in HDF5: NaN is one that was not taken.
NumberOrNan = Annotated[float, Field(strict=True), AfterValidator(_number_or_nan)]
MAX_SECONDS = 1e12
Seconds = Annotated[float, Field(strict=True, ge=0, le=MAX_SECONDS)]
# s since 1970 (UTC), up to the year 8307: what dates can hold.
Time = Annotated[float, Field(strict=True, ge=0, le=2e11)]
BudgetNumber = Annotated[float, Field(strict=True, gt=0, le=1e12)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, BeforeValidator(lambda text: legible(text, NAME_CHARACTERS))]
# Of a hyperparameter: each has a column.
ColumnName = Annotated[Name, AfterValidator(column_name)]
Reason = Annotated[str, BeforeValidator(lambda text: legible(text, REASON_CHARACTERS))]
Message = Annotated[str, BeforeValidator(lambda text: legible(text, MESSAGE_CHARACTERS))]


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return legible(value, REASON_CHARACTERS)
    bound = MAX_INTEGER if isinstance(value, int) else MAX_NUMBER
    if not isinstance(value, int | float) or not abs(value) <= bound:
        raise ValueError("it should be a text, true, false, null or a number within bounds")
    return value


# A hyperparameter's value.
PlainValue = Annotated[int | float | str | bool | None, PlainValidator(_plain_value)]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@overload
def checked(kind: type[T], value: Any) -> T: ...


@overload
def checked(kind: Any, value: Any) -> Any: ...


def checked(kind: Any, value: Any) -> Any:
    """The value as its kind, with texts mended; a record's kind is its class, and its value a mapping of its fields.

    Fields that the record does not have are left out: a later version may have more.

    Raises:
        BoundsError: it is something else, or out of bounds.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise BoundsError(_explain(error)) from None
    except RecursionError:
        raise BoundsError("it is nested too deeply") from None


def within_bounds(record: T) -> T:
    """A record, checked: what its writer calls before it writes."""
    return checked(type(record), vars(record))


def plain(record: Any) -> dict[str, Any]:
    """A record and those in it as mappings of plain values (as dataclasses.asdict, which takes fifteen times as long).

    Not checked: what is out of bounds, or of another kind, is copied as it is.
    """
    kind: Any = type(record)
    values: dict[str, Any] = _adapter(kind).dump_python(record, warnings=False)
    return values


def parse_json(content: bytes | str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested too deeply to be read.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def aside(info: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """A result's info in which every known name has a value of its kind, or None; what has not is kept under another.

    A worker that is not Tandem's may use one of these names for something else.

    Args:
        kinds: `Number`, `Seconds`, `Count` or `str` by known name.

    Raises:
        BoundsError: info is no mapping.
    """
    if not isinstance(info, Mapping):
        raise BoundsError(f"info is {reprlib.repr(info)}: it should be names and values")
    misfits = {name for name, value in info.items() if name in kinds and not _fits(value, kinds[name])}
    if not misfits:
        return dict(info)
    return {f"{name} (as sent)" if name in misfits else name: value for name, value in info.items()}


def _fits(value: Any, kind: Any) -> bool:
    if value is None:
        return True
    if kind is str:
        return isinstance(value, str) and len(value) <= REASON_CHARACTERS and value.isprintable()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # By hand: a long run's results have hundreds of thousands of these.
    if kind is Count:
        return isinstance(value, int) and 0 <= value < 2**31
    if kind is Seconds:
        return 0 <= value <= MAX_SECONDS
    return abs(value) <= MAX_NUMBER  # of a NaN: no


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = legible(".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")), 100)
    if first["type"] == "missing":
        return f"{where} is missing"
    what = first["msg"].removeprefix("Value error, ")
    # Shortened: an input may be as large as a message, or contain itself; what cannot be printed takes ten characters.
    return f"{where or 'value'} is {legible(reprlib.repr(first['input']), 200)}: {what[0].lower()}{what[1:]}"
