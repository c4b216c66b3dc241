"""Read settings: a preset or a YAML file with overrides laid over it, validated as a whole; and write them."""

from __future__ import annotations

import itertools
import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from pipeline.bounds import MAX_INTEGER
from pipeline.errors import SettingsError
from pipeline.files import read_whole
from pipeline.settings.schema import Settings

# A file of settings has some hundred lines.
MOST_BYTES = 2**18
MOST_BRACKETS = 500


def preset_names() -> list[str]:
    """The presets in the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml"))


def preset_comment(name: str) -> str:
    """What a preset says of itself: the comment at its top, in one line."""
    lines = (_presets() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in itertools.takewhile(lambda x: x.startswith("#"), lines))


def _presets() -> Any:
    return resources.files("pipeline.settings") / "presets"


def load_settings(source: str | Path, overrides: Iterable[str] = ()) -> Settings:
    """A preset's name or a YAML file, with overrides such as `search.eta=3` laid over it.

    Raises:
        SettingsError: one line that names the field, what was given and what is allowed.
    """
    values = _read_source(source)
    for override in overrides:
        _lay_over(values, override)
    return validate_settings(values, str(source))


class _Loader(yaml.SafeLoader):
    """Leaves numbers and dates as they were typed: the field says what a scalar is.

    An account may be called 007 and a quality of service `no`; to YAML 1.1 the time 4:00:00 is the number 14400.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As its parent's, which keeps the last of two values under one name and drops the other without a word."""
        names: dict[Any, Any] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            before = names.setdefault(key.value if isinstance(key, yaml.ScalarNode) else id(key), key)
            if before is not key and key.tag != _MERGE:
                first = before.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is given twice, first in line {first}", key.start_mark
                )
        return super().construct_mapping(node, deep)

    def _refuse_tag(self, node: Any) -> Any:
        raise yaml.constructor.ConstructorError(
            None, None, f"the tag {node.tag!r} is of no use here: the field says what a value is", node.start_mark
        )


_MERGE = "tag:yaml.org,2002:merge"
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag]
    for tag in (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "str", "seq", "map"))
} | {None: _Loader._refuse_tag}
_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$"), [*"tTfF"])
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])


class _TypedLoader(_Loader):
    """Reads numbers as numbers, for what no field types: spaces and problems. (To YAML 1.1 itself 1e-3 is a text.)"""

    def construct_yaml_int(self, node: Any) -> int:
        """As its parent's, within bounds: nobody after it need mind an integer that is no float."""
        value = int(super().construct_yaml_int(node))
        if abs(value) > MAX_INTEGER:
            raise yaml.constructor.ConstructorError(None, None, "a whole number has 64 bits at most", node.start_mark)
        return value


_NUMBERS = {
    "int": re.compile(r"^[-+]?[0-9]+$"),
    "float": re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
}
for _kind, _pattern in _NUMBERS.items():
    _tag = f"tag:yaml.org,2002:{_kind}"
    _TypedLoader.add_constructor(_tag, getattr(_TypedLoader, f"construct_yaml_{_kind}"))
    _TypedLoader.add_implicit_resolver(_tag, _pattern, [*"-+.0123456789"])
_TYPED = ("space", "problem")


def _read_source(source: str | Path) -> dict[str, Any]:
    try:
        if str(source) in preset_names():
            text = (_presets() / f"{source}.yaml").read_text(encoding="utf-8")
        elif Path(source).is_file():
            text = read_whole(Path(source), MOST_BYTES).decode()
        else:
            raise SettingsError(f"No preset and no file {str(source)!r}. Presets: {', '.join(preset_names())}.")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{source} cannot be read: {error}") from None
    try:
        values = _parse(text)
        if isinstance(values, dict) and set(_TYPED) & set(values):
            typed = _parse(text, _TypedLoader)
            values |= {name: typed[name] for name in _TYPED if name in values}
            _find_problem_beside(values, Path(source))
    except ValueError as error:
        raise SettingsError(f"{source} is not YAML: {error}") from None
    if values is None:
        raise SettingsError(f"{source} is empty: it has lost its settings, or never had any")
    if not isinstance(values, dict):
        raise SettingsError(f"{source}: settings are a mapping of names to values, not a {type(values).__name__}")
    return values


def _parse(text: str, loader: type[yaml.SafeLoader] = _Loader) -> Any:
    """The value of a YAML text; raises ValueError, with one line, where it is none."""
    if text.count("[") + text.count("{") > MOST_BRACKETS:  # reading them takes time as the square of their number
        raise ValueError(f"it has more than {MOST_BRACKETS} opening brackets")
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (KeyError, ValueError, TypeError) as error:  # what a tag such as !!bool does not expect
        raise ValueError(f"a value is not what its tag says: {error}") from None


