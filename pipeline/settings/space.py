"""The joint search space: 10 architecture and 7 training hyperparameters (Zela et al. 2018, figure "Search Space").

Presets narrow the ranges and never the dimensions. The setting `space` may also fix a hyperparameter to one value, and
add those of `EXTENSIONS`. ConfigSpace is imported when a space is built, not before: the command line must answer
`--help` at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.records import Configuration, Value, derive_seed

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


@dataclass(frozen=True)
class Hyperparameter:
    """One dimension.

    Attributes:
        lower, upper: both included; the same: it is fixed.
        default: ConfigSpace wants one; nothing in Tandem depends on it.
        choices: of a categorical one, whose bounds mean nothing; one alone: it is fixed.
        part: "architecture" or "training".
        label: as figures write it.
    """

    name: str
    lower: float
    upper: float
    default: float
    log: bool
    integer: bool
    part: str
    label: str
    unit: str = ""
    choices: tuple[str, ...] = ()


ARCHITECTURE = "architecture"
HYPERPARAMETERS: tuple[Hyperparameter, ...] = (
    *(
        Hyperparameter(f"nr_residual_blocks_{i}", 1, 16, 4, True, True, ARCHITECTURE, f"residual blocks, group {i}")
        for i in (1, 2, 3)
    ),
    Hyperparameter("initial_filters", 8, 32, 16, True, True, ARCHITECTURE, "initial filters"),
    Hyperparameter("widen_factor_1", 0.5, 8, 2, True, False, ARCHITECTURE, "widening factor, group 1"),
    *(
        Hyperparameter(f"widen_factor_{i}", 0.5, 4, 2, True, False, ARCHITECTURE, f"widening factor, group {i}")
        for i in (2, 3)
    ),
    *(
        Hyperparameter(f"res_branches_{i}", 1, 5, 2, False, True, ARCHITECTURE, f"residual branches, group {i}")
        for i in (1, 2, 3)
    ),
    Hyperparameter("learning_rate", 1e-3, 1.0, 0.1, True, False, "training", "initial learning rate"),
    Hyperparameter("batch_size", 32, 128, 64, True, True, "training", "batch size", "images"),
    Hyperparameter("weight_decay", 1e-5, 1e-3, 1e-4, True, False, "training", "weight decay"),
    Hyperparameter("momentum", 1e-3, 0.99, 0.9, False, False, "training", "momentum"),
    Hyperparameter("mixup_alpha", 0.0, 1.0, 0.2, False, False, "training", "mixup alpha"),
    Hyperparameter("cutout_length", 0, 20, 8, False, True, "training", "cutout length", "pixels"),
    Hyperparameter("death_rate", 0.0, 1.0, 0.2, False, False, "training", "ShakeDrop death rate"),
)
BY_NAME: Mapping[str, Hyperparameter] = {h.name: h for h in HYPERPARAMETERS}

# What training understands beyond the paper, and searches where the settings' `space` names it.
EXTENSIONS: tuple[Hyperparameter, ...] = (
    Hyperparameter("optimizer", 0, 0, 0, False, False, "training", "optimiser", choices=("sgd", "adamw")),
)

Ranges = Mapping[str, Any]


def narrowed(ranges: Ranges) -> tuple[Hyperparameter, ...]:
    """The paper's hyperparameters with some ranges replaced or fixed, and the extensions that are named.

    Raises:
        ValueError: an unknown name, or a range that is empty or leaves the paper's.
    """
    known = {h.name: h for h in (*HYPERPARAMETERS, *EXTENSIONS)}
    for name in ranges:
        if name not in known:
            raise ValueError(f"space.{name}: unknown hyperparameter; known: {', '.join(known)}")
    named = (h for h in EXTENSIONS if h.name in ranges)
    return (*(_narrowed(h, ranges.get(h.name)) for h in HYPERPARAMETERS), *(_chosen(h, ranges[h.name]) for h in named))


def _narrowed(h: Hyperparameter, given: Any) -> Hyperparameter:
    if given is None:
        return h
    try:
        lower, upper = map(float, given if isinstance(given, list | tuple) else (given, given))
    except (TypeError, ValueError):
        raise ValueError(f"space.{h.name}: {given!r} is neither a range [lower, upper] nor a number") from None
    is_range = isinstance(given, list | tuple)
    if not h.lower <= lower <= upper <= h.upper or (is_range and lower == upper):
        raise ValueError(
            f"space.{h.name}: {_shown(given)} is not a range inside the paper's [{h.lower:g}, {h.upper:g}] "
            f"(a single value, without brackets, fixes it)"
        )
    if h.integer and (lower != int(lower) or upper != int(upper)):
        raise ValueError(f"space.{h.name}: {_shown(given)} must be whole numbers")
    return replace(h, lower=lower, upper=upper, default=min(max(h.default, lower), upper))


def _shown(given: Any) -> str:
    return f"[{', '.join(f'{float(g):g}' for g in given)}]" if isinstance(given, list | tuple) else f"{float(given):g}"


def _chosen(h: Hyperparameter, given: Any) -> Hyperparameter:
    choices = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not choices or not set(choices) <= set(h.choices) or len(set(choices)) < len(choices):
        raise ValueError(f"space.{h.name}: {given!r}; it may be one or several of {', '.join(h.choices)}")
    return replace(h, choices=choices)


def build_space(ranges: Ranges, seed: int = 0) -> ConfigurationSpace:
    """The ConfigSpace of the paper's search; key order is ConfigSpace's own, not that of `HYPERPARAMETERS`.

    Raises:
        ValueError: as `narrowed`.
    """
    from ConfigSpace import Categorical, ConfigurationSpace, Constant, Float, Integer

    space = ConfigurationSpace(name="tandem", seed=derive_seed(seed, "space") % 2**32)
    for h in narrowed(ranges):
        if len(h.choices) > 1:
            space.add(Categorical(h.name, list(h.choices)))
        elif h.choices or h.lower == h.upper:
            space.add(Constant(h.name, h.choices[0] if h.choices else int(h.lower) if h.integer else h.lower))
        elif h.integer:
            space.add(Integer(h.name, (int(h.lower), int(h.upper)), default=int(h.default), log=h.log))
        else:
            space.add(Float(h.name, (h.lower, h.upper), default=h.default, log=h.log))
    return space


def plain_configuration(values: Mapping[str, Any]) -> Configuration:
    """A configuration with plain Python values: numpy's scalars and strings do not survive Pyro4's serializer."""

    def plain(value: Any) -> Value:
        value = value.item() if hasattr(value, "item") else value
        return str(value) if isinstance(value, str) else value

    return {str(name): plain(value) for name, value in values.items()}
