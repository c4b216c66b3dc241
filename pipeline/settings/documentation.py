"""The settings as YAML to start from, each field under a comment that says what it means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import yaml

from pipeline.settings.schema import Settings
from pipeline.settings.section import SettingsSection
from pipeline.settings.space import HYPERPARAMETERS


def documented_settings(settings: Settings) -> str:
    """The settings as YAML, each field under a comment that says what it means and in which unit."""
    return "\n".join(_documented(settings, ""))


def _documented(section: SettingsSection, indent: str) -> Iterable[str]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if name == "frozen":  # written by the program alone
            continue
        for line in textwrap.wrap(info.description or "", 110 - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, SettingsSection):
            yield f"{indent}{name}:"
            yield from _documented(value, indent + "  ")
        elif name == "space" and isinstance(section, Settings) and section.problem.is_built_in:
            yield f"{indent}space:"
            for h in HYPERPARAMETERS:
                yield f"{indent}  # {h.name}: [{h.lower}, {h.upper}]"
                if h.name in value:
                    yield f"{indent}  {h.name}: {_written(value[h.name])}"
        else:
            plain = section.model_dump(mode="json", include={name})
            yield from (indent + line for line in yaml.safe_dump(plain, sort_keys=False).splitlines())


def _written(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def setting_names(section: type[SettingsSection] = Settings, prefix: str = "") -> list[str]:
    """Every setting as `--set` takes it: `search.eta`; of a mapping, its own name."""
    names = []
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, SettingsSection):
            names += setting_names(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names
