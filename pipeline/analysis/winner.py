"""The best configuration first: its values, its network, its curve, and how sure it is that it is the best."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import yaml

from pipeline.analysis import style
from pipeline.analysis.architecture import architecture_figure, plain
from pipeline.analysis.axes import ordered
from pipeline.analysis.intervals import Counted, count, counted_on
from pipeline.analysis.items import Code, Item, Section
from pipeline.analysis.metric import MISSING, TEST_ERROR, objective
from pipeline.analysis.objectives import against_others, objectives
from pipeline.analysis.single_curves import incumbent_curve
from pipeline.analysis.views import pareto
from pipeline.problems.description import Description
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.storage.tables import active_values, incumbents
from pipeline.wording import value_text

BEST = 10


def section(results: Results) -> Section:
    """Everything about the incumbent."""
    about = "The best configuration on the largest budget that has a result, and how far the others are from it."
    return Section("winner", "The best configuration", about, items(results))


def items(results: Results) -> list[Item]:
    """Values, architecture, curve, the ten best."""
    best = incumbents(results)
    if best.empty:
        return [Item("incumbent_values", "Its values", "", lacking="No evaluation has finished yet.")]
    chosen = best.iloc[-1]
    values = active_values(results, chosen)
    configuration = {name: values[name] for name in ordered(list(values))}
    ten = Item("ten_best", f"The {BEST} best", ten_caption(results), table=ten_table(results))
    shown = Item(
        "incumbent_values", "Its values", values_caption(results, chosen),
        table=values_table(configuration, results.problem), codes=codes(results, chosen, plain(configuration)),
    )  # fmt: skip
    if not results.problem.is_built_in:
        return [shown, incumbent_curve(results), ten, *against_others(results)]
    network = architecture_figure(results, str(chosen["config_id"]), configuration)
    costs = replace(pareto(results), has_choice=not objectives(results))
    return [shown, network, incumbent_curve(results), ten, costs]


def codes(results: Results, chosen: pd.Series, configuration: dict[str, object]) -> tuple[Code, ...]:
    """The configuration as YAML, and, of the paper's search, the command that trains it for the table of results."""
    text = Code("configuration as YAML", as_yaml(results, chosen, configuration))
    command = f"make retrain-incumbent RUN={shlex.quote(results.run_id)}"
    return (
        (text, Code("train it on training plus validation data", command)) if results.problem.is_built_in else (text,)
    )


def values_table(configuration: dict[str, object], problem: Description) -> pd.DataFrame:
    """A row of texts per hyperparameter; of the paper's with its unit and the part of the space that it belongs to."""
    rows = []
    for name, value in configuration.items():
        known = BY_NAME.get(name) if problem.is_built_in else None
        text = value_text(value, 4)
        unit = f" {known.unit.removesuffix('s') if text == '1' else known.unit}" if known and known.unit else ""
        rows.append((known.label if known else name, text + unit, known.part if known else MISSING))
    table = pd.DataFrame(rows, columns=["hyperparameter", "value", "part"])
    return table if problem.is_built_in else table.drop(columns="part")


def as_yaml(results: Results, chosen: pd.Series, configuration: dict[str, object]) -> str:
    """A configuration as YAML that reads back as exactly these values."""
    budget = style.budget_label(chosen["budget"], results.budget_unit)
    error = objective(results).text(chosen["loss"])
    comment = f"# {chosen['config_id']} of run {results.run_id}: {error} {objective(results).name} on {budget}"
    return f"{comment}\n{yaml.safe_dump(configuration, sort_keys=False)}".rstrip()


def rivals(results: Results) -> pd.DataFrame:
    """The finished evaluations on the largest budget with a result, best first."""
    done = results.finished()
    here: pd.DataFrame = done[done["budget"] == done["budget"].max()]
    return here.sort_values(["loss", "iteration", "stage", "index"], kind="stable")


