"""Record a table of real trainings: random configurations of the 17-dimensional space, each with its whole curve.

    nice -n 10 python -m benchmarks.search.record digits --configurations 600
    nice -n 10 python -m benchmarks.search.record fashion_mnist --configurations 600
    python -m benchmarks.search.record digits --pack

A configuration is trained once, on the largest budget; its learning rate's cycles end on every rung, so that the curve
at a rung is what an evaluation on that rung gives. Budgets are epochs and costs are processor time: a busy machine
makes recording slower and changes no number but, a little, the costs. One process, one thread. Each configuration is a
line in FOLDER/NAME.jsonl, written whole: the command goes on where it was killed. `--pack` compresses the lines into
the repository.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.search.tables.table import read_lines, table_path
from benchmarks.support import Bench, NoCurve, prepared
from pipeline.errors import CrashedError
from pipeline.files import publish
from pipeline.records import Configuration, Evaluation, WorkerIdentity, derive_seed
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings
from pipeline.settings.space import build_space, plain_configuration
from pipeline.training import train as train_module
from pipeline.training.clock import PhaseClock
from pipeline.training.data import ImageData, Split
from pipeline.training.device import set_up_device

SEED = 12
BUDGETS = (1, 3, 9)
# Narrower than the paper's: networks that a CPU core can afford, and trainings that learn in a hundred steps.
SMALL_NETWORKS = {
    "nr_residual_blocks_1": [1, 2], "nr_residual_blocks_2": [1, 2], "nr_residual_blocks_3": [1, 2],
    "initial_filters": [8, 16], "widen_factor_1": [0.5, 2], "widen_factor_2": [1, 2], "widen_factor_3": [1, 2],
    "res_branches_1": [1, 2], "res_branches_2": [1, 2], "res_branches_3": [1, 2],
    "batch_size": [48, 128], "learning_rate": [0.02, 1.0], "momentum": [0.3, 0.99], "mixup_alpha": [0.0, 0.6],
    "death_rate": [0.0, 0.4],
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """What a table is recorded on.

    Attributes:
        train_images, validation_images: how many are used.
        shrink: images are averaged over squares of this many pixels.
        cutout: largest cutout length in pixels of the shrunk image.
    """

    dataset: str
    validation_fraction: float
    train_images: int
    validation_images: int
    shrink: int
    cutout: int


RECORDINGS = {
    "digits": Recording("digits", 0.4, 900, 600, 1, 3),
    "fashion_mnist": Recording("fashion_mnist", 0.1, 900, 600, 2, 6),
}


def load(recording: Recording) -> tuple[Settings, ImageData]:
    """Settings and data of a table."""
    ranges = {**SMALL_NETWORKS, "cutout_length": [0, recording.cutout]}
    settings, data = prepared(
        recording.dataset, *(f"space.{name}={json.dumps(limits)}" for name, limits in ranges.items()),
        "search.budget_unit=epochs", f"search.min_budget={BUDGETS[0]}", f"search.max_budget={BUDGETS[-1]}",
        f"data.validation_fraction={recording.validation_fraction}", "training.device=cpu",
        "training.validation_batch=600", "training.checkpoint_interval_s=1e6",
    )  # fmt: skip
    set_up_device(settings, data.device)
    return settings, smaller(data, recording)


def smaller(data: ImageData, recording: Recording) -> ImageData:
    """The first images of each split, shrunk."""

    def cut(split: Split, count: int) -> Split:
        return Split(_shrunk(split.images[:count], recording.shrink), split.labels[:count])

    train = cut(data.train, recording.train_images)
    channels, height, width = data.info.image_shape
    shape = (channels, height // recording.shrink, width // recording.shrink)
    small = replace(data, info=replace(data.info, image_shape=shape))
    p = small.padding
    pixels = train.images.double()
    return replace(
        small,
        padded_train=F.pad(train.images, (0, 0, p, p, p, p)),
        train_labels=train.labels,
        validation=cut(data.validation, recording.validation_images),
        test=cut(data.test, recording.validation_images),
        mean=pixels.mean((0, 1, 2)).float(),
        deviation=pixels.std((0, 1, 2)).float(),
    )


def _shrunk(images: torch.Tensor, by: int) -> torch.Tensor:
    """Images (n, h, w, channels) uint8, averaged over squares of `by` pixels."""
    if by == 1:
        return images
    pooled = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), by)
    return pooled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def configuration_of(settings: Settings, index: int) -> Configuration:
    """Configuration `index` of a table, uniform in the space."""
    space = build_space(settings.space, derive_seed(SEED, "table", index))
    return plain_configuration(dict(space.sample_configuration()))


def record_one(settings: Settings, data: ImageData, index: int) -> dict[str, Any]:
    """Train configuration `index` and return its line."""
    configuration = configuration_of(settings, index)
    curve = NoCurve()
    line: dict[str, Any] = {"index": index, "configuration": dict(configuration), "crashed": None}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(settings, data, RunFolder(Path(folder)))
        evaluation = Evaluation(
            (0, 0, index), configuration, float(BUDGETS[-1]), 1, derive_seed(SEED, "training", index), is_largest=True
        )
        try:
            result = train_module.train(
                evaluation, settings, bench.folder, data, curve, WorkerIdentity("record", "here")
            )
            line |= {name: result.info[name] for name in ("parameters", "flops_per_image", "test_error")}
        except CrashedError as crash:
            line["crashed"] = str(crash)
    columns = ("epoch", "training_s", "training_loss", "validation_loss", "validation_error")
    return line | {name: [float(f"{getattr(row, name):.5g}") for row in curve.rows] for name in columns}


def record(name: str, folder: Path, configurations: int) -> None:
    """Record what is missing of a table's first `configurations`."""
    settings, data = load(RECORDINGS[name])
    train_module.PhaseClock = partial(PhaseClock, now=time.process_time)  # type: ignore[misc, assignment]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    known = {line["index"] for line in read_lines(path.read_text())} if path.exists() else set()
    with path.open("a") as file:
        file.write("\n")  # ends a line that a kill tore
        for index in sorted(set(range(configurations)) - known):
            line = record_one(settings, data, index)
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
            print(f"{index}: {line['crashed'] or line['validation_error'][-1]}", flush=True)


def pack(name: str, folder: Path) -> Path:
    """Compress a table's lines, ordered by index, into the repository."""
    lines = sorted(read_lines((folder / f"{name}.jsonl").read_text()), key=lambda line: line["index"])
    settings, data = load(RECORDINGS[name])
    head = {
        "table": name,
        "recorded_by": f"python -m benchmarks.search.record {name} --configurations {len(lines)}",
        "space": {name: list(limits) for name, limits in settings.space.items()},
        "budgets": list(BUDGETS),
        "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "image_shape": list(data.info.image_shape),
    }
    path = table_path(name)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (head, *lines))
    with publish(path) as temporary:
        temporary.write_bytes(lzma.compress(text.encode(), preset=9))
    return path


def main() -> None:
    """Parse the command line; record, or pack what was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECORDINGS)
    parser.add_argument("--configurations", type=int, default=600)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tandem-bench-search" / "tables")
    parser.add_argument("--pack", action="store_true")
    given = parser.parse_args()
    if given.pack:
        path = pack(given.name, given.folder)
        print(f"{path}: {path.stat().st_size:,} bytes")
    else:
        record(given.name, given.folder, given.configurations)


if __name__ == "__main__":
    main()
