"""The poster's table: test errors of the baselines and of the search's incumbent, the published ones beside them."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.metric import MISSING, TEST_ERROR
from pipeline.storage.results import Results
from pipeline.storage.retrained import INCUMBENT
from pipeline.storage.tables import incumbents

POSTER_DATASET = "cifar10"
# Zela et al. 2018: CIFAR-10 test error in percent (mean, standard deviation) after 3 h on one GPU, and parameters (M).
POSTER: dict[str, tuple[str, float | None, str]] = {
    "resnet18": ("ResNet-18", 11.2, "3.34 ± 0.11"),
    "shake_shake_26_2x32d": ("Shake-Shake 26 2x32d", 2.9, "3.91 ± 0.09"),
    "shake_shake_26_2x64d": ("Shake-Shake 26 2x64d", 11.7, "3.38 ± 0.07"),
    "shake_shake_26_2x96d": ("Shake-Shake 26 2x96d", 26.2, "4.42 ± 0.06"),
    INCUMBENT: ("incumbent of the search", 27.6, "3.18 ± 0.16"),
}


def section(results: Results) -> Section:
    """The table of results."""
    about = (
        "Models trained on training plus validation data for the largest budget, with several seeds, by "
        "make baselines and make retrain-incumbent, measured on the test set."
    )
    return Section("results", "Test errors", about, [results_table(results)])


def summarise(results: Results) -> pd.DataFrame:
    """A row per model of the table: its finished trainings.

    Only trainings on this run's data set and largest budget count, and only those of the present incumbent.

    Returns:
        Columns: model, parameters, seeds (finished), running, crashed (with the kinds), mean, std (of the test error,
        fractions; std is the sample standard deviation, NaN for one seed).
    """
    found = results.retrained
    budget = max(results.budgets)
    found = found[np.isclose(found["budget"], budget) & (found["dataset"] == results.dataset)]
    found = found[found["budget_unit"] == results.budget_unit]
    best = incumbents(results)
    present = str(best["config_id"].iloc[-1]) if len(best) else ""
    found = found[(found["model"] != INCUMBENT) | (found["config_id"] == present)]
    rows = []
    for model in [*POSTER, *sorted(set(found["model"]) - set(POSTER))]:
        here = found[found["model"] == model]
        done = here[(here["status"] == "finished") & here["test_error"].notna()]
        parameters = here["parameters"].iloc[0] if len(here) else np.nan
        if model == INCUMBENT and len(best) and np.isnan(parameters):
            parameters = best["parameters"].iloc[-1]
        spread = done["test_error"].std(ddof=1) if len(done) > 1 else np.nan
        running = int((here["status"] == "running").sum())
        failed = here[here["status"] == "crashed"]
        kinds = ", ".join(sorted({str(reason).partition(":")[0] for reason in failed["reason"]} - {""}))
        crashed = f"{len(failed)} crashed: {kinds}" if len(failed) else ""
        rows.append((model, parameters, len(done), running, crashed, done["test_error"].mean(), spread))
    return pd.DataFrame(rows, columns=["model", "parameters", "seeds", "running", "crashed", "mean", "std"])


def results_table(results: Results) -> Item:
    """The table, with what is missing said in its place; the poster's numbers only beside the poster's data set."""
    title = "Test error of the incumbent and of the baselines"
    summary = summarise(results)
    is_begun = (summary["seeds"] + summary["running"] > 0) | (summary["crashed"] != "")
    if not is_begun.any():
        commands = ", ".join(_commands(results, summary["model"]))
        return Item(
            "test_errors", title, "", lacking=f"Nothing has been trained for this table yet. It takes: {commands}"
        )
    return Item("test_errors", title, table_caption(results, summary), table=table_texts(results, summary))


def table_texts(results: Results, summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as texts."""
    is_posters = results.dataset == POSTER_DATASET
    rows = []
    for model, parameters, seeds, running, crashed, mean, std in summary.itertuples(index=False, name=None):
        name, published_parameters, published = POSTER.get(model, (model, None, MISSING))
        others = ", ".join(filter(None, (f"{running} running" if running else "", crashed)))
        row = {
            "model": name,
            "parameters (M)": MISSING if np.isnan(parameters) else _millions(parameters),
            TEST_ERROR.label: _error(mean, std),
            "seeds": f"{seeds}" + (f" (+ {others})" if others else ""),
        }
        if is_posters:
            row["poster: parameters (M)"] = MISSING if published_parameters is None else f"{published_parameters:g}"
            row["poster: test error (%)"] = published
        rows.append(row)
    return pd.DataFrame(rows)


def table_caption(results: Results, summary: pd.DataFrame) -> str:
    """How they were trained, and what is missing."""
    # The same training would crash again.
    missing = summary[(summary["seeds"] == 0) & (summary["crashed"] == "")]["model"]
    names = ", ".join(POSTER[m][0] for m in missing)
    lack = f" Missing: {names} (run: {', '.join(_commands(results, missing))})." if len(missing) else ""
    budget = style.budget_label(max(results.budgets), results.budget_unit)
    poster = " The poster's are after 3 h on one GTX 1080 Ti." if results.dataset == POSTER_DATASET else ""
    return (
        f"Test error on {results.dataset}, mean ± standard deviation over seeds, after training for {budget} on "
        f"training plus validation data.{poster}{lack}"
    )


def _commands(results: Results, missing: pd.Series) -> list[str]:
    run = shlex.quote(results.run_id)
    commands = [f"make baselines RUN={run}"] if (missing != INCUMBENT).any() else []
    return commands + ([f"make retrain-incumbent RUN={run}"] if (missing == INCUMBENT).any() else [])


def _millions(parameters: float) -> str:
    return f"{parameters / 1e6:.1f}" if parameters >= 1e5 else f"{parameters / 1e6:.2g}"


def _error(mean: float, std: float) -> str:
    if np.isnan(mean):
        return "missing"
    number = TEST_ERROR.number
    return f"{number(mean)} (one seed)" if np.isnan(std) else f"{number(mean)} ± {number(std)}"
