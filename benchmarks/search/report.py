"""Write the tables and figures of stored searches into docs/search-quality.md, between its two marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

from benchmarks.search.analysis import BUDGETS, Comparison, budget_to_reach, read
from benchmarks.search.methods import methods
from benchmarks.search.suite import PROBLEMS, problem
from benchmarks.search.tables.table import SURROGATES, read_table, surrogate_error, table_path
from pipeline.wording import counted

BEGIN, END = "<!-- written by `make bench-search` from here -->", "<!-- to here -->"
CURVE = tuple(sorted({*BUDGETS, *np.round(np.geomspace(2, 100, 40), 3)}))
# Whose regret at 100 budgets is to be reached: stock BOHB's, or while it has not been run, that of its equal.
GOALS = ("hpbandster.bohb", "tandem.bohb")


def write(results: Path, document: Path) -> None:
    """Replace what stands between the marks, and the figures beside the document; a new document has nothing else.

    Raises:
        SystemExit: there are no searches, and what the document has would be lost.
    """
    mpl.use("Agg")
    comparison = read(results, CURVE)
    if not comparison.searches:
        raise SystemExit(f"There are no searches in {results}: {document} is left as it is.")
    text = document.read_text(encoding="utf-8") if document.exists() else f"{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    images = document.parent / "images"
    lines = [*_coverage(comparison), *_tables(comparison), *_figures(comparison, images), *_surrogates()]
    document.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, with a blank line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def problems_of(comparison: Comparison, workers: int, kind: str | None = None) -> list[str]:
    """Problems that have searches with this many workers."""
    there = {key.problem for key in comparison.searches if key.workers == workers}
    return [name for name in PROBLEMS if name in there and kind in (None, problem(name).kind)]


def workers_of(comparison: Comparison) -> list[int]:
    """Numbers of workers that were compared."""
    return sorted({key.workers for key in comparison.searches})


# What ran ------------------------------------------------------------------------------------------------------------
def _coverage(comparison: Comparison) -> Iterator[str]:
    yield "### What ran"
    yield ""
    counts = workers_of(comparison)
    rows = []
    for method in methods():
        mine = [s for k, s in comparison.searches.items() if k.method == method]
        if not mine and method.startswith("tandem."):
            continue
        if not mine:
            rows.append([method, *["-"] * len(counts), "-", "not run"])
            continue
        rows.append([
            method,
            *(_seeds(comparison, method, count) for count in counts),
            f"{np.mean([s.proposal_ms for s in mine]):.1f}",
            "; ".join(sorted({f"{s.key.problem}: {s.ended}" for s in mine if s.ended}))[:200],
        ])  # fmt: skip
    header = ["method", *(_workers(count) for count in counts), "ms per proposal", "ended early"]
    yield "Problems x seeds, fewest to most seeds, and processor time per proposal (results' taking-in included)."
    yield ""
    yield from table(header, rows)


def _seeds(comparison: Comparison, method: str, workers: int) -> str:
    keys = [k for k in comparison.searches if k.method == method and k.workers == workers]
    each = [sum(k.problem == name for k in keys) for name in {k.problem for k in keys}]
    if not each:
        return "-"
    return f"{len(each)} x {min(each)}" + (f" to {max(each)}" if max(each) != min(each) else "")


def _workers(count: int) -> str:
    return "sequential" if count == 1 else f"{count} workers"


# Tables --------------------------------------------------------------------------------------------------------------
def _tables(comparison: Comparison) -> Iterator[str]:
    for workers in workers_of(comparison):
        for kind, title in ((None, "all problems"), ("real", "real tables alone")):
            names = problems_of(comparison, workers, kind)
            if not names or (kind and len(names) == len(problems_of(comparison, workers))):
                continue
            yield f"### {_workers(workers).capitalize()}, {title}"
            yield ""
            yield from _summary(comparison, workers, names)
        yield from _each_problem(comparison, workers)


def _summary(comparison: Comparison, workers: int, names: list[str]) -> Iterator[str]:
    enough = _enough_seeds(comparison, workers, names)
    main = _in_order(comparison, workers, names, enough)
    others = [m for m in _in_order(comparison, workers, names, 1) if m not in main]
    yield (
        f"{len(names)} problems: {', '.join(names)}. Mean regret relative to a random configuration's (standard error, "
        "if every problem has several seeds), and mean rank, over the searches that all methods of a column have. "
        f"The methods with {counted(enough, 'seed')}:"
    )
    yield ""
    yield from _standings(comparison, workers, names, enough)
    if others:
        yield f"With fewer seeds ({', '.join(others)}), beside those above on the same searches:"
        yield ""
        yield from _standings(comparison, workers, names, 1)
    yield from _tests(comparison, workers, names, [*main, *others])


def _enough_seeds(comparison: Comparison, workers: int, names: list[str]) -> int:
    """The most seeds that two methods have: with one method there is nothing to compare."""
    counts = (comparison.least_seeds(m, workers, names, BUDGETS[0]) for m in comparison.methods(workers))
    return max(sorted(counts, reverse=True)[:2][-1], 1)


def _standings(comparison: Comparison, workers: int, names: list[str], seeds: int) -> Iterator[str]:
    """A table of the methods that have every problem with so many seeds, a column over what all of the column have."""
    there = {until: comparison.whole(workers, names, until, seeds) for until in BUDGETS}
    shared = {until: comparison.shared(there[until], workers, until) for until in BUDGETS}
    cells: dict[str, dict[str, str]] = {method: {} for method in _in_order(comparison, workers, names, seeds)}
    searches = []
    for until in BUDGETS:
        at = comparison.budgets.index(until)
        ranks = shared[until].ranks(there[until], workers, names)[:, :, at]
        searches.append(f"{len(ranks)} at {until:g}")
        for i, method in enumerate(there[until]):
            mean, error = shared[until].mean_regret(method, workers, names)
            cells[method][f"regret at {until:g}"] = _with_error(mean[at], error[at])
            if len(there[until]) > 1:
                cells[method][f"rank at {until:g}"] = f"{ranks[:, i].mean():.2f}"
    last = BUDGETS[-1]
    leader, needed = _needed(shared[last], there[last], workers, names)
    for method, budget in needed.items():
        cells[method][leader] = f"{budget:.0f}" if np.isfinite(budget) else "-"
    header = [*(f"regret at {b:g}" for b in BUDGETS), *(f"rank at {b:g}" for b in BUDGETS), leader]
    yield from table(["method", *header], [[m, *(row.get(name, "-") for name in header)] for m, row in cells.items()])
    yield f"Searches of each: {', '.join(searches)}."
    yield ""


def _needed(shared: Comparison, there: list[str], workers: int, names: list[str]) -> tuple[str, dict[str, float]]:
    """What the last column is called, and the budget that each method needs for the leader's last regret."""
    leader = next((method for method in GOALS if method in there), GOALS[-1])
    goal = (
        shared.mean_regret(leader, workers, names)[0][shared.budgets.index(BUDGETS[-1])] if leader in there else np.nan
    )
    needed = {method: budget_to_reach(shared, method, workers, names, goal) for method in there}
    return f"budgets to {leader}'s regret at {BUDGETS[-1]:g}", needed


