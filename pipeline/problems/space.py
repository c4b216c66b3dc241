"""Search spaces: from a plain mapping, as YAML and problem files write them, from ConfigSpace's own form, and narrowed.

A hyperparameter in a mapping is one of

    [lower, upper]                       a range: whole numbers where both ends are, both included
    [a, b, c] of texts                   choices
    {lower, upper, log, default}         a range with more said
    {choices, weights, default}          choices of anything
    {sequence, default}                  choices with an order
    value                                fixed
    {..., when: {parent: value}}         active only where its parent has the value, or one of a list of values, or is
                                         {above: x} or {below: x}
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError
from pipeline.problems.simplifying import simplify
from pipeline.records import derive_seed
from pipeline.settings import Settings
from pipeline.settings.space import build_space as build_paper_space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

_RANGE = {"lower", "upper", "log", "default"}
_CHOICES = {"choices", "weights", "default"}
_SEQUENCE = {"sequence", "default"}


def build_space(settings: Settings) -> ConfigurationSpace:
    """The search space of a run: its problem's, as the setting `space` narrows it.

    Raises:
        SettingsError: the problem is the user's own and has not been read yet, or the two do not fit together.
        ValueError: as `pipeline.settings.space.build_space`.
    """
    if settings.problem.is_built_in:
        return build_paper_space(settings.space, settings.seed)
    frozen = settings.problem.frozen
    if frozen is None:
        raise SettingsError("problem: its search space is known once the run is submitted, and not before")
    return narrowed(frozen.space, settings.space, settings.seed)


def narrowed(serialized: Mapping[str, Any], ranges: Mapping[str, Any], seed: int = 0) -> ConfigurationSpace:
    """A space in ConfigSpace's own form with some hyperparameters narrowed or fixed.

    Raises:
        SettingsError: a name is unknown, a range leaves the space's, or a condition can never hold any more.
    """
    from ConfigSpace import ConfigurationSpace

    changed = copy.deepcopy(dict(serialized))  # reading it takes it to pieces
    known = {h["name"]: h for h in changed["hyperparameters"]}
    for name, given in ranges.items():
        if name not in known:
            raise SettingsError(f"space.{name}: unknown hyperparameter; known: {', '.join(known)}")
        known[name] = _replaced(known[name], given)
    changed["hyperparameters"] = list(known.values())
    if ranges:
        changed = simplify(changed)
    try:
        space = ConfigurationSpace.from_serialized_dict(changed)
    except Exception as error:  # ConfigSpace raises nearly anything
        raise SettingsError(f"space: it does not fit the problem's conditions any more: {_line(error)}") from None
    space.seed(derive_seed(seed, "space") % 2**32)
    return space


def _replaced(entry: dict[str, Any], given: Any) -> dict[str, Any]:
    name = entry["name"]
    legal = entry.get("choices") or entry.get("sequence")
    if legal is not None:
        chosen = list(given) if isinstance(given, list | tuple) else [given]
        if not chosen or any(value not in legal for value in chosen):
            raise SettingsError(f"space.{name}: {given!r}; it may be one or several of {', '.join(map(str, legal))}")
        kept = [value for value in legal if value in chosen]
        if len(kept) == 1:
            return {"type": "constant", "name": name, "value": kept[0], "meta": entry.get("meta")}
        weights = entry.get("weights")
        if weights:
            entry["weights"] = [weights[legal.index(value)] for value in kept]
        default = entry["default_value"]
        kind = "choices" if entry.get("choices") else "sequence"
        return {**entry, kind: kept, "default_value": default if default in kept else kept[0]}
    if "lower" not in entry:
        raise SettingsError(f"space.{name}: it is fixed to {entry.get('value')!r}, or no range: it cannot be narrowed")
    is_range = isinstance(given, list | tuple)
    ends = list(given) if is_range else [given, given]
    low, high = entry["lower"], entry["upper"]
    is_whole = "int" in str(entry["type"])
    if len(ends) != 2 or any(isinstance(e, bool) or not isinstance(e, int | float) for e in ends):
        raise SettingsError(f"space.{name}: {given!r} is neither a range [lower, upper] nor a number")
    # ConfigSpace rounds what it is given to some twelve digits.
    ends = [bound if math.isclose(e, bound, rel_tol=1e-9) else e for e, bound in zip(ends, (low, high), strict=True)]
    if not low <= ends[0] <= ends[1] <= high or (is_range and ends[0] == ends[1]):
        raise SettingsError(f"space.{name}: {given!r} is no range inside the problem's [{low:g}, {high:g}]")
    if is_whole and any(e != int(e) for e in ends):
        raise SettingsError(f"space.{name}: {given!r} must be whole numbers")
    ends = [int(e) if is_whole else float(e) for e in ends]
    if not is_range:
        return {"type": "constant", "name": name, "value": ends[0], "meta": entry.get("meta")}
    default = min(max(entry["default_value"], ends[0]), ends[1])
    return {**entry, "lower": ends[0], "upper": ends[1], "default_value": default}


# From a mapping ----------------------------------------------------------------------------------------------------
def serialized_space(space: Mapping[str, Any], forbidden: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A space in ConfigSpace's own form, from a mapping or from that form.

    Raises:
        SettingsError: it is empty, or an entry is wrong; the text names it and says what may be written.
    """
    from ConfigSpace import ConfigurationSpace

    if "format_version" in space and isinstance(space.get("hyperparameters"), list):
        if not space["hyperparameters"]:
            raise SettingsError("space: it is empty; a search needs a hyperparameter")
        return dict(space)
    if not space:
        raise SettingsError("space: it is empty; a search needs a hyperparameter, such as learning_rate: [0.001, 1.0]")
    made = ConfigurationSpace(name="own")
    for name, given in space.items():
        try:
            made.add(_hyperparameter(str(name), given))
        except SettingsError:
            raise
        except Exception as error:  # ConfigSpace raises nearly anything
            raise SettingsError(f"space.{name}: {_line(error)}") from None
    for name, given in space.items():
        if isinstance(given, Mapping) and "when" in given:
            _add_condition(made, str(name), given["when"])
    for clause in forbidden:
        _forbid(made, clause)
    return dict(made.to_serialized_dict())


