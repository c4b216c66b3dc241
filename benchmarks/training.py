"""How fast training is, against a faithful reference of the authors' way (benchmarks/reference/).

    python -m benchmarks.training                  everything, in about a quarter of an hour on one CPU core
    python -m benchmarks.training data step        parts of it: data, step, end, rows, gpu

Both sides run in this process, in turn, on one CPU thread; a ratio is the median of the ratios of neighbouring runs,
with the smallest and the largest in brackets. On a CPU what is counted is processor time, which on an idle machine is
wall time and on a busy one is not spoilt by the others. On a GPU the same command measures there, by wall time, and
prints the chip's limit and published figures beside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference.data import training_loader
from benchmarks.reference.network import ReferenceNetwork
from benchmarks.reference.training import ReferenceTrainer
from benchmarks.support import TRAINING, Spread, architecture, machine_line, prepared, print_table
from models.architecture import architecture_of
from models.registry import model_cost
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.storage.curves import AttemptFile, read_attempt
from pipeline.training import recorder
from pipeline.training import train as train_module
from pipeline.training.augment import Augmenter, Batch, network_input, normalise
from pipeline.training.data import ImageData, Split, padding_of
from pipeline.training.datasets import DATASET_INFO
from pipeline.training.device import autocast, set_up_device, synchroniser
from pipeline.training.measure import measure
from pipeline.training.schedule import CosineCycles
from pipeline.training.trainer import Trainer
from tandem_trial.clock import PhaseClock

PARTS = ("data", "step", "end", "rows", "gpu")
# Four networks of the space on CIFAR-10's images, with the batch of each that a CPU can wait for.
NETWORKS = {
    "small (8 to 32 channels)": (architecture((1, 1, 1), 8, (1, 2, 2), (2, 1, 2)), 64),
    "Shake-Shake 26 2x32d (2.9 M)": (architecture((4, 4, 4), 16, (2, 2, 2), (2, 2, 2)), 64),
    "Shake-Shake 26 2x64d (11.7 M)": (architecture((4, 4, 4), 16, (4, 2, 2), (2, 2, 2)), 32),
    "the incumbent's size (27.7 M)": (architecture((4, 4, 4), 16, (6, 2, 2.08), (2, 2, 2)), 32),
}
END_TO_END = architecture((1, 1, 1), 8, (1, 2, 2), (2, 1, 2))
AIRBENCH = """Published on one A100 (github.com/KellerJordan/cifar10-airbench): ResNet-18, standard training, 96% in
7 min (32.3 PFLOP); airbench96 96.03% in 34.7 s (4.9 PFLOP); airbench94_compiled 94.01% in 3.09 s (0.36 PFLOP)."""


class Clock:
    """Seconds: of this process on a CPU, of the wall on a GPU, whose work is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._wait = synchroniser(device)
        self._now = time.perf_counter if device.type == "cuda" else time.process_time

    def __call__(self) -> float:
        self._wait()
        return self._now()

    def per_call(self, work: Callable[[], object], at_least_s: float) -> float:
        """Mean seconds of one call over at least so long."""
        began, calls = self(), 0
        while calls == 0 or self() - began < at_least_s:
            work()
            calls += 1
        return (self() - began) / calls

    def paired(self, one: Callable[[], object], other: Callable[[], object], runs: int, at_least_s: float):
        """Seconds a call of both, `runs` times in turn, after one call each to warm up."""
        one(), other()
        pairs = [(self.per_call(one, at_least_s), self.per_call(other, at_least_s)) for _ in range(runs)]
        return [a for a, _ in pairs], [b for _, b in pairs]


def ratios(reference: list[float], ours: list[float]) -> Spread:
    """How many times faster ours is, run by run."""
    return Spread.of([a / b for a, b in zip(reference, ours, strict=True)])


