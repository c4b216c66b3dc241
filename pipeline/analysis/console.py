"""A collected run in a screenful of text: the summary's numbers, an incumbent per budget, the best configuration."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.metric import TEST_ERROR, objective
from pipeline.analysis.summary import cards
from pipeline.storage.results import Results, load_results
from pipeline.storage.tables import active_values, incumbents
from pipeline.wording import value_text


def summary_text(path: Path) -> str:
    """The summary of a results.h5, ready to print."""
    results = load_results(path)
    lines = ["", *(f"{card.value:>10}  {card.label} ({card.detail})" for card in cards(results))]
    best = incumbents(results)
    if not best.empty:
        lines += ["", _incumbent_table(results, best), "", *_configuration(results, best.iloc[-1])]
    return "\n".join([*lines, ""])


def _incumbent_table(results: Results, best: pd.DataFrame) -> str:
    metric = objective(results)
    finished = results.finished().groupby("budget").size()
    table = pd.DataFrame(
        {
            "budget": [style.budget_label(b, results.budget_unit) for b in best["budget"]],
            "evaluations": [int(finished[b]) for b in best["budget"]],
            "incumbent": best["config_id"].to_list(),
            metric.name: [metric.text(x) for x in best["loss"]],
        }
    )
    if results.problem.is_built_in:
        table[TEST_ERROR.name] = [TEST_ERROR.text(x) for x in best["test_error"]]
        table["parameters"] = [style.millions(x) for x in best["parameters"]]
    return table.to_string(index=False)


def _configuration(results: Results, incumbent: pd.Series) -> list[str]:
    budget = style.budget_label(incumbent["budget"], results.budget_unit)
    values = [f"{name}={value_text(value, 4)}" for name, value in active_values(results, incumbent).items()]
    return [f"Incumbent {incumbent['config_id']} on {budget}:", *_wrapped(values)]


def _wrapped(words: list[str], width: int = 100) -> list[str]:
    lines = ["  "]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("  ")
        lines[-1] += word + "  "
    return [line.rstrip() for line in lines]
