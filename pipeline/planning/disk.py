"""The disk that a search takes: checkpoints while it runs, curves for good."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from models.architecture import architecture_of
from models.cost import FLOAT32_BYTES, searched_network_cost
from pipeline.planning.costs import SearchCost
from pipeline.planning.simulation import Timeline
from pipeline.problems.freezing import read_problem
from pipeline.problems.space import build_space
from pipeline.search.proposers import RandomProposer
from pipeline.settings import Settings
from pipeline.training.datasets import DATASET_INFO

# Configurations that are drawn to see how large networks are.
DRAWN = 300
# Of images of one's own, which are not read for a plan.
USUAL_IMAGE, USUAL_CLASSES = (3, 32, 32), 10
# Weights and momentum; adamw has a second moment, too.
VALUES_PER_PARAMETER = {"sgd": 2, "adamw": 3}
# An attempt's file: its header, and a row of 18 numbers per epoch, which takes a second or more on data sets of images.
FILE_BYTES, ROW_BYTES, SHORTEST_EPOCH_S = 20_000, 144, 1.0


@dataclass(frozen=True)
class DiskNeed:
    """What lies on disk.

    Attributes:
        checkpoints: the most of them at once.
        checkpoint_mb, large_checkpoint_mb: the mean of one, and what one in ten exceeds; None: they are an objective's
            of the user's own, whose size is not known.
        curves_mb: of all attempts, at most.
    """

    checkpoints: int
    checkpoint_mb: float | None
    large_checkpoint_mb: float | None
    curves_mb: float

    @property
    def checkpoints_gb(self) -> float | None:
        """Of all of them at once, at their mean size."""
        return None if self.checkpoint_mb is None else self.checkpoints * self.checkpoint_mb / 1000


def disk_need(settings: Settings, cost: SearchCost, timeline: Timeline) -> DiskNeed:
    """The disk that the search of these settings takes on the timeline's workers."""
    sizes = checkpoint_sizes_mb(settings)
    return DiskNeed(
        checkpoints=timeline.most_checkpoints,
        checkpoint_mb=statistics.fmean(sizes) if sizes else None,
        large_checkpoint_mb=statistics.quantiles(sizes, n=10)[-1] if sizes else None,
        curves_mb=_curves_mb(settings, cost, len(timeline.stretches)),
    )


def checkpoint_sizes_mb(settings: Settings) -> list[float]:
    """Of networks drawn at random that are not refused for their size; [] for a problem of the user's own."""
    if not settings.problem.is_built_in:
        return []
    space = build_space(read_problem(settings))
    proposer = RandomProposer(space, settings.seed)
    info = DATASET_INFO.get(settings.data.dataset)
    shape, classes = (USUAL_IMAGE, USUAL_CLASSES) if info is None else (info.image_shape, info.classes)
    sizes = []
    for number in range(DRAWN):
        drawn = proposer.propose((number, 0, 0)).configuration
        parameters = searched_network_cost(architecture_of(drawn), shape, classes).parameters
        if parameters <= settings.training.max_parameters:
            values = VALUES_PER_PARAMETER.get(str(drawn.get("optimizer", "sgd")), 3)
            sizes.append(parameters * values * FLOAT32_BYTES / 1e6)
    return sizes


def _curves_mb(settings: Settings, cost: SearchCost, attempts: int) -> float:
    unit, trained = settings.search.budget_unit, cost.training
    rows = {"seconds": trained / SHORTEST_EPOCH_S, "epochs": trained}.get(unit, float(attempts))
    return (attempts * FILE_BYTES + rows * ROW_BYTES) / 1e6
