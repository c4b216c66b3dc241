"""Figure and tables of the stored searches, written into docs/performance.md between its two marks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.headline.kept import SEARCH, stored
from benchmarks.headline.kills import kill_lines
from benchmarks.headline.protocol import PRESET, SIDES, STOCK, TITLES, WORKERS, Size
from pipeline.analysis.style import CYCLE, RC, new_figure
from pipeline.files import publish_text, read_json
from pipeline.wording import counted

BEGIN, END = "<!-- written by `make bench-headline` from here -->", "<!-- to here -->"
IMAGE = Path("images") / "headline.png"
# Of ten classes, before there is an incumbent.
GUESSING = 0.9
MOMENTS = 400

Record = Mapping[str, Any]


def read(folders: Sequence[Path], size: Size) -> dict[str, list[Record]]:
    """Searches that have ended, by side, in the order of the tables; seeds that every side has come first."""
    records = [read_json(path) for path in stored(folders, SEARCH.format(size=size.name, key="*"))]
    by_side = {side: [r for r in records if r["key"]["side"] == side] for side in SIDES}
    return {side: sorted(mine, key=lambda r: r["key"]["seed"]) for side, mine in by_side.items() if mine}


def common(by_side: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """Searches of the seeds that every side has: they are compared, and no others."""
    seeds = set.intersection(*({r["key"]["seed"] for r in mine} for mine in by_side.values()))
    return {side: [r for r in mine if r["key"]["seed"] in seeds] for side, mine in by_side.items()}


def error_at(record: Record, moments: np.ndarray) -> np.ndarray:
    """The incumbent's test error at each moment, shape (n,); guessing before there is one."""
    time = f"{record['size']['clock']}_s"
    times = np.array([0.0, *(i[time] for i in record["incumbents"])])
    errors = np.array([GUESSING, *(i["test_error"] for i in record["incumbents"])])
    return errors[np.searchsorted(times, moments, side="right") - 1]


