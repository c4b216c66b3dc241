"""Does what is trained learn? Error against training seconds, and Shake-Shake against its own branch average.

    python -m benchmarks.learning digits --seconds 30
    python -m benchmarks.learning fashion_mnist --seconds 60 --named-seconds 300
    python -m benchmarks.learning shake

The first two train the named models and 20 configurations drawn from the preset's space, each on three rungs that
continue each other, and print Markdown tables. `shake` trains one network on a twentieth of Fashion-MNIST's training
images for equal epochs, with Shake-Shake and with the plain mean of its branches, and measures both on 10,000 test
images, over 3 seeds.

On a CPU, training seconds are counted in processor time here: on an idle machine that is wall time, and on a busy one
the tables are not spoilt by what else runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.support import TRAINING, Bench, architecture, machine_line, prepared, print_table
from models import network
from models.registry import MODEL_KEY, MODEL_NAMES
from models.regularisers import shake_shake
from pipeline.errors import CrashedError
from pipeline.run.folder import RunFolder
from pipeline.settings.space import build_space, plain_configuration
from pipeline.training import train as train_module
from pipeline.training.data import Split
from pipeline.training.device import device_for, set_up_device
from tandem_trial.clock import PhaseClock

# Images that the named models, slow on a CPU, are measured on: of 6,000 they would be measured longer than trained.
MEASURED_IMAGES = 1000
# Small enough for 30 epochs in about a minute on one CPU core.
SHAKEN = architecture((1, 1, 1), 16, (1.0, 2.0, 2.0), (2, 2, 2), death_rate=0.0)
SHAKE_EPOCHS = 30
SHAKE_SEEDS = (0, 1, 2)


def learn(dataset: str, seconds: float, named_seconds: float, drawn: int) -> None:
    """Print the table of the named models and that of drawn configurations."""
    cutout = 2 if dataset == "digits" else 8
    named = {name: {MODEL_KEY: name, "cutout_length": cutout, **TRAINING} for name in MODEL_NAMES}
    _table(dataset, named_seconds, named, MEASURED_IMAGES)
    settings, _ = prepared(dataset)
    sample = build_space(settings.space, seed=1).sample_configuration(drawn)
    _table(dataset, seconds, {f"drawn {i}": plain_configuration(dict(c)) for i, c in enumerate(sample)}, None)


def _table(dataset: str, seconds: float, configurations: dict, measured: int | None) -> None:
    rungs = [round(seconds / 9, 3), round(seconds / 3, 3), seconds]
    settings, data = prepared(dataset, f"search.min_budget={rungs[0]}", f"search.max_budget={rungs[2]}")
    set_up_device(settings, data.device)
    validation, test = (Split(s.images[:measured], s.labels[:measured]) for s in (data.validation, data.test))
    data = replace(data, validation=validation, test=test)
    print(f"\n{dataset}: {len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test")
    print(machine_line(data.device))
    rows = []
    for index, (name, configuration) in enumerate(configurations.items()):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(settings, data, RunFolder(Path(folder)))
            errors, lower, info = [], None, {}
            try:
                for rung in rungs:
                    result = bench.train(index, configuration, rung, lower)
                    errors.append(f"{100 * result.loss:.1f}")
                    lower, info = rung, result.info
                rows.append([name, f"{info['parameters'] / 1e6:.2f}", f"{info['epochs']:.1f}", *errors,
                             f"{100 * info['test_error']:.1f}"])  # fmt: skip
            except CrashedError as crash:
                rows.append([name, "", "", *errors, *[crash.kind] * (4 - len(errors))])
        print(".", end="", flush=True)
    print()
    print_table(["model", "M parameters", "epochs", *(f"% error, {rung:g} s" for rung in rungs), "% test error"], rows)


def shake() -> None:
    """Print held-out errors with Shake-Shake and with the mean of its branches, at equal epochs."""
    settings, data = prepared(
        "fashion_mnist", "data.validation_fraction=0.95", "search.budget_unit=epochs",
        f"search.min_budget={SHAKE_EPOCHS}", f"search.max_budget={SHAKE_EPOCHS}", "training.schedule=cosine",
        "training.validation_batch=1000",
    )  # fmt: skip
    # Measured every epoch: a few will do. The 10,000 test images, measured once, decide.
    few = Split(data.validation.images[:500], data.validation.labels[:500])
    data = replace(data, validation=few)
    configuration = {**SHAKEN, **TRAINING, "mixup_alpha": 0.0, "cutout_length": 0}
    print(f"Fashion-MNIST, {len(data.train):,} training images, {SHAKE_EPOCHS} epochs, {len(data.test):,} test images")
    print(machine_line(data.device))
    errors: dict[str, list[float]] = {}
    for name in ("Shake-Shake", "branch average"):
        network.shake_shake = shake_shake if name == "Shake-Shake" else _average
        for seed in SHAKE_SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(settings, data, RunFolder(Path(folder)))
                result = bench.train(0, configuration, SHAKE_EPOCHS, seed=seed)
            errors.setdefault(name, []).append(100 * result.info["test_error"])
            print(f"{name}, seed {seed}: {errors[name][-1]:.2f}% error, {result.info['training_s']:.0f} s", flush=True)
    print_table(
        ["", *(f"seed {seed}" for seed in SHAKE_SEEDS), "mean"],
        [[name, *(f"{e:.2f}" for e in each), f"{statistics.mean(each):.2f}"] for name, each in errors.items()],
    )


def _average(shortcut, branches, training):
    return shake_shake(shortcut, branches, training=False)


def main() -> None:
    """Parse the command line and run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["digits", "fashion_mnist", "shake"])
    parser.add_argument("--seconds", type=float, default=30.0, help="largest budget of drawn configurations")
    parser.add_argument("--named-seconds", type=float, help="of named models; default: the same")
    parser.add_argument("--configurations", type=int, default=20)
    given = parser.parse_args()
    if device_for(prepared("digits")[0]).type == "cpu":
        train_module.PhaseClock = partial(PhaseClock, now=time.process_time)
    if given.what == "shake":
        shake()
    else:
        learn(given.what, given.seconds, given.named_seconds or given.seconds, given.configurations)


if __name__ == "__main__":
    main()
