"""What a model costs, by arithmetic, against the model itself on the meta device."""

import subprocess
import sys
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from models.cost import EVALUATION_LAYERS
from models.registry import MODEL_NAMES, build_model, model_cost
from pipeline.settings.space import HYPERPARAMETERS, Hyperparameter


def narrow(h: Hyperparameter) -> st.SearchStrategy[Any]:
    upper = {"nr": 4, "wi": 2.5, "in": 32, "re": 4}.get(h.name[:2], h.upper)
    return st.integers(int(h.lower), int(upper)) if h.integer else st.floats(h.lower, upper)


configurations = st.fixed_dictionaries({h.name: narrow(h) for h in HYPERPARAMETERS})


def flops(model: torch.nn.Module, shape: tuple[int, int, int]) -> int:
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops()


def saved_values(model: torch.nn.Module, shape: tuple[int, int, int], batch: int) -> int:
    """Values that autograd keeps for the backward pass, each storage once, without the parameters."""
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes() // 4
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(torch.empty(batch, *shape, device="meta"))
        loss = F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long, device="meta"))
    for parameter in model.parameters():
        storages.pop(parameter.untyped_storage()._cdata, None)
    assert loss.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_flops_and_activations_of_named_models_are_as_measured(name: str, shape: tuple[int, int, int]) -> None:
    cost = model_cost(name, shape, 10)
    with torch.device("meta"):
        model = build_model(name, shape, 10)
    assert cost.flops_per_image == flops(model, shape)
    assert cost.saved_values_per_image * 64 == pytest.approx(saved_values(model, shape, 64), rel=0.05)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(configurations, st.sampled_from([(3, 32, 32), (1, 28, 28), (1, 9, 5)]))
def test_flops_and_activations_of_any_configuration_are_as_measured(
    configuration: dict[str, float], shape: tuple[int, int, int]
) -> None:
    cost = model_cost(configuration, shape, 10)
    with torch.device("meta"):
        model = build_model(configuration, shape, 10)
    assert cost.flops_per_image == flops(model, shape)
    # Never less than what is kept, or the estimate would not protect; and not so much more that it refuses what fits.
    kept = saved_values(model, shape, 64)
    assert 0.99 * kept <= cost.saved_values_per_image * 64 <= 1.25 * kept


def test_memory_grows_with_the_batch_and_halves_for_activations_in_bfloat16() -> None:
    cost = model_cost("shake_shake_26_2x32d", (3, 32, 32), 10)
    weights = cost.training_bytes(0)
    assert weights == 12 * cost.parameters
    assert cost.training_bytes(0, moments=2) == 16 * cost.parameters  # AdamW
    assert cost.training_bytes(64) - weights == pytest.approx(2 * (cost.training_bytes(32) - weights))
    assert cost.training_bytes(64, 2) < 0.6 * cost.training_bytes(64)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_measuring_needs_no_more_memory_than_training(name: str) -> None:
    cost = model_cost(name, (3, 32, 32), 10)
    for training_batch in (1, 32, 128):
        batch = cost.evaluation_batch(500, training_batch)
        assert 1 <= batch <= 500
        assert batch * EVALUATION_LAYERS * cost.largest_layer_per_image * 4 <= cost.training_bytes(training_batch)


@pytest.mark.slow
def test_the_estimate_covers_what_a_training_step_really_takes() -> None:
    """Peak resident memory of a process that trains a step, beyond what it had before the model was built."""
    code = """
import os, pathlib, torch, torch.nn.functional as F
from models.registry import build_model, model_cost
from pipeline.training.optimiser import NesterovSGD
torch.set_num_threads(1)
# Not ru_maxrss: it survives exec, and would be that of the process that runs the tests.
def peak(): return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
def step(model, n):
    images = torch.randn(n, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    optimiser = NesterovSGD(model.parameters(), 0.9, 0.0)
    for _ in range(2):
        F.cross_entropy(model(images), torch.zeros(n, dtype=torch.long)).backward()
        optimiser.step(0.1)
step(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), 2)  # libraries
before = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
step(build_model("shake_shake_26_2x32d", (3, 32, 32), 10).to(memory_format=torch.channels_last), 24)
print((peak() - before) / 1e6, model_cost("shake_shake_26_2x32d", (3, 32, 32), 10).training_bytes(24) / 1e6)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    measured, estimated = map(float, done.stdout.split())
    assert measured < 1.05 * estimated
    assert measured > 0.6 * estimated


def test_counting_the_largest_configuration_takes_a_fraction_of_a_second() -> None:
    largest = {h.name: h.upper for h in HYPERPARAMETERS}
    began = time.perf_counter()
    model_cost(largest, (3, 32, 32), 10)
    assert time.perf_counter() - began < 0.5
