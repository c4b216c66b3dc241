"""What stands at the top of the report: the run in a few numbers, and the facts a reader needs to judge them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.analysis import style
from pipeline.analysis.metric import TEST_ERROR, objective
from pipeline.analysis.objectives import front_facts
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents


@dataclass(frozen=True)
class Card:
    """One number of the summary."""

    label: str
    value: str
    detail: str


def cards(results: Results) -> list[Card]:
    """Incumbent, evaluations, worker time and model-based proposals."""
    counts = results.evaluations["status"].value_counts()
    open_ones = int(counts.get("running", 0) + counts.get("waiting", 0) + counts.get("stopped", 0))
    states = [f"{counts.get('crashed', 0)} crashed"] + ([f"{open_ones} not finished"] if open_ones else [])
    spent = float(np.nansum(results.attempts["wall_s"]))
    lost = float(np.nansum(results.attempts["lost_s"]))
    proposed = int(results.configurations["model_based"].sum())
    drawn = len(results.configurations)
    share = f"of {drawn} configurations ({100 * proposed / drawn:.0f}%)" if drawn else "nothing drawn yet"
    return [
        _incumbent(results),
        *front_cards(results),
        Card("evaluations finished", f"{counts.get('finished', 0)}", ", ".join(states)),
        Card(_time_label(results), style.duration_label(spent), f"{style.duration_label(lost)} of training lost"),
        Card("proposed by the model", f"{proposed}", share),
    ]


def front_cards(results: Results) -> list[Card]:
    """With several objectives: the front's size, its hypervolume and the best of each."""
    facts_of_front = front_facts(results)
    return [Card("on the front", *facts_of_front)] if facts_of_front else []


def _incumbent(results: Results) -> Card:
    best = incumbents(results)
    if best.empty:
        return Card("incumbent", "–", "no evaluation has finished")
    last = best.iloc[-1]
    budget = style.budget_label(last["budget"], results.budget_unit)
    metric = objective(results)
    test = f", test {TEST_ERROR.text(last['test_error'])}" if not np.isnan(last["test_error"]) else ""
    size = f", {style.millions(last['parameters'])} parameters" if not np.isnan(last["parameters"]) else ""
    detail = f"{last['config_id']} on {budget}{test}{size}"
    return Card(f"incumbent's {metric.name}", metric.text(last["loss"]), detail)


def _time_label(results: Results) -> str:
    devices = results.attempts["device"]
    # A processor's name ends with the number of its threads (`pipeline.training.device.device_name`).
    on_gpu = bool((devices != "").any()) and not devices.str.contains(r"\bthreads?$").any()
    return "GPU time spent" if on_gpu else "worker time spent"


def facts(results: Results) -> list[tuple[str, str]]:
    """Name and value of what a reader needs to know of the run."""
    search, provenance = results.settings["search"], results.provenance
    commit = str(provenance.get("commit") or "not known")[:12] + (
        " (with local changes)" if provenance.get("dirty") else ""
    )
    # Runs of earlier versions do not say: they had brackets.
    how = " without barriers (asha)" if search.get("scheduler") == "asha" else ""
    if search.get("promote_by", "rank") != "rank":
        how += f", promotions by {search['promote_by']}"
    if search.get("freeze_below"):
        how += f", survivors frozen below a chance of {search['freeze_below']:.0%}"
    ladder = ", ".join(style.budget_label(b, results.budget_unit) for b in results.budgets)
    promotion = {"continue": "continues from the lower rung's checkpoint", "restart": "trains from scratch"}
    return [
        ("data set" if results.problem.is_built_in else "problem", results.dataset),
        ("method", f"{search['method']}{how}, {search['iterations']:,} iterations, eta {search['eta']:g}"),
        ("budgets", ladder),
        ("a promoted configuration", promotion[search["promotion"]]),
        ("seed", str(results.settings["seed"])),
        ("commit", commit),
        ("command", str(provenance.get("command") or "not known")),
    ]
