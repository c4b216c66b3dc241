"""Names that earlier versions wrote into a run's files, so that their runs can be resumed and collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Version 0.1 called the term of a lease its epoch, which is training's word.
RENAMED = {"epoch": "term"}


def with_present_names(plain: Any) -> dict[str, Any]:
    """A record of a file, under the names that this version gives its fields; raises ValueError where it is none."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"it should be names and values, not a {type(plain).__name__}")
    return {RENAMED.get(str(name), str(name)): value for name, value in plain.items()}