def _hyperparameter(name: str, given: Any) -> Any:
    import ConfigSpace as Cs

    if not name.isidentifier():
        raise SettingsError(f"space.{name}: a hyperparameter's name is a Python name: letters, digits, _")
    if isinstance(given, list | tuple):
        given = _of_list(name, list(given))
    if not isinstance(given, Mapping):
        return Cs.Constant(name, given)
    keys = set(given) - {"when"}
    default = {"default_value": given["default"]} if "default" in given else {}
    if "choices" in keys and keys <= _CHOICES:
        return Cs.CategoricalHyperparameter(name, list(given["choices"]), weights=given.get("weights"), **default)
    if "sequence" in keys and keys <= _SEQUENCE:
        return Cs.OrdinalHyperparameter(name, list(given["sequence"]), **default)
    if {"lower", "upper"} <= keys <= _RANGE:
        is_whole = all(isinstance(given[end], int) for end in ("lower", "upper"))
        kind = Cs.UniformIntegerHyperparameter if is_whole else Cs.UniformFloatHyperparameter
        return kind(name, given["lower"], given["upper"], log=bool(given.get("log", False)), **default)
    raise SettingsError(
        f"space.{name}: {dict(given)!r}; give lower and upper (with log, default), choices (with weights, default) or "
        f"sequence (with default), and `when` where it depends on another one"
    )


def _of_list(name: str, given: list[Any]) -> dict[str, Any]:
    is_number = [isinstance(g, int | float) and not isinstance(g, bool) for g in given]
    if len(given) == 2 and all(is_number):
        return {"lower": given[0], "upper": given[1]}
    if given and not any(is_number):
        return {"choices": given}
    raise SettingsError(
        f"space.{name}: {given!r} is neither a range [lower, upper] nor a list of texts; "
        f"for other lists write {{choices: [...]}}, or {{sequence: [...]}} where the order matters"
    )


def _add_condition(space: ConfigurationSpace, name: str, when: Any) -> None:
    import ConfigSpace as Cs

    if not isinstance(when, Mapping) or not when:
        raise SettingsError(f"space.{name}.when: {when!r}; write {{parent: value}}")
    conditions = []
    for parent, value in when.items():
        if parent not in space:
            raise SettingsError(f"space.{name}.when: there is no hyperparameter {parent!r}")
        try:
            if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("above", "below"):
                kind = Cs.GreaterThanCondition if "above" in value else Cs.LessThanCondition
                conditions.append(kind(space[name], space[parent], next(iter(value.values()))))
            elif isinstance(value, list | tuple):
                conditions.append(Cs.InCondition(space[name], space[parent], list(value)))
            else:
                conditions.append(Cs.EqualsCondition(space[name], space[parent], value))
        except Exception as error:
            raise SettingsError(f"space.{name}.when.{parent}: {_line(error)}") from None
    try:
        space.add(conditions[0] if len(conditions) == 1 else Cs.AndConjunction(*conditions))
    except Exception as error:
        raise SettingsError(f"space.{name}.when: {_line(error)}") from None


def _forbid(space: ConfigurationSpace, clause: Mapping[str, Any]) -> None:
    import ConfigSpace as Cs

    parts = []
    for name, value in clause.items():
        if name not in space:
            raise SettingsError(f"forbidden: there is no hyperparameter {name!r}")
        is_list = isinstance(value, list | tuple)
        kind = Cs.ForbiddenInClause if is_list else Cs.ForbiddenEqualsClause
        try:
            parts.append(kind(space[name], list(value) if is_list else value))
        except Exception as error:
            raise SettingsError(f"forbidden.{name}: {_line(error)}") from None
    if not parts:
        raise SettingsError("forbidden: a combination is a mapping of names to values")
    try:
        space.add(parts[0] if len(parts) == 1 else Cs.ForbiddenAndConjunction(*parts))
    except Exception as error:
        why = _line(error)
        if "violates" in why:
            why = "the default configuration is one of them; give one of its hyperparameters another `default`"
        raise SettingsError(f"forbidden: {dict(clause)!r}: {why}") from None


def _line(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__
