"""What the benchmarks of training share: settings, data, one evaluation, medians with their spread."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.records import Evaluation, LowerRung, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, load_settings
from pipeline.training.data import ImageData, load_data, prepare_data
from pipeline.training.device import device_for
from pipeline.training.train import train

# A good default for every architecture; benchmarks vary what they measure and nothing else.
TRAINING = {"learning_rate": 0.05, "batch_size": 64, "weight_decay": 5e-4, "momentum": 0.9, "mixup_alpha": 0.2}


class NoCurve:
    """A CurveSink that keeps the rows and writes nothing."""

    def begin(self, header, inherited) -> None:
        self.rows = list(inherited)

    def add(self, *rows) -> None:
        self.rows.extend(rows)

    def end(self, end) -> None:
        pass


def prepared(dataset: str, *overrides: str) -> tuple[Settings, ImageData]:
    """A preset's settings and its data on the device, prepared under TANDEM_BENCH_DATA or a temporary folder."""
    root = os.environ.get("TANDEM_BENCH_DATA", str(Path(tempfile.gettempdir()) / "tandem-bench-data"))
    ours = ["training.threads=1", "training.device=auto", "slurm.gpus_per_worker=1"]  # a GPU where there is one
    settings = load_settings(dataset, [f"data.root={root}", *ours, *overrides])
    prepare_data(settings.data)
    return settings, load_data(settings.data, device_for(settings))


@dataclass(frozen=True)
class Bench:
    """Where evaluations of a benchmark are trained."""

    settings: Settings
    data: ImageData
    folder: RunFolder

    def train(
        self, index: int, configuration: Mapping[str, object], budget: float, lower: float | None = None, seed: int = 0
    ) -> TrainResult:
        """One evaluation; `lower` is the rung that it continues."""
        continues = None if lower is None else LowerRung(lower, 1)
        evaluation = Evaluation((0, 0, index), configuration, budget, 1, seed, continues, is_largest=True)  # type: ignore[arg-type]
        worker = WorkerIdentity("bench", "here")
        return train(evaluation, self.settings, self.folder, self.data, NoCurve(), worker)


def architecture(
    blocks: Sequence[int], filters: int, widen: Sequence[float], branches: Sequence[int], death_rate: float = 0.2
) -> dict[str, float]:
    """Hyperparameters of an architecture, group by group."""
    values: dict[str, float] = {"initial_filters": filters, "death_rate": death_rate}
    for i in range(3):
        values |= {
            f"nr_residual_blocks_{i + 1}": blocks[i],
            f"widen_factor_{i + 1}": widen[i],
            f"res_branches_{i + 1}": branches[i],
        }
    return values


@dataclass(frozen=True)
class Spread:
    """A median between its smallest and largest sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of samples."""
        return cls(statistics.median(samples), min(samples), max(samples))

    def text(self, digits: int = 2) -> str:
        """As `1.75 (1.70 to 1.81)`."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |", flush=True)


def machine_line(device: torch.device) -> str:
    """Device, versions and load, for the head of a benchmark's output."""
    from pipeline.training.device import device_name

    load = os.getloadavg()[0]
    return f"{device_name(device)}; PyTorch {torch.__version__}; {os.cpu_count()} cores, load average {load:.1f}"