def synthetic(dataset: str, count: int, device: torch.device) -> ImageData:
    """Random images in a data set's shape: what they show does not matter to how fast they are."""
    info = DATASET_INFO[dataset]
    channels, h, w = info.image_shape
    p = padding_of(info.image_shape)
    padded = torch.randint(0, 256, (count, h + 2 * p, w + 2 * p, channels), dtype=torch.uint8, device=device)
    labels = torch.randint(0, info.classes, (count,), device=device)
    split = Split(padded[:100, p:-p, p:-p], labels[:100])
    mean, deviation = torch.full((2, channels), 127.0, device=device)
    return ImageData(dataset, info, padded, labels, split, split, mean, deviation)


def bench_data(device: torch.device, quick: bool) -> None:
    """Images a second of the data path: crop, flip, normalise, cutout, mixup."""
    data = synthetic("cifar10", 10_000, device)
    images = data.train.images.cpu().numpy()
    loader = training_loader(
        np.ascontiguousarray(images), data.train_labels.cpu().numpy(), (0.5,) * 3, (0.5,) * 3, 64, 16, 4, True
    )
    batches = iter(loader)

    def reference() -> None:
        nonlocal batches
        from benchmarks.reference.data import mix

        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        mix(batch[0].to(device), batch[1].to(device), 0.5)

    augmenter = Augmenter(data, mixup_alpha=0.5, cutout_length=16)
    order = torch.randperm(10_000, device=device)
    calls = 0

    def ours() -> None:
        nonlocal calls
        begin = 64 * (calls % 150)
        augmenter.batch(order[begin : begin + 64], seed=calls)
        calls += 1

    theirs, own = Clock(device).paired(reference, ours, 3 if quick else 7, 0.5 if quick else 1.5)
    print("\nData path, CIFAR-10's shape, batches of 64: images/s")
    print_table(
        ["reference (PIL, DataLoader)", "here (batched, uint8)", "times faster"],
        [[Spread.of([64 / s for s in theirs]).text(0), Spread.of([64 / s for s in own]).text(0),
          ratios(theirs, own).text(1)]],
    )  # fmt: skip