def _in_order(comparison: Comparison, workers: int, names: list[str], seeds: int) -> list[str]:
    """Methods that have every problem with so many seeds: those that went on longest first, then by regret there."""
    there = {until: comparison.whole(workers, names, until, seeds) for until in BUDGETS}

    def place(method: str) -> tuple[float, float, str]:
        last = max(until for until in BUDGETS if method in there[until])
        mean, _ = comparison.mean_regret(method, workers, names)
        return -last, float(mean[comparison.budgets.index(last)]), method

    return sorted(there[BUDGETS[0]], key=place)


def _with_error(mean: float, error: float) -> str:
    if not np.isfinite(mean):
        return "-"
    return f"{mean:.3f}" + (f" ({error:.3f})" if np.isfinite(error) else "")  # one search has no standard error


def _tests(comparison: Comparison, workers: int, names: list[str], ordered: list[str]) -> Iterator[str]:
    ours = next((m for m in ordered if m.startswith("tandem.")), None)
    if ours is None:
        return
    rows = []
    for other in ordered:
        cells = []
        for budget in (25.0, 100.0):
            pair = comparison.paired(ours, other, workers, names, budget) if other != ours else None
            cells.append(f"{pair.mean:+.3f} ({pair.error:.3f}), p {pair.p:.2g}, {pair.pairs} pairs" if pair else "-")
        if other != ours:
            rows.append([other, *cells])
    yield (
        f"{ours} against each, pair by pair of problem and seed: mean difference of relative regret (standard error; "
        "negative: less regret), p of Wilcoxon's signed-rank test, not corrected for their number."
    )
    yield ""
    yield from table(["against", "at 25", "at 100"], rows)


