"""What is compared with what, and the rules that hold for every side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.settings import Settings, load_settings

PRESET = "fashion_mnist"
WORKERS = 2
STOCK = "stock"
# In the order of the tables; their value is `search.method`, of stock hpbandster that of its own BOHB.
SIDES = {STOCK: "bohb", "bohb": "bohb", "gp": "gp", "random": "random"}
TITLES = {
    STOCK: "stock hpbandster BOHB, the authors' training",
    "bohb": "Tandem, bohb",
    "gp": "Tandem, gp",
    "random": "Tandem's training, random search",
}
# More than any search of these lengths comes to: time alone ends it.
ITERATIONS = 10_000

ClockName = Literal["wall", "processor"]


@dataclass(frozen=True)
class Size:
    """How long a search is, in seconds of `clock`, and its largest budget.

    Attributes:
        clock: `wall`; or `processor` for a machine that others use: budgets count the processor time of the training
            process and a search's length the mean of its workers', on an idle machine the same as wall time.
    """

    seconds: float
    max_budget: float
    clock: ClockName

    @property
    def name(self) -> str:
        """Of the folder of its searches."""
        return f"{self.seconds:g}s-to-{self.max_budget:g}s-{self.clock}"


@dataclass(frozen=True)
class Key:
    """One search of the comparison."""

    side: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.side}-seed{self.seed}"


def keys(sides: list[str], seeds: int) -> list[Key]:
    """Searches in the order in which they run: side by side for each seed, so that a noisy hour is everybody's."""
    return [Key(side, seed) for seed in range(seeds) for side in _turned(sides, seed)]


def _turned(sides: list[str], by: int) -> list[str]:
    by %= len(sides)
    return sides[by:] + sides[:by]


def settings_of(size: Size, key: Key, data_root: Path) -> Settings:
    """The preset, on two workers of a core each; the test set waits until the search is over."""
    return load_settings(
        PRESET,
        [f"seed={key.seed}", f"search.method={SIDES[key.side]}", f"search.max_budget={size.max_budget:g}",
         f"search.iterations={ITERATIONS}", f"workers.count={WORKERS}", "workers.idle_timeout_min=30",
         "slurm.gpus_per_worker=0", "training.device=cpu", "training.threads=1", "training.test=never",
         f"data.root={data_root}"],
    )  # fmt: skip


def now_of(clock: ClockName) -> Callable[[], float]:
    """What counts a budget's seconds in the training process."""
    return time.process_time if clock == "processor" else time.perf_counter


def cores() -> list[int]:
    """A core for each worker."""
    usable = sorted(os.sched_getaffinity(0))
    return [usable[i % len(usable)] for i in range(WORKERS)]


def one_core_environment() -> Mapping[str, str]:
    """For the processes of both sides."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def network_name(config_id: tuple[int, int, int], budget: float) -> str:
    """Of the file that keeps what an evaluation trained."""
    return "-".join(map(str, config_id)) + f"-b{budget:g}.pt"
