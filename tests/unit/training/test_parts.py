"""The small parts of training: the optimiser, measuring, noticing NaN, the device."""

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.registry import build_model
from models.regularisers import shake_drop
from pipeline.cluster import sharing
from pipeline.errors import BrokenError
from pipeline.settings import DataSettings, load_settings
from pipeline.training import device as device_module
from pipeline.training.augment import Batch, network_input, normalise
from pipeline.training.data import ImageData, load_data, prepare_data
from pipeline.training.device import device_for, device_name, memory_limit_bytes, set_up_device, uses_bfloat16
from pipeline.training.finite import FiniteCheck
from pipeline.training.measure import Measurement, measure
from pipeline.training.optimiser import AdamW, NesterovSGD
from pipeline.training.trainer import mixed_loss

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "reference_kind", "options"),
    [(NesterovSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}), (AdamW, torch.optim.AdamW, {})],
)
def test_the_optimisers_take_the_steps_of_torchs_own(kind: Any, reference_kind: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(4))] for _ in range(2))
    optimiser = kind(ours, momentum=0.9, weight_decay=0.01)
    reference = reference_kind(theirs, lr=1.0, weight_decay=0.01, **options)
    for step in range(5):
        rate = 0.1 / (step + 1)
        for group in reference.param_groups:
            group["lr"] = rate
        for parameters in (ours, theirs):
            (parameters[0].square().sum() + parameters[1].exp().sum()).backward()
        optimiser.step(rate)
        reference.step()
        reference.zero_grad()
        if step == 2:  # a new optimiser goes on from the state of the old one
            state = optimiser.state_dict()
            optimiser = kind(ours, momentum=0.9, weight_decay=0.01)
            optimiser.load_state_dict(state)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert one.grad is None


def test_an_optimisers_state_for_other_parameters_is_refused() -> None:
    optimiser = NesterovSGD([nn.Parameter(torch.ones(2))], 0.9, 0.0)
    with pytest.raises(ValueError, match="3 velocities for 1 parameters"):
        optimiser.load_state_dict({"velocities": [None, None, None]})


def test_the_mixed_loss_weighs_both_labels_by_their_shares() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, requires_grad=True)
    one, other = torch.randint(0, 4, (2, 6))
    loss, error = mixed_loss(logits, Batch(torch.empty(0), one, other, 0.3))
    expected = 0.3 * F.cross_entropy(logits, one) + 0.7 * F.cross_entropy(logits, other)
    assert torch.allclose(loss, expected)
    predicted = logits.argmax(1)
    wrong = 0.3 * (predicted != one).double().mean() + 0.7 * (predicted != other).double().mean()
    assert torch.allclose(error, wrong)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    settings = DataSettings(dataset="digits", root=tmp_path_factory.mktemp("data"))
    prepare_data(settings)
    return load_data(settings, CPU)


def measured(
    model: torch.nn.Module, data: ImageData, batch_size: int, interrupted: Callable[..., Any] = lambda: False
) -> Measurement | None:
    return measure(model, data.validation, data, batch_size, device_module.contextlib.nullcontext, interrupted)


def test_measuring_in_batches_is_measuring_image_by_image(digits: ImageData) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = measured(model, digits, 37)
    losses, wrong = 0.0, 0
    for image, label in zip(digits.validation.images, digits.validation.labels, strict=True):
        logits = model(network_input(normalise(image[None], digits.mean, digits.deviation)))
        losses += F.cross_entropy(logits, label[None]).item()
        wrong += int(logits.argmax() != label)
    assert result.loss == pytest.approx(losses / 150, rel=1e-5)
    assert result.error == wrong / 150
    assert model.training


def test_measuring_stops_when_interrupted(digits: ImageData) -> None:
    answers = iter([False, True])
    assert measured(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, 50, lambda: next(answers)) is None


def test_a_sum_that_is_not_finite_is_noticed_at_once_on_a_cpu() -> None:
    check = FiniteCheck(CPU)
    assert check.check(torch.tensor(3.0, dtype=torch.float64))
    assert not check.check(torch.tensor(math.inf, dtype=torch.float64))
    assert not check.check(torch.tensor(math.nan, dtype=torch.float64))


