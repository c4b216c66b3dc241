"""What the documentation takes from the code when it is built: settings, commands, the schema of the files.

A page has the line `<!-- generated: settings -->` where it goes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from pipeline.records import AttemptEnd, AttemptHeader, EpochRow, row_columns
from pipeline.settings.schema import MetricSettings, Settings
from pipeline.settings.search import PriorSettings
from pipeline.settings.section import SettingsSection
from pipeline.storage import schema
from pipeline.storage.columns import Column

_MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
_METAVAR = re.compile(r" <([^>]+)>")
_PAGE = re.compile(r"docs/([a-z-]+\.md)")
_LINK_TO_CODE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]*)(?:#[^)]*)?\)")
# Of the results that are no table of columns.
_TABLES = {
    "/configurations": (schema.CONFIGURATIONS, "A row per configuration. `values` has a column per hyperparameter."),
    "/evaluations": (schema.EVALUATIONS, "A row per evaluation: results first, then what is in progress. `metrics` "
                     "has what each measured last, a column per metric of the problem."),
    "/attempts": (schema.ATTEMPTS, "A row per attempt, lost and superseded ones too."),
    "/learning_curves": (schema.LEARNING_CURVES, "A row per epoch. A problem of your own has the counters among these "
                         "columns, and its metrics."),
    "/journal": (schema.JOURNAL, "A row per event."),
    "/retrained": (schema.RETRAINED, "A row per training on training plus validation data."),
}  # fmt: skip


def with_references(text: str) -> str:
    """The text of a page with everything generated in its place; raises KeyError for an unknown name."""
    return _MARK.sub(lambda mark: GENERATED[mark[1]](), text)


def without_links_to_code(text: str, folder: Path) -> str:
    """Links out of `folder`, which only a forge can follow, as the names of what they lead to.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def name_of(link: re.Match[str]) -> str:
        (folder / link[2]).resolve(strict=True)
        name = link[2].removeprefix("../").rstrip("/")
        said = link[1].strip("`").rstrip("/")
        return f"`{name}`" if said == name else f"{link[1]} (`{name}`)"

    return _LINK_TO_CODE.sub(name_of, text)


# Settings ------------------------------------------------------------------------------------------------------------
def settings_reference() -> str:
    """Every setting with its type, bounds, default and meaning."""
    lines = [*_section(Settings, "")]
    for title, kind in (("A metric", MetricSettings), ("A prior", PriorSettings)):
        lines += [f"## {title}\n", f"{_said(kind)}\n", *_section(kind, "", title)]
    return "\n".join(lines)


def _section(section: type[SettingsSection], prefix: str, part: str = "") -> Iterator[str]:
    shapes = section.model_json_schema()["properties"]
    kinds: dict[str, Any] = {name: info.annotation for name, info in section.model_fields.items()}
    inner = {name: kind for name, kind in kinds.items() if _is_section(kind)}
    for name, info in section.model_fields.items():
        if name not in inner and name != "frozen":  # which is written by the program alone
            place = anchor(f"{part}.{name}" if part else prefix + name)
            yield from _setting(prefix + name, place, shapes[name], info.is_required(), info.description or "")
    for name, kind in inner.items():
        yield f"## `{prefix}{name}`\n"
        yield f"{_said(kind)}\n"
        yield from _section(kind, f"{prefix}{name}.")


def _said(section: type[SettingsSection]) -> str:
    return inspect.cleandoc(section.__doc__ or "")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, SettingsSection)


def _setting(name: str, place: str, shape: Mapping[str, Any], is_required: bool, meaning: str) -> Iterator[str]:
    default = "required" if is_required else f"default {_written(shape.get('default'))}"
    yield f"[`{name}`]{{#{place}}} · {kind_in_words(shape)} · {default}"
    yield f": {_PAGE.sub(lambda page: f'[{page[1]}]({page[1]})', meaning)}\n"


def anchor(setting: str) -> str:
    """Where a setting stands on its page: `search.min_budget` is at #search-min-budget."""
    return re.sub(r"[._ ]", "-", setting.lower())


