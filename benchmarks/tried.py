"""What was tried to make a training step on a CPU faster and left out: torch.compile, branches as one convolution.

    python -m benchmarks.tried                  both
    python -m benchmarks.tried grouped

Steps of both kinds take turns in this process, on one thread and in processor time, on random images in Fashion-MNIST's
shape. `compile` needs g++; what compiling costs includes the compilers. "Pays from": the training time whose gain is as
long as compiling takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.support import TRAINING, Spread, architecture, machine_line, prepared, print_table
from benchmarks.training import Clock, ratios, synthetic
from models.network import Block
from models.regularisers import shake_shake
from pipeline.records import Evaluation
from pipeline.settings import Settings
from pipeline.training.data import ImageData
from pipeline.training.device import set_up_device
from pipeline.training.trainer import Trainer

SMALL = {
    "3 blocks, 8 to 32 channels, 1 to 2 branches": architecture((1, 1, 1), 8, (1, 2, 2), (2, 1, 2)),
    "6 blocks, 16 to 64 channels, 2 branches": architecture((2, 2, 2), 16, (1, 2, 2), (2, 2, 2)),
}
BRANCHED = {
    **SMALL,
    "3 blocks, 8 to 32 channels, 3 branches": architecture((1, 1, 1), 8, (1, 2, 2), (3, 3, 3)),
    "Shake-Shake 26 2x32d": architecture((4, 4, 4), 16, (2, 2, 2), (2, 2, 2)),
}


def trainer_of(settings: Settings, data: ImageData, values: dict[str, float]) -> Trainer:
    """Ready to step."""
    return Trainer(Evaluation((0, 0, 0), {**values, **TRAINING, "cutout_length": 8}, 1.0, 1, 0), settings, data)


# torch.compile -------------------------------------------------------------------------------------------------------
def took_s(work: Callable[[], object]) -> float:
    """Processor seconds of a call, with those of the compilers that it waited for."""
    began = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - began


def bench_compile(settings: Settings, data: ImageData) -> None:
    """Compiled for the first time, from the cache, and a step of each kind."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    rows = []
    for name, values in SMALL.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            plain, first, again = (trainer_of(settings, data, values) for _ in range(3))
            first.compile(Path(folder))
            cold_s = took_s(partial(first.step, 0.1))
            torch.compiler.reset()
            again.compile(Path(folder))
            cached_s = took_s(partial(again.step, 0.1))
            before, after = Clock(data.device).paired(partial(plain.step, 0.1), partial(again.step, 0.1), 7, 1.0)
        gain = ratios(before, after)
        pays = f"{cold_s / (gain.median - 1):,.0f} s" if gain.median > 1 else "never"
        speeds = [Spread.of([64 / s for s in each]).text(0) for each in (before, after)]
        rows.append([name, f"{cold_s:.0f}", f"{cached_s:.1f}", *speeds, gain.text(), pays])
        print(".", end="", flush=True)
    print("\ntorch.compile")
    header = ["network", "compiling, s", "from the cache, s", "as it is, images/s", "compiled, images/s"]
    print_table([*header, "times faster", "pays from"], rows)


# Branches as one convolution -----------------------------------------------------------------------------------------
def as_one(block: Block, x: Tensor, grouped: bool) -> Tensor:
    """A block in training whose branches' first convolutions are one, and whose second ones are one with groups.

    Running statistics are left alone, which favours it.

    Args:
        grouped: the second ones, too.
    """
    branches, count = list(block.branches), len(block.branches)
    if count == 1:
        return PLAIN(block, x)
    activated = F.relu(x)
    shortcut = x if block.shortcut is None else block.shortcut(activated, activated)

    def joined(layer: str, tensor: str) -> Tensor:
        return torch.cat([getattr(getattr(branch, layer), tensor) for branch in branches])

    h = F.conv2d(activated, joined("conv1", "weight"), stride=branches[0].conv1.stride, padding=1)
    h = F.batch_norm(h, None, None, joined("norm1", "weight"), joined("norm1", "bias"), training=True)
    h = F.relu(h, inplace=True)
    if grouped:
        h = F.conv2d(h, joined("conv2", "weight"), padding=1, groups=count)
        h = F.batch_norm(h, None, None, joined("norm2", "weight"), joined("norm2", "bias"), training=True)
        outs = list(h.chunk(count, 1))
    else:
        outs = [branch.norm2(branch.conv2(part)) for branch, part in zip(branches, h.chunk(count, 1), strict=True)]
    return shake_shake(shortcut, outs, training=True)


PLAIN = Block.forward


@contextmanager
def blocks_as(forward: Callable[[Block, Tensor], Tensor]) -> Iterator[None]:
    """Networks compute their blocks so meanwhile."""
    Block.forward = lambda block, x: forward(block, x)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Block.forward = PLAIN  # type: ignore[method-assign]


def step_as(trainer: Trainer, forward: Callable[[Block, Tensor], Tensor]) -> None:
    """A step with blocks computed so."""
    with blocks_as(forward):
        trainer.step(0.1)


def bench_grouped(settings: Settings, data: ImageData) -> None:
    """Whole steps with the first convolutions as one, and with both."""
    rows = []
    for name, values in BRANCHED.items():
        gains = []
        for grouped in (False, True):
            plain, other = (trainer_of(settings, data, values) for _ in range(2))
            one = partial(as_one, grouped=grouped)
            runs, at_least_s = (3, 0.0) if "26" in name else (7, 1.0)
            before, after = Clock(data.device).paired(
                partial(step_as, plain, PLAIN), partial(step_as, other, one), runs, at_least_s
            )
            gains.append(ratios(before, after).text())
        rows.append([name, *gains])
        print(".", end="", flush=True)
    print("\nBranches' convolutions as one: times faster")
    print_table(["network", "the first ones", "both"], rows)


BENCHES = {"compile": bench_compile, "grouped": bench_grouped}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(BENCHES)}; default: both")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(BENCHES):
        parser.error(f"unknown part {unknown.pop()!r}; known: {', '.join(BENCHES)}")
    settings, _ = prepared("digits")
    device = torch.device("cpu")
    set_up_device(settings, device)
    data = synthetic("fashion_mnist", 2_000, device)
    print(machine_line(device))
    for part in given.parts or BENCHES:
        BENCHES[part](settings, data)


if __name__ == "__main__":
    main()
