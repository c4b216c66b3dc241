"""What torch.compile costs and gains on a CPU: compiled for the first time, from its cache, and step by step.

    python -m benchmarks.compiling

Needs g++. Costs are processor time with that of the compilers; steps of both kinds take turns in this process, on one
thread and in processor time. "Pays from": the training time whose gain is as long as compiling takes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.support import TRAINING, Spread, architecture, machine_line, prepared, print_table
from benchmarks.training import Clock, ratios, synthetic
from pipeline.records import Evaluation
from pipeline.settings import Settings
from pipeline.training.data import ImageData
from pipeline.training.device import set_up_device
from pipeline.training.trainer import Trainer

NETWORKS = {
    "3 blocks, 8 to 32 channels": architecture((1, 1, 1), 8, (1, 2, 2), (2, 1, 2)),
    "6 blocks, 16 to 64 channels": architecture((2, 2, 2), 16, (1, 2, 2), (2, 2, 2)),
}


def processor_s() -> float:
    """Of this process and of the compilers that it waited for."""
    return sum(os.times()[:4])


def took_s(work: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = processor_s()
    work()
    return processor_s() - began


def trainer_of(settings: Settings, data: ImageData, values: dict[str, float], cache: Path | None) -> Trainer:
    """Ready to step; compiled with `cache` where there is one."""
    configuration = {**values, **TRAINING, "cutout_length": 8}
    trainer = Trainer(Evaluation((0, 0, 0), configuration, 1.0, 1, 0), settings, data)
    if cache is not None:
        trainer.compile(cache)
    return trainer


def main() -> None:
    """Measure both networks and print a table."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    settings, _ = prepared("digits")
    device = torch.device("cpu")
    set_up_device(settings, device)
    data, rows = synthetic("fashion_mnist", 2_000, device), []
    print(machine_line(device))
    for name, values in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            cold_s = took_s(partial(trainer_of(settings, data, values, Path(folder)).step, 0.1))
            torch.compiler.reset()
            compiled = trainer_of(settings, data, values, Path(folder))
            cached_s = took_s(partial(compiled.step, 0.1))
            plain = trainer_of(settings, data, values, None)
            before, after = Clock(device).paired(partial(plain.step, 0.1), partial(compiled.step, 0.1), 7, 1.0)
        gain = ratios(before, after)
        pays = f"{cold_s / (gain.median - 1):,.0f} s" if gain.median > 1 else "never"
        rows.append([name, f"{cold_s:.0f}", f"{cached_s:.1f}", Spread.of([64 / s for s in before]).text(0),
                     Spread.of([64 / s for s in after]).text(0), gain.text(), pays])  # fmt: skip
        print(".", end="", flush=True)
    print()
    header = ["network", "compiling, s", "from the cache, s", "as it is, images/s", "compiled, images/s"]
    header += ["times faster", "pays from"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
