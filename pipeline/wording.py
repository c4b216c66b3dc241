"""Numbers and names as a person says them."""

from __future__ import annotations


def value_text(value: object, digits: int) -> str:
    """A hyperparameter's value: numbers with a point to so many significant digits."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    """A text as a sentence begins: the first letter is large, the others stay (RMSE, FLOPs)."""
    return text[:1].upper() + text[1:]


def counted(number: int, noun: str) -> str:
    """`1 worker`, `3 workers`: a number with its noun, whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