def curve(records: Sequence[Record], moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the seeds, each of shape (n,); one seed has no standard error (NaN)."""
    errors = np.array([error_at(record, moments) for record in records])
    spread = errors.std(axis=0, ddof=1) / np.sqrt(len(errors)) if len(errors) > 1 else np.full(len(moments), np.nan)
    return errors.mean(axis=0), spread


def time_to_reach(records: Sequence[Record], goal: float, moments: np.ndarray) -> float:
    """The first moment at which the mean error is no more than `goal`; NaN: never."""
    reached = np.flatnonzero(curve(records, moments)[0] <= goal)
    return float(moments[reached[0]]) if len(reached) else float("nan")


def moments_of_tables(size: Size) -> np.ndarray:
    """Where tables look for the time to an error, shape (n,): finer than the figure."""
    return np.linspace(0, size.seconds, 10 * MOMENTS)


def report(folders: Sequence[Path], size: Size, document: Path = Path("docs") / "performance.md") -> None:
    """Replace what stands between the document's marks, and its figure."""
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    lines = "\n".join([*search_lines(folders, size, document.parent / IMAGE), *kill_lines(folders)])
    publish_text(document, f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}")
    print(lines)


def search_lines(folders: Sequence[Path], size: Size, image: Path) -> list[str]:
    """Figure and table of the searches, as far as every side has them; what is missing where none has."""
    by_side = read(folders, size)
    there = common(by_side) if by_side else {}
    if STOCK not in there or not there[STOCK]:
        return ["**No searches are stored yet**: figure and table appear here once every side has one.", ""]
    draw(there, size, image)
    return [*describe(there, size), *table(there, size), *table_of_seeds(there, size)]


def draw(by_side: Mapping[str, Sequence[Record]], size: Size, path: Path) -> None:
    """The incumbent's test error over time, a line per side with a band of one standard error."""
    moments = np.linspace(0, size.seconds, MOMENTS)
    with mpl.rc_context(RC):
        figure, axes = new_figure(3.4)
        figure_axes = axes[0, 0]
        for (side, records), colour in zip(by_side.items(), CYCLE, strict=False):
            mean, spread = curve(records, moments)
            figure_axes.plot(moments, 100 * mean, color=colour, label=TITLES[side])
            figure_axes.fill_between(
                moments, 100 * (mean - spread), 100 * (mean + spread), color=colour, alpha=0.2, linewidth=0
            )
        figure_axes.set_xlabel(f"{size.clock} time of the search, s")
        figure_axes.set_ylabel("incumbent's test error, %")
        figure_axes.set_title(caption(by_side, size), loc="left")
        figure_axes.legend()
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def caption(by_side: Mapping[str, Sequence[Record]], size: Size) -> str:
    """What was run, in a line."""
    seeds = len(next(iter(by_side.values())))
    return (
        f"Fashion-MNIST, {WORKERS} workers of one core, {size.seconds:g} s a search, budgets to {size.max_budget:g} s, "
        f"{counted(seeds, 'seed')} a side"
    )


def describe(by_side: Mapping[str, Sequence[Record]], size: Size) -> Iterator[str]:
    """What was run, at what load, and with which command."""
    records = [r for mine in by_side.values() for r in mine]
    stretch = statistics.median(r["wall_s"] / r["processor_s"] for r in records)
    options = f"--seconds {size.seconds:g} --max-budget {size.max_budget:g} --seeds {len(records) // len(by_side)}"
    yield f"![{caption(by_side, size)}]({IMAGE.as_posix()})"
    yield ""
    yield f"{caption(by_side, size)}: `python -m benchmarks.headline {options} --clock {size.clock}`. The preset"
    yield f"`{PRESET}`'s ladder up to there. A search took {stretch:.1f} times its workers' processor time (median;"
    yield "idle: 1.0)."
    yield ""


def table(by_side: Mapping[str, Sequence[Record]], size: Size) -> Iterator[str]:
    """A line per side."""
    moments = moments_of_tables(size)
    goal = curve(by_side[STOCK], moments)[0][-1] if STOCK in by_side else float("nan")
    yield (
        "| | % test error at the end (s.e.) | evaluations | on the largest budget "
        "| time to the first line's final error | curve rows kept |"
    )
    yield "|---|---|---|---|---|---|"
    for side, records in by_side.items():
        mean, spread = curve(records, moments)
        error = f"{100 * mean[-1]:.1f}" + (f" ({100 * spread[-1]:.1f})" if np.isfinite(spread[-1]) else "")
        counts = [len(r["evaluations"]) for r in records]
        largest = [sum(e["budget"] == size.max_budget for e in r["evaluations"]) for r in records]
        reach = time_to_reach(records, goal, moments)
        share = f"{reach:.0f} s ({reach / size.seconds:.2f} of the time)" if np.isfinite(reach) else "not reached"
        rows = statistics.fmean(r["curve_rows"] for r in records)
        yield (
            f"| {TITLES[side]} | {error} | {statistics.fmean(counts):.1f} | {statistics.fmean(largest):.1f} | {share} "
            f"| {rows:.0f} |"
        )
    yield ""


def table_of_seeds(by_side: Mapping[str, Sequence[Record]], size: Size) -> Iterator[str]:
    """A line per seed: every search alone, against the same seed's search of stock hpbandster."""
    moments = moments_of_tables(size)
    yield "Seed by seed: % test error at the end, and in brackets after how many seconds a search came to the final"
    yield "error of the same seed's search in the first column (-: never):"
    yield ""
    yield f"| seed | {' | '.join(TITLES[side] for side in by_side)} |"
    yield f"|---|{'---|' * len(by_side)}"
    for of_stock, *same_seed in zip(by_side[STOCK], *by_side.values(), strict=True):
        goal = error_at(of_stock, moments[-1:])[0]
        cells = (error_and_time(record, goal, moments) for record in same_seed)
        yield f"| {of_stock['key']['seed']} | {' | '.join(cells)} |"
    yield ""


def error_and_time(record: Record, goal: float, moments: np.ndarray) -> str:
    """A search's final error in %, and when it came to `goal`."""
    reach = time_to_reach([record], goal, moments)
    error = error_at(record, moments[-1:])[0]
    return f"{100 * error:.1f} ({f'{reach:.0f}' if np.isfinite(reach) else '-'})"
