"""Numbers and names as a person says them."""

from __future__ import annotations

import re


def value_text(value: object, digits: int) -> str:
    """A value as a person reads it: numbers with a point to so many significant digits, as 0.5 or 2.91e-5."""
    return re.sub(r"e([+-])0+", r"e\1", f"{value:.{digits}g}") if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    """A text as a sentence begins: the first letter is large, the others stay (RMSE, FLOPs)."""
    return text[:1].upper() + text[1:]


def counted(number: int, noun: str) -> str:
    """`1 worker`, `3 workers`: a number with its noun, whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