def _find_problem_beside(values: dict[str, Any], source: Path) -> None:
    """What a problem names relative to the settings' own file is found there, wherever this is run."""
    problem = values.get("problem")
    if isinstance(problem, dict) and isinstance(command := problem.get("command"), str | list):
        parts = shlex.split(command) if isinstance(command, str) else [str(part) for part in command]
        beside = [source.parent.resolve() / part for part in parts]
        whole = [str(file) if file.is_file() else part for file, part in zip(beside, parts, strict=True)]
        values["problem"] = {**problem, "command": whole}
    use = problem.get("use") if isinstance(problem, dict) else problem
    if isinstance(use, str) and (source.parent / use.partition(":")[0]).is_file():
        found = str(source.parent.resolve() / use)
        values["problem"] = {**problem, "use": found} if isinstance(problem, dict) else found


def _lay_over(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", name.strip()):
        raise SettingsError(f"{override[:200]!r}: an override is written section.field=value, such as search.eta=3")
    *sections, last = names = name.strip().split(".")
    target = values
    for section in sections:
        if target.get(section) is None:
            target[section] = {}
        elif section == "problem" and isinstance(target[section], str):
            target[section] = {"use": target[section]}
        target = target[section]
        if not isinstance(target, dict):
            raise SettingsError(f"{name}: {section} has no fields of its own")
    takes_text = _is_text(_type_of(names))
    try:
        value = _parse(text, _TypedLoader if names[0] in _TYPED else _Loader)
    except ValueError as error:
        if not takes_text:
            raise SettingsError(f"{name}: {reprlib.repr(text)} is not a YAML value: {error}") from None
        value = text
    # To YAML, Slurm's constraint [rack1|rack2] is a list.
    target[last] = text if takes_text and not isinstance(value, str | None) else value


def _type_of(names: Sequence[str]) -> Any:
    """The type of a field, or the class of a section; None if there is none of this name."""
    found: Any = Settings
    for name in names:
        field = getattr(found, "model_fields", {}).get(name)
        found = field and field.annotation
        # A section that may be absent is a section.
        found = next((m for m in get_args(found) if hasattr(m, "model_fields")), found)
    return found


def _is_text(kind: Any) -> bool:
    """Whether a field takes a text, or a text and null."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return {get_args(m)[0] if get_origin(m) is Annotated else m for m in members} <= {str, NoneType}


def validate_settings(values: Mapping[str, Any], source: str = "settings") -> Settings:
    """Settings from plain values; a section whose fields are all commented out is as good as none.

    Raises:
        SettingsError: as `load_settings`.
    """
    try:
        return Settings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        errors = error.errors()
        more = len({_names(e["loc"], values) for e in errors}) - 1
        others = f" (and {more} more)" if more else ""
        raise SettingsError(f"{source}: {_explain(errors[0], values)}{others}") from None


def _names(loc: Sequence[Any], values: Any) -> tuple[str, ...]:
    """Where an error is, as far as somebody wrote it: pydantic adds positions, and the members of a union."""
    names: list[str] = []
    for part in loc:
        if not isinstance(values, Mapping) or part not in values:
            break
        names.append(str(part))
        values = values[part]
    return tuple(names)


_PLAIN = {
    **dict.fromkeys(("tuple_type", "too_long", "too_short", "missing"), "a list such as [a, b]"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "dict_type": "a section of names and values",
    "string_type": "a text",
    "path_type": "a path",
}


def _explain(error: Any, values: Mapping[str, Any]) -> str:
    names = _names(error["loc"], values)
    where = ".".join(names)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown field; known: {', '.join(_type_of(names[:-1]).model_fields)}"
    if error["type"] == "value_error":  # raised by a validator here, which names the field where the section does not
        return ": ".join(filter(None, (where, str(error["ctx"]["error"]))))
    if error["type"] == "model_type":
        expected = f"input should be a section with the fields {', '.join(_type_of(names).model_fields)}"
    elif error["type"] in _PLAIN:
        expected = f"input should be {_PLAIN[error['type']]}"
    else:
        expected = f"{error['msg'][0].lower()}{error['msg'][1:]}"
    # Shortened: an alias of an alias stands for more than fits anywhere.
    return f"{where}: got {reprlib.repr(error['input'])}, {expected}"


def dump_settings(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