def matmul_limit(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of a large matrix product, the best of five."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = torch.randn(2, n, n, device=device, dtype=precision)
    clock = Clock(device)
    torch.mm(a, b)
    return 2 * n**3 / min(clock.per_call(lambda: torch.mm(a, b), 0.3) for _ in range(5))


def bench_step(device: torch.device, quick: bool) -> None:
    """A training step of four networks, on a batch that is there already."""
    clock = Clock(device)
    limit = matmul_limit(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    print(f"\nTraining step on CIFAR-10's shape; a large matrix product reaches {limit / 1e9:,.0f} GFLOP/s here")
    rows = []
    for name, (values, batch_size) in NETWORKS.items():
        reference, ours = step_pair({**values, **TRAINING, "cutout_length": 0, "batch_size": batch_size}, device)
        theirs, own = clock.paired(reference, ours, 3 if quick or batch_size < 64 else 5, 0.0 if batch_size < 64 else 2)
        flops = 3 * model_cost(values, (3, 32, 32), 10).flops_per_image
        speed = Spread.of([batch_size / s for s in own])
        rows.append([name, str(batch_size), Spread.of([batch_size / s for s in theirs]).text(1), speed.text(1),
                     ratios(theirs, own).text(), f"{100 * speed.median * flops / limit:.0f}%"])  # fmt: skip
        print(".", end="", flush=True)
    print()
    print_table(["network", "batch", "reference, images/s", "here, images/s", "times faster", "of the limit"], rows)


class ReadyBatch:
    """In place of an augmenter: the same batch every time."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batch(self, indices: torch.Tensor, seed: int) -> Batch:
        return self._batch


def step_pair(configuration: dict[str, float], device: torch.device):
    """A step of the reference and one of ours on the same images of CIFAR-10's shape."""
    settings, _ = prepared("digits")
    data = synthetic("cifar10", 512, device)
    trainer = Trainer(Evaluation((0, 0, 0), configuration, 1.0, 1, 0), settings, data)
    model = ReferenceNetwork(architecture_of(configuration), 3, 10).to(device)
    reference = ReferenceTrainer(
        model, configuration["learning_rate"], configuration["momentum"], configuration["weight_decay"], 0.2
    )
    batch_size = int(configuration["batch_size"])
    images = network_input(normalise(data.train.images[:batch_size], data.mean, data.deviation))
    labels = data.train_labels[:batch_size]
    contiguous = images.contiguous()
    trainer.augmenter = ReadyBatch(Batch(images, labels, labels.flip(0), 0.8))  # the data path is measured apart
    return (lambda: reference.step(contiguous, labels, 0.01)), (lambda: trainer.step(0.01))


def bench_end_to_end(device: torch.device, quick: bool) -> None:
    """What a budget buys: epochs and the validation error there, on real Fashion-MNIST."""
    budget_s, runs = (8.0, 1) if quick else (25.0, 3)
    settings, data = prepared("fashion_mnist")
    configuration = {**END_TO_END, **TRAINING, "cutout_length": 8}
    schedule = CosineCycles([budget_s])
    results: dict[str, list[tuple[float, float, float]]] = {"reference": [], "here": []}
    for run in range(runs):
        for name, train in (("reference", train_reference), ("here", train_here)):
            results[name].append(train(settings, data, configuration, schedule, budget_s, run))
    print(f"\nEnd to end: Fashion-MNIST, {budget_s:g} s of training with data, one network of the space, {runs} seeds")
    speeds = [[r[0] for r in results[name]] for name in ("reference", "here")]
    rows = [
        [name, *(Spread.of([r[i] * scale for r in results[name]]).text(digits)
                 for i, scale, digits in ((0, 1, 0), (1, 1, 2), (2, 100, 2)))]
        for name in results
    ]  # fmt: skip
    print_table(["", "images/s", f"epochs in {budget_s:g} s", "% validation error"], rows)
    print(f"Here is {ratios(speeds[1], speeds[0]).text()} times faster.")


def train_here(settings, data, configuration, schedule, budget_s, seed):
    """Images/s, epochs and validation error of our step within a budget on the benchmark's clock."""
    trainer = Trainer(Evaluation((0, 0, 0), configuration, budget_s, 1, seed), settings, data)
    clock = Clock(data.device)
    began = clock()
    while (spent := clock() - began) < budget_s:
        trainer.step(schedule.factor(spent))
    return _outcome(settings, data, trainer.model, trainer.batches * trainer.batch_size / spent, trainer.epoch)


def train_reference(settings, data, configuration, schedule, budget_s, seed):
    """The same of the authors' way."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    model = ReferenceNetwork(architecture_of(configuration), data.info.image_shape[0], data.info.classes)
    trainer = ReferenceTrainer(
        model.to(data.device), configuration["learning_rate"], configuration["momentum"],
        configuration["weight_decay"], configuration["mixup_alpha"],
    )  # fmt: skip
    batch_size = configuration["batch_size"]
    loader = training_loader(
        np.ascontiguousarray(data.train.images.cpu().numpy()), data.train_labels.cpu().numpy(),
        [m / 255 for m in data.mean.tolist()], [d / 255 for d in data.deviation.tolist()],
        batch_size, configuration["cutout_length"], data.padding, data.flips,
    )  # fmt: skip
    clock = Clock(data.device)
    began, steps, spent = clock(), 0, 0.0
    while spent < budget_s:
        for images, labels in loader:
            trainer.step(images.to(data.device), labels.to(data.device), schedule.factor(spent))
            steps += 1
            spent = clock() - began
            if spent >= budget_s:
                break
    return _outcome(settings, data, model, steps * batch_size / spent, steps / len(loader))


def _outcome(settings, data, model, images_per_s, epochs):
    measured = measure(model, data.validation, data, 500, autocast(settings, data.device), lambda: False)
    assert measured is not None
    return images_per_s, epochs, measured.error


def bench_rows(device: torch.device, quick: bool) -> None:
    """What learning curves cost where epochs are very short: rows written one by one, and together."""
    budget_s = 2.0 if quick else 6.0
    overrides = [f"search.min_budget={budget_s / 3}", f"search.max_budget={budget_s}"]
    settings, data = prepared("digits", *overrides)
    data = replace(data, padded_train=data.padded_train[:192], train_labels=data.train_labels[:192])
    configuration = {**architecture((1, 1, 1), 8, (1, 1, 1), (1, 1, 1)), **TRAINING, "cutout_length": 2}
    rows = []
    longest_wait_s = recorder.LONGEST_WAIT_S
    for name, wait_s in (("one by one", 0.0), ("together", longest_wait_s)):
        recorder.LONGEST_WAIT_S = wait_s
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            evaluation = Evaluation((0, 0, 0), configuration, budget_s, 1, 0)
            curve = AttemptFile(run.attempt((0, 0, 0), budget_s, 1))
            train_module.PhaseClock = partial(PhaseClock, now=Clock(device))
            info = train_module.train(evaluation, settings, run, data, curve, WorkerIdentity("bench", "here")).info
            train_module.PhaseClock = PhaseClock
            kept = len(read_attempt(curve.path)[1]["epoch"])
        share = info["checkpoint_s"] / info["trained_here_s"]
        rows.append([name, f"{1000 * budget_s / info['epochs']:.0f}", str(kept), f"{100 * share:.1f}"])
    recorder.LONGEST_WAIT_S = longest_wait_s
    print(f"\nRows of very short epochs: digits, {budget_s:g} s of training")
    print_table(
        ["rows are written", "ms an epoch of 192 images", "rows kept", "rows and checkpoint, of the training time"],
        rows,
    )


def bench_gpu(device: torch.device, quick: bool) -> None:
    """Images a second on a GPU beside the chip's limit and beside published figures."""
    if device.type != "cuda":
        print("\nNo CUDA device: images/s on a GPU are printed where there is one.")
        print(AIRBENCH)
        return
    settings, _ = prepared("digits")
    limit = matmul_limit(device, torch.bfloat16)
    data = synthetic("cifar10", 45_000, device)
    clock, rows = Clock(device), []
    for name in ("resnet18", "shake_shake_26_2x32d", "shake_shake_26_2x64d", "shake_shake_26_2x96d"):
        for batch_size in (128, 512):
            configuration = {"model": name, **TRAINING, "batch_size": batch_size, "cutout_length": 16}
            trainer = Trainer(Evaluation((0, 0, 0), configuration, 1.0, 1, 0), settings, data)
            trainer.warm_up()
            samples = [clock.per_call(lambda t=trainer: [t.step(0.1) for _ in range(20)], 2.0) for _ in range(3)]
            speed = Spread.of([20 * batch_size / s for s in samples])
            flops = 3 * model_cost(name, (3, 32, 32), 10).flops_per_image
            rows.append([name, str(batch_size), speed.text(0), f"{limit / flops:,.0f}",
                         f"{100 * speed.median * flops / limit:.0f}%"])  # fmt: skip
    print(f"\nWhole training steps; a large bfloat16 matrix product reaches {limit / 1e12:,.0f} TFLOP/s")
    print_table(["model", "batch", "images/s", "limit, images/s", "reached"], rows)
    print(AIRBENCH)


def main() -> None:
    """Parse the command line and run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: to see that it runs")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        sys.exit(f"unknown part {unknown.pop()!r}; known: {', '.join(PARTS)}")
    settings, data = prepared("digits")
    set_up_device(settings, data.device)
    print(machine_line(data.device))
    benches = dict(zip(PARTS, (bench_data, bench_step, bench_end_to_end, bench_rows, bench_gpu), strict=True))
    for part in given.parts or PARTS:
        benches[part](data.device, given.quick)


if __name__ == "__main__":
    main()