def _each_problem(comparison: Comparison, workers: int) -> Iterator[str]:
    names = problems_of(comparison, workers)
    yield f"Relative regret at 100 by problem, {_workers(workers)} (at 50 or 25 where a method did not go on):"
    yield ""
    rows = []
    for method in comparison.methods(workers):
        rows.append([method, *(_cell(comparison.regret(name, method, workers), comparison) for name in names)])
    yield from table(["method", *names], rows)


def _cell(found: np.ndarray, comparison: Comparison) -> str:
    if not len(found):
        return "-"
    for budget, mark in ((100.0, ""), (50.0, " (50)"), (25.0, " (25)")):
        values = found[:, comparison.budgets.index(budget)]
        values = values[np.isfinite(values)]
        if len(values):
            error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
            return f"{values.mean():.3f}{error}{mark}"
    return "-"


# Figures -------------------------------------------------------------------------------------------------------------
def _figures(comparison: Comparison, folder: Path) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    for workers in workers_of(comparison):
        names = problems_of(comparison, workers)
        enough = _enough_seeds(comparison, workers, names)
        # As far as there are two to compare: one alone is always the first.
        compared = (comparison.whole(workers, names, until, enough) for until in reversed(BUDGETS))
        shown = next((found for found in compared if len(found) > 1), None)
        if shown is None:
            continue
        name = f"search-quality-{workers}.png"
        _draw(comparison, workers, names, shown, folder / name)
        yield f"![Mean relative regret and mean rank against budget, {_workers(workers)}](images/{name})"
        yield ""


def _draw(comparison: Comparison, workers: int, names: list[str], shown: list[str], path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    budgets = np.array(comparison.budgets)
    ranks = comparison.ranks(shown, workers, names)
    # A method looks the same in every figure.
    places = {method: place for place, method in enumerate(methods())}
    for i, method in enumerate(shown):
        mean, error = comparison.mean_regret(method, workers, names)
        row, column = divmod(places[method], 10)
        width = 2.2 if method.startswith("tandem.") else 1.0
        style = {"color": f"C{column}", "linewidth": width, "linestyle": ("-", "--", ":")[row]}
        left.plot(budgets, mean, label=method, **style)
        left.fill_between(budgets, mean - error, mean + error, color=style["color"], alpha=0.12, linewidth=0)
        right.plot(budgets, ranks[:, i].mean(axis=0), label=method, **style)
    for axes, title in ((left, "mean regret / a random configuration's"), (right, "mean rank (1 is best)")):
        axes.set(xscale="log", xlabel="budget spent, in evaluations on the largest budget", title=title)
        axes.set_xticks(BUDGETS, [f"{b:g}" for b in BUDGETS])
    left.set_yscale("log")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.suptitle(f"{_workers(workers)}, {len(names)} problems")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# Tables of real trainings --------------------------------------------------------------------------------------------
def _surrogates() -> Iterator[str]:
    rows = []
    for name in ("digits", "fashion_mnist"):
        if not table_path(name).exists():
            continue
        about = read_table(name)
        for kind in SURROGATES:
            error = surrogate_error(name, kind)
            rows.append([
                name, f"{len(about.X)}", f"{about.crashed}", f"{about.errors[:, -1].min():.3f}",
                f"{np.median(about.errors[:, -1]):.3f}", kind, f"{error.rmse:.3f}", f"{error.r2:.2f}",
                f"{error.spearman:.2f}", f"{100 * error.cost:.0f}%",
            ])  # fmt: skip
    if rows:
        yield "### The recorded tables and their surrogates"
        yield ""
        yield "Validation errors on the largest budget; errors of a surrogate by 5-fold cross-validation."
        yield ""
        header = [
            "table",
            "configurations",
            "crashed",
            "best",
            "median",
            "surrogate",
            "RMSE",
            "R2",
            "Spearman",
            "error of cost",
        ]
        yield from table(header, rows)
