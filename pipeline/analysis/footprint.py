"""Where in the space the search has been: configurations in the plane, as near to each other as in the space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from sklearn.manifold import MDS

from pipeline.analysis import style
from pipeline.analysis.axes import Axis
from pipeline.analysis.items import Item
from pipeline.analysis.marks import CONFIGURATION, Drawing, Marks
from pipeline.analysis.trajectories import trajectory
from pipeline.storage.results import Results

# The projection's time grows with the square of their number.
MOST_TRIED, BORDER, STEPS = 240, 60, 100
FEWEST = 4


@dataclass(frozen=True)
class Footprint:
    """Places in the plane.

    Attributes:
        rows: rows of the configurations that are shown.
        tried: [rows, 2], their places.
        border: [points, 2], places of corners of the space: how far it reaches.
        incumbents: positions in `rows`, in the order in which they became the best.
        stress: Kruskal's stress-1 of the projection: 0: all distances are right; 0.2 and more: only near and far are.
        drawn: of how many configurations these are.
    """

    rows: np.ndarray
    tried: np.ndarray
    border: np.ndarray
    incumbents: list[int]
    stress: float
    drawn: int


def footprint(results: Results, axes: list[Axis]) -> Item:
    """The projection as a figure."""
    name, title = "footprint", "Footprint of the search"
    done = results.finished()
    if done["configuration"].nunique() < FEWEST or not axes:
        return Item(name, title, "", lacking=f"Fewer than {FEWEST} configurations have finished yet.")
    found = project(results, axes)
    drawing, caption = draw_footprint(results, found), footprint_caption(results, found)
    data = footprint_data(results, found)
    return Item(name, title, caption, drawing.figure, data=data, marks=drawing.marks)


def project(results: Results, axes: list[Axis], seed: int = 0) -> Footprint:
    """Multidimensional scaling (scikit-learn) of the tried configurations and of corners of the space."""
    generator = np.random.default_rng(seed)
    best = list(dict.fromkeys(_incumbent_rows(results)))
    rows = chosen_rows(results, best, generator)
    tried = np.column_stack([axis.encode(results.configurations[axis.name].iloc[rows]) for axis in axes])
    border = corners(axes, BORDER, generator)
    points = np.vstack([tried, border])
    scaling = MDS(
        metric="precomputed", n_init=1, init="classical_mds", max_iter=STEPS, normalized_stress=True,
        random_state=seed,
    )  # fmt: skip
    places = scaling.fit_transform(distances(points, axes))
    order = {int(row): place for place, row in enumerate(rows)}
    incumbents = [order[row] for row in best]
    count = len(rows)
    drawn = int(results.finished()["configuration"].nunique())
    return Footprint(rows, places[:count], places[count:], incumbents, float(scaling.stress_), drawn)


def _incumbent_rows(results: Results) -> list[int]:
    """Rows of the configurations that were the best on the largest budget with a result, one after the other."""
    largest = float(results.finished()["budget"].max())
    ids = results.configurations["config_id"]
    places = dict(zip(ids, range(len(ids)), strict=True))
    return [places[config_id] for config_id in trajectory(results, largest)["config_id"]]


def chosen_rows(results: Results, best: list[int], generator: np.random.Generator) -> np.ndarray:
    """At most `MOST_TRIED` configurations: the incumbents, those on larger budgets, and a sample of the others."""
    reached = results.finished().groupby("configuration")["budget"].max()
    others = reached[~reached.index.isin(best)]
    shuffled = others.iloc[generator.permutation(len(others))].sort_values(ascending=False, kind="stable")
    # Half of the room for those that got far, half for all alike: else a crowd of promoted ones hides where it looked.
    room = max(MOST_TRIED - len(best), 0)
    far = list(shuffled.index[: room // 2])
    rest = list(shuffled.index[room // 2 :])
    sample = generator.permutation(rest)[: room - len(far)]
    return np.array([*best, *far, *sample], dtype=int)


def corners(axes: list[Axis], count: int, generator: np.random.Generator) -> np.ndarray:
    """[count, axes]: coordinates of corners, where every hyperparameter has its first or its last value."""
    return np.asarray(generator.integers(0, 2, (count, len(axes))), dtype=float)


def distances(points: np.ndarray, axes: list[Axis]) -> np.ndarray:
    """[points, points]: the mean over hyperparameters of how far two values are apart (Gower 1971).

    Numbers: the difference of their coordinates; categories: 0 or 1; active against inactive (NaN): 1.
    """
    total = np.zeros((len(points), len(points)))
    for values, axis in zip(points.T, axes, strict=True):
        apart = np.abs(values[:, None] - values[None, :])
        total += np.where(apart > 0, 1.0, 0.0) if not axis.is_numeric else np.nan_to_num(apart, nan=0.0)
        inactive = np.isnan(values)
        total += inactive[:, None] != inactive[None, :]
    return total / len(axes)


def footprint_data(results: Results, found: Footprint) -> pd.DataFrame:
    """Columns config_id ("": a corner of the space), x, y, incumbent (its number; 0: it never was the best)."""
    ids = [*results.configurations["config_id"].iloc[found.rows], *[""] * len(found.border)]
    places = np.vstack([found.tried, found.border])
    numbers = np.zeros(len(ids), dtype=int)
    numbers[found.incumbents] = np.arange(1, len(found.incumbents) + 1)
    return pd.DataFrame({"config_id": ids, "x": places[:, 0], "y": places[:, 1], "incumbent": numbers})


def draw_footprint(results: Results, found: Footprint) -> Drawing:
    """Dots by the largest budget that they finished on, corners as crosses, the incumbents' way as a line."""
    figure, axes = style.new_figure(4.6)
    axis = axes[0, 0]
    axis.plot(*found.border.T, "+", color=style.GREY, ms=5, mew=0.8, label="corners of the space")
    reached = results.finished().groupby("configuration")["budget"].max().loc[found.rows].to_numpy()
    for budget, colour in style.budget_colours(results.budgets).items():
        here = found.tried[reached == budget]
        if len(here) == 0:
            continue
        label = f"up to {style.budget_label(budget, results.budget_unit)}"
        axis.scatter(*here.T, s=16, color=[colour], alpha=0.75, lw=0, label=label)
    way = found.tried[found.incumbents]
    axis.plot(*way.T, "-", color="#333333", lw=0.9, zorder=3)
    axis.plot(*way.T, "*", color=style.GREEN, mec="white", mew=0.6, ms=10, zorder=4)
    axis.plot(*way[-1:].T, "*", color=style.VERMILLION, mec="white", mew=0.6, ms=15, zorder=5)
    axis.set_aspect("equal", adjustable="datalim")
    axis.tick_params(labelleft=False, labelbottom=False, length=0)
    handles, labels = axis.get_legend_handles_labels()
    star: dict[str, object] = {"marker": "*", "ls": "-", "color": "#333333", "ms": 9, "lw": 0.9}
    handles.append(Line2D([], [], mfc=style.GREEN, mec=style.GREEN, **star))  # type: ignore[arg-type]
    handles.append(Line2D([], [], mfc=style.VERMILLION, mec=style.VERMILLION, **star))  # type: ignore[arg-type]
    labels += ["earlier incumbents", "the incumbent"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return Drawing(figure, [Marks(axis, CONFIGURATION, found.rows, *found.tried.T)])


def footprint_caption(results: Results, found: Footprint) -> str:
    """What near and far mean, how many are shown, and how far to believe it."""
    largest = style.budget_label(float(results.finished()["budget"].max()), results.budget_unit)
    return (
        f"{len(found.rows)} of {found.drawn} configurations that finished, and {len(found.border)} corners of the "
        "space, laid in the plane so that those with like values lie near each other (multidimensional scaling; the "
        f"directions mean nothing). Stars: the {len(found.incumbents)} incumbents on {largest}, joined in their order. "
        f"Stress {found.stress:.2f} (0: every distance is right; from 0.2 on trust only what is near and what is far)."
    )
