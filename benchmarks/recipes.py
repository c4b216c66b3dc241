"""The two recipes side by side: the same configurations, seeds and budgets under `default` and under `paper-code`.

    python -m benchmarks.recipes fashion_mnist --seconds 60 --drawn 40 --seeds 2
    python -m benchmarks.recipes fashion_mnist --seconds 10 --drawn 40 --seeds 2 --drawn-alone   # half an hour
    python -m benchmarks.recipes fashion_mnist --seconds 180 --drawn 0 --seeds 2   # the named ones: 50 minutes
    python -m benchmarks.recipes digits --seconds 5 --drawn 8 --seeds 1

Trains the named networks and configurations drawn from the preset's space, and prints, in Markdown, the errors of the
named ones, the rank correlation of the drawn ones between the recipes, and how much of the error's variance the cutout
length explains under each (the R2 of a quadratic in it). The recipes take turns, configuration by configuration; on a
CPU, seconds are processor time. Each training is appended to a file of JSON lines when it ends; a run that was stopped
goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.support import TRAINING, Bench, machine_line, prepared, print_table
from models.recipe import RECIPES
from models.registry import MODEL_KEY, MODEL_NAMES, RESNET18
from pipeline.errors import CrashedError
from pipeline.run.folder import RunFolder
from pipeline.run.json_lines import JsonLinesWriter, read_json_lines
from pipeline.settings import Settings
from pipeline.settings.space import build_space, plain_configuration
from pipeline.training import train as train_module
from pipeline.training.data import ImageData
from pipeline.training.device import device_for
from tandem_trial.clock import PhaseClock


def configurations(dataset: str, drawn: int, has_named: bool = True) -> dict[str, dict[str, Any]]:
    """Some configurations of the space, and the named networks that differ under the recipes."""
    settings, _ = prepared(dataset)
    cutout = 2 if dataset == "digits" else 8
    named = {n: {MODEL_KEY: n, "cutout_length": cutout, **TRAINING} for n in MODEL_NAMES if n != RESNET18}
    sample = build_space(settings.space, seed=1).sample_configuration(drawn)
    of_space = {f"drawn {i}": dict(plain_configuration(dict(c))) for i, c in enumerate(sample)}
    return of_space | named if has_named else of_space


def run(dataset: str, seconds: float, drawn: int, seeds: int, path: Path, has_named: bool = True) -> None:
    """Train what the file lacks."""
    done = {(row["recipe"], row["name"], row["seed"]) for row in read(path)}
    of = {recipe: prepared(dataset, *_overrides(dataset, recipe, seconds)) for recipe in RECIPES}
    given = list(enumerate(configurations(dataset, drawn, has_named).items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with JsonLinesWriter(path) as file:
        for seed, (index, (name, configuration)), recipe in itertools.product(range(seeds), given, RECIPES):
            if (recipe, name, seed) not in done:
                found = _train(*of[recipe], index, name, configuration, seconds, seed)
                row = {"recipe": recipe, "name": name, "seed": seed, **found, "cutout": configuration["cutout_length"]}
                file.append([row])


def _overrides(dataset: str, recipe: str, seconds: float) -> tuple[str, ...]:
    # On a CPU, more images than these would take longer to validate than to train on.
    fraction = 0.1 if dataset == "digits" else 0.025
    return (
        f"training.recipe={recipe}", f"search.min_budget={seconds}", f"search.max_budget={seconds}",
        f"data.validation_fraction={fraction}", "training.test=never",
    )  # fmt: skip


def _train(
    settings: Settings, data: ImageData, index: int, name: str, configuration: dict[str, Any], seconds: float, seed: int
) -> dict[str, float | None]:
    """Errors on clean and on augmented validation images; None where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(settings, data, RunFolder(Path(folder)))
        try:
            result = bench.train(index, configuration, seconds, seed=seed)
        except CrashedError as crash:
            print(f"{name}, {settings.training.recipe}: {crash}", flush=True)
            return {"error": None, "augmented": None}
    return {"error": result.loss, "augmented": result.info["augmented_validation_error"]}


def read(path: Path) -> list[dict[str, Any]]:
    """The trainings so far."""
    return read_json_lines(path) if path.exists() else []


