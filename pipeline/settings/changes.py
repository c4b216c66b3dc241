"""A run's settings with some values replaced: they are frozen, and what is derived from them is a copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pipeline.settings.section import SettingsSection

S = TypeVar("S", bound=SettingsSection)


def changed(settings: S, values: Mapping[str, Any]) -> S:
    """A copy with other values, named as an override names them: `changed(settings, {"search.iterations": 8})`.

    The values are the program's own and are not validated.

    Raises:
        AttributeError: there is no such field.
    """
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if first not in type(settings).model_fields:
            raise AttributeError(f"{type(settings).__name__} has no field {first!r}")
        replaced = changed(getattr(settings, first), {rest: value}) if rest else value
        settings = settings.model_copy(update={first: replaced})
    return settings