def counted(results: Results, error: float, column: str = "loss") -> Counted | None:
    """An error of this run as a count with its interval; None: it was not counted."""
    if np.isnan(error):
        return None
    of = counted_on(results.finished()[column])
    return None if of is None else count(error, of)


def values_caption(results: Results, chosen: pd.Series) -> str:
    """The incumbent's errors with their intervals, and how many others are as good."""
    metric = objective(results)
    budget = style.budget_label(chosen["budget"], results.budget_unit)
    text = f"{chosen['config_id']} on {budget}: {metric.name} {interval_text(results, float(chosen['loss']))}"
    if results.problem.is_built_in:
        test = interval_text(results, float(chosen["test_error"]), "test_error")
        text += f", test error {test}, {style.millions(chosen['parameters'])} parameters"
    text += "."
    return f"{text} {ties_text(results, float(chosen['loss']))}".rstrip()


def interval_text(results: Results, error: float, column: str = "loss") -> str:
    """An error with its interval: `3.33% (5 of 150 wrong; 95% interval 1.43% to 7.57%)`."""
    metric = objective(results) if column == "loss" else TEST_ERROR
    known = counted(results, error, column)
    if metric.is_maximised:
        known = None  # an accuracy is no count of what is wrong
    if known is None:
        return "not measured" if np.isnan(error) else metric.text(error)
    interval = f"{metric.text(known.low)} to {metric.text(known.high)}"
    return f"{metric.text(error)} ({known.wrong} of {known.of:,} wrong; 95% interval {interval})"


def ties_text(results: Results, error: float) -> str:
    """How many others have the same error, and how many lie inside its interval; "" where it was not counted."""
    losses = rivals(results)["loss"].to_numpy()
    others = len(losses) - 1
    same = int((losses == error).sum()) - 1
    known = counted(results, error)
    parts = [f"{same} of {others} others on this budget have the same result."] if same else []
    if known is not None and others:
        inside = int((losses <= known.high).sum()) - 1
        parts.append(
            f"{inside} of {others} others on this budget lie inside its interval (Wilson): on so few images they are "
            "not told apart."
            if inside
            else f"None of {others} others on this budget lies inside its interval (Wilson)."
        )
    return " ".join(parts)


def ten_table(results: Results) -> pd.DataFrame:
    """The best on the largest budget as texts, with their values; equal errors share a rank."""
    metric = objective(results)
    here = rivals(results)
    ranks = here["loss"].rank(method="min").astype(int)
    shared = ranks.duplicated(keep=False)
    rows = []
    for place, (_, row) in enumerate(here.head(BEST).iterrows()):
        rank = f"{ranks.iloc[place]}{' (shared)' if shared.iloc[place] else ''}"
        cells = {"rank": rank, "configuration": str(row["config_id"])}
        cells[metric.label] = metric.number(row["loss"])
        known = counted(results, float(row["loss"]))
        if known is not None:
            cells["wrong"] = f"{known.wrong} of {known.of:,}"
            cells["95% interval"] = f"{metric.number(known.low)} to {metric.number(known.high)}"
        if results.problem.is_built_in:
            cells[TEST_ERROR.label] = TEST_ERROR.number(row["test_error"])
            cells["parameters"] = style.millions(row["parameters"])
        for name in ordered(results.hyperparameters):
            cells[BY_NAME[name].label if name in BY_NAME else name] = value_text(row[name], 3)
        rows.append(cells)
    return pd.DataFrame(rows)


def ten_caption(results: Results) -> str:
    """How many there are to choose from."""
    here = rivals(results)
    budget = style.budget_label(here["budget"].iloc[0], results.budget_unit)
    of = counted_on(results.finished()["loss"])
    trust = ": trust the test error" if results.problem.is_built_in else ""
    intervals = f" Errors are counts of {of:,} images; intervals: Wilson, 95%." if of else ""
    return (
        f"The best {min(BEST, len(here))} of {len(here)} configurations on {budget}, ties by the lower number."
        f"{intervals} The best of many is better than it will be again{trust}."
    )