def explained_by_cutout(cutout: list[float], errors: list[float]) -> float:
    """The share of the errors' variance that a quadratic in the cutout length explains, in [0, 1]."""
    x = np.vander(np.asarray(cutout, dtype=float), 3)
    y = np.asarray(errors, dtype=float)
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(1 - rest.var() / y.var())


def tables(rows: list[dict[str, Any]]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Errors of the named networks, and what the drawn configurations say."""
    by_name: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["error"] is not None:
            by_name.setdefault(row["name"], {}).setdefault(row["recipe"], []).append(row)
    both = {name: found for name, found in by_name.items() if len(found) == len(RECIPES)}
    header = ["network", *(f"error, {r}" for r in RECIPES), "augmented, paper-code"]
    named = [[n, *_errors(found)] for n, found in both.items() if not n.startswith("drawn")]
    if named:
        yield header, named
    drawn = [found for name, found in both.items() if name.startswith("drawn")]
    if len(drawn) > 4:
        yield ["drawn configurations", "value"], list(_compared(drawn))


def _compared(drawn: list[dict[str, list[dict[str, Any]]]]) -> Iterator[list[str]]:
    """What configurations that were trained by both recipes say of them."""
    one, other = (np.array([statistics.fmean(row["error"] for row in found[r]) for found in drawn]) for r in RECIPES)
    cutout = [next(iter(found.values()))[0]["cutout"] for found in drawn]
    yield ["compared", str(len(drawn))]
    for recipe, errors in zip(RECIPES, (one, other), strict=True):
        yield [f"mean error, {recipe}", f"{100 * errors.mean():.1f}%"]
    apart = other - one
    yield ["difference, mean (s.e.)", f"{100 * apart.mean():+.1f} ({100 * apart.std(ddof=1) / len(apart) ** 0.5:.1f})"]
    yield ["Spearman between the recipes", _spearman(one, other)]
    for recipe in RECIPES:
        twice = [[row["error"] for row in found[recipe][:2]] for found in drawn if len(found[recipe]) > 1]
        if len(twice) > 4:
            yield [f"Spearman between two seeds, {recipe}", _spearman(*np.transpose(twice))]
    for recipe, errors in zip(RECIPES, (one, other), strict=True):
        yield [f"variance explained by cutout, {recipe}", f"{explained_by_cutout(cutout, errors.tolist()):.2f}"]


def _spearman(one: np.ndarray, other: np.ndarray) -> str:
    """The rank correlation, with its 95% interval by 2,000 bootstrap samples of the configurations."""
    picked = np.random.default_rng(0).integers(len(one), size=(2000, len(one)))
    some = [spearmanr(one[i], other[i]).statistic for i in picked if len(set(i)) > 1]
    low, high = np.quantile(some, [0.025, 0.975])
    return f"{spearmanr(one, other).statistic:.2f} ({low:.2f} to {high:.2f})"


def _errors(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    means = [f"{100 * statistics.fmean(row['error'] for row in found[r]):.2f}%" for r in RECIPES]
    return [*means, f"{100 * statistics.fmean(row['augmented'] for row in found['paper-code']):.2f}%"]


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["digits", "fashion_mnist"])
    parser.add_argument("--seconds", type=float, default=60.0, help="training seconds of each")
    parser.add_argument("--drawn", type=int, default=40, help="configurations drawn from the space")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each")
    parser.add_argument(
        "--drawn-alone", action="store_true", help="not the named ones: a CPU validates them for minutes"
    )
    parser.add_argument("--file", type=Path, help="of the trainings so far")
    given = parser.parse_args()
    if device_for(prepared(given.dataset)[0]).type == "cpu":
        train_module.PhaseClock = partial(PhaseClock, now=time.process_time)
    path = given.file or Path("results") / "recipes" / f"{given.dataset}-{given.seconds:g}s.jsonl"
    run(given.dataset, given.seconds, given.drawn, given.seeds, path, not given.drawn_alone)
    print(machine_line(prepared(given.dataset)[1].device))
    for header, lines in tables(read(path)):
        print()
        print_table(header, lines)


if __name__ == "__main__":
    main()
