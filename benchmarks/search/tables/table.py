"""A recorded table: configurations of the 17-dimensional space, each with its whole learning curve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent


def read_lines(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, one a line; lines that a kill tore are left out."""
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