def test_cuda_that_is_asked_for_and_not_there_is_the_installations_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BrokenError, match=r"training\.device is cuda.*slurm\.gpus_per_worker=1"):
        device_for(load_settings("digits", ["training.device=cuda"]))
    assert device_for(load_settings("digits", ["training.device=auto"])) == CPU


@pytest.mark.parametrize(("recipe", "matmul", "tf32"), [("default", "high", True), ("paper-code", "highest", False)])
def test_the_papers_code_trains_in_float32_without_tf32_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, recipe: str, matmul: str, tf32: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    before = torch.get_float32_matmul_precision()
    settings = load_settings("digits", [f"training.recipe={recipe}", f"training.threads={torch.get_num_threads()}"])
    try:
        set_up_device(settings, torch.device("cuda"))
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (matmul, tf32)
        assert uses_bfloat16(settings, torch.device("cuda")) is (recipe == "default")
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_are_shared_among_the_workers_of_a_machine_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(device_module.os, "sched_getaffinity", lambda pid: set(range(8)))
        monkeypatch.setenv(sharing.LOCAL_WORKERS, "4")
        set_up_device(load_settings("digits"), CPU)
        assert torch.get_num_threads() == 2
        assert device_name(CPU).endswith("2 threads")
        set_up_device(load_settings("digits", ["training.threads=1"]), CPU)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_memory_is_the_setting_or_the_least_that_machine_container_and_job_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load_settings("digits")
    assert memory_limit_bytes(load_settings("digits", ["training.memory_gb=3"]), CPU) == 3e9
    (tmp_path / "cgroup").write_text("0::/slurm/job_7\n")
    monkeypatch.setattr(device_module, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(device_module, "CGROUP_ROOT", tmp_path)
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", sharing.LOCAL_WORKERS):
        monkeypatch.delenv(name, raising=False)
    machine = memory_limit_bytes(settings, CPU)
    (tmp_path / "slurm" / "job_7").mkdir(parents=True)
    (tmp_path / "slurm" / "job_7" / "memory.max").write_text("max\n")
    assert memory_limit_bytes(settings, CPU) == machine
    (tmp_path / "slurm" / "memory.max").write_text("2000000000\n")
    assert memory_limit_bytes(settings, CPU) == 2_000_000_000
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    assert memory_limit_bytes(settings, CPU) == 1000 * 2**20
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert memory_limit_bytes(settings, CPU) == 400 * 2**20
    monkeypatch.setenv(sharing.LOCAL_WORKERS, "2")
    assert memory_limit_bytes(settings, CPU) == 200 * 2**20


def test_workers_that_share_a_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = types.SimpleNamespace(total_memory=80_000_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.delenv(device_module.WORKERS_PER_DEVICE, raising=False)
    assert memory_limit_bytes(load_settings("digits"), torch.device("cuda")) == 80_000_000_000
    monkeypatch.setenv(device_module.WORKERS_PER_DEVICE, "4")
    assert memory_limit_bytes(load_settings("digits"), torch.device("cuda")) == 20_000_000_000


@pytest.mark.parametrize("name", ["resnet18", "shake_shake_26_2x32d"])
def test_models_train_under_bfloat16_autocast(name: str) -> None:
    """The precision of CUDA devices, on a CPU: layouts and types fit, the loss is computed in float32."""
    torch.manual_seed(0)
    model = build_model(name, (1, 8, 8), 10).to(memory_format=torch.channels_last)
    labels = torch.arange(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(4, 1, 8, 8))
    assert logits.dtype == torch.bfloat16
    loss, _ = mixed_loss(logits, Batch(torch.empty(0), labels, labels.flip(0), 0.4))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_single_branch_trains_under_bfloat16_autocast() -> None:
    branch = torch.randn(3, 4, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    total = shake_drop(torch.zeros_like(branch), branch, 0.5, training=True)
    total.sum().backward()
    assert total.dtype == branch.grad.dtype == torch.bfloat16
