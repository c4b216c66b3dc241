"""The reference that training is measured against does the same work, only in the authors' way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import support
from benchmarks.reference.data import Cutout, mix, training_loader
from benchmarks.reference.network import Block as ReferenceBlock
from benchmarks.reference.network import ReferenceNetwork
from benchmarks.support import architecture
from models.architecture import architecture_of
from models.network import Block, SearchedNetwork
from pipeline.training.augment import cutout, network_input, normalise


def layers(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_a_block_computes_the_same_when_evaluated(branches: int) -> None:
    torch.manual_seed(0)
    ours, theirs = (kind(6, 6, 1, branches, 0.3).eval() for kind in (Block, ReferenceBlock))
    for one, other in zip(layers(ours), layers(theirs), strict=True):
        other.load_state_dict(one.state_dict())
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_the_network_has_the_same_parameters_and_its_backward_pass_shakes_apart() -> None:
    values = architecture_of(architecture((2, 1, 2), 8, (1, 2, 1.5), (2, 1, 3)))
    ours, theirs = SearchedNetwork(values, 3, 10), ReferenceNetwork(values, 3, 10)
    assert sorted(p.shape for p in ours.parameters()) == sorted(p.shape for p in theirs.parameters())
    theirs.train()(torch.randn(4, 3, 9, 9)).sum().backward()
    assert all(p.grad.isfinite().all() for p in theirs.parameters())


def test_the_reference_draws_its_weights_on_the_device_that_it_is_on() -> None:
    values = architecture_of(architecture((1, 1, 1), 8, (1, 2, 1.5), (2, 1, 3)))
    network = ReferenceNetwork(values, 3, 10).to("meta").train()
    assert network(torch.empty(4, 3, 9, 9, device="meta")).shape == (4, 10)


def test_benchmarks_use_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_BENCH_DATA", str(tmp_path))
    monkeypatch.setattr(support, "load_data", lambda settings, device: device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    assert support.prepared("digits")[1] == torch.device("cuda", 0)


def test_the_data_path_normalises_and_labels_alike_where_nothing_is_random() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    loader = training_loader(images, np.arange(6), [0.5] * 3, [0.25] * 3, 6, cutout=0, padding=0, flips=False)
    batch, labels = next(iter(loader))
    expected = normalise(torch.from_numpy(images), torch.full((3,), 127.5), torch.full((3,), 63.75))
    assert torch.allclose(batch, network_input(expected)[labels], atol=1e-5)


@pytest.mark.parametrize("length", [0, 3, 8])
def test_cutout_and_mixup_do_the_same(length: int) -> None:
    np.random.seed(1)
    row, column = np.random.randint(8), np.random.randint(8)
    np.random.seed(1)
    image = torch.rand(8, 8, 2) + 1
    theirs = Cutout(length)(image.permute(2, 0, 1))
    ours = cutout(image[None].clone(), torch.tensor([row]), torch.tensor([column]), length)[0]
    assert torch.equal(theirs, ours.permute(2, 0, 1))
    mixed, one, other, share = mix(torch.stack([image, 2 * image]), torch.tensor([0, 1]), 0.5)
    assert torch.allclose(mixed[0], share * image + (1 - share) * (1 + int(other[0])) * image)
    assert one.tolist() == [0, 1]