def kind_in_words(shape: Mapping[str, Any]) -> str:
    """What a JSON schema allows: `whole number from 1 to 99`, `one of auto, cpu, cuda`."""
    if "anyOf" in shape:
        return " or ".join(kind_in_words(s) for s in shape["anyOf"] if s.get("type") != "null")
    if "enum" in shape:
        return "one of " + ", ".join(f"`{value}`" for value in shape["enum"])
    if shape.get("type") == "array":
        if "prefixItems" in shape:
            return f"list of {len(shape['prefixItems'])}: {kind_in_words(shape['prefixItems'][0])}"
        return f"list of {_plural(kind_in_words(shape['items']))}"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    kind = "path" if shape.get("format") == "path" else names.get(shape.get("type", ""), "mapping")
    return kind + _bounds(shape)


def _plural(kind: str) -> str:
    return kind if kind.endswith("e") else f"{kind}s"


# Larger bounds keep nonsense out, and tell a person nothing.
_LARGEST_BOUND = 1e5


def _bounds(shape: Mapping[str, Any]) -> str:
    above, least, below, most = (
        shape.get(key) for key in ("exclusiveMinimum", "minimum", "exclusiveMaximum", "maximum")
    )
    most = None if most is not None and most >= _LARGEST_BOUND else most
    if above is not None:
        upper = f", below {below:g}" if below is not None else f", at most {_number(most)}" if most is not None else ""
        return f" above {above:g}{upper}"
    return "" if least is None else f" from {_number(least)}" + (f" to {_number(most)}" if most is not None else "")


def _number(value: float) -> str:
    return f"{int(value)}" if abs(value) < 1e7 and value == int(value) else f"{value:.4g}"


def _written(default: Any) -> str:
    if default is None or default in ("", [], {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{_number(default)}`" if isinstance(default, float) else f"`{default}`"


# Files ---------------------------------------------------------------------------------------------------------------
def results_reference() -> str:
    """The tables of results.h5, column by column."""
    parts = [f"Attribute `schema`: `{schema.RESULTS_SCHEMA}`.\n"]
    for group, (columns, remark) in _TABLES.items():
        parts += [f"### `{group}`\n", f"{remark}\n", _table_of_columns(columns)]
    return "\n".join(parts)


def curve_reference() -> str:
    """The file of an attempt: its rows and its attributes."""
    rows = [Column(name, "", description, unit) for name, unit, description in row_columns(EpochRow)]
    header = ", ".join(f"`{f.name}`" for f in fields(AttemptHeader))
    end = ", ".join(f"`end_{f.name}`" for f in fields(AttemptEnd))
    return "\n".join([
        f"Attributes from the start: {header}.\n", f"Attributes once it has ended: {end}.\n",
        "Columns of `learning_curve`:\n", _table_of_columns(rows),
    ])  # fmt: skip


def _table_of_columns(columns: Sequence[Column]) -> str:
    has_kinds = any(column.kind for column in columns)
    heads = ["column", *(["type"] if has_kinds else []), "unit", "meaning"]
    rows = ([f"`{c.name}`", *([c.kind] if has_kinds else []), c.unit, c.description] for c in columns)
    return table(heads, rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


# Commands ------------------------------------------------------------------------------------------------------------
def commands_reference() -> str:
    """Every command with its arguments and options."""
    from pipeline.cli import app

    commands = typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    return "\n".join(line for name, command in commands if not command.hidden for line in _command(name, command))


def _command(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(f"tandem {name}", [], resilient_parsing=True)
    yield f"## `tandem {name}`\n"
    yield f"{textwrap.dedent(command.help or '').strip()}\n"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            yield f"`{_METAVAR.sub(_value_of, record[0])}`\n: {record[1]}\n"


def _value_of(metavar: re.Match[str]) -> str:
    kinds = {"path": " PATH", "int": " NUMBER", "float": " NUMBER"}
    return "" if not metavar.string.startswith("-") else kinds.get(metavar[1].removesuffix(" range"), " TEXT")


GENERATED: Mapping[str, Callable[[], str]] = {
    "settings": settings_reference,
    "commands": commands_reference,
    "results": results_reference,
    "curve": curve_reference,
}
