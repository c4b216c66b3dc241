"""The searched network over its whole space, and the baselines."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.architecture import architecture_of
from models.baselines import SHAKE_SHAKE
from models.network import SearchedNetwork
from models.registry import MODEL_NAMES, build_model, model_cost
from pipeline.settings import load_settings, preset_names
from pipeline.settings.space import HYPERPARAMETERS, Hyperparameter, build_space, plain_configuration

POSTER = {  # parameters of the poster's table
    "resnet18": 11_173_962,
    "shake_shake_26_2x32d": 2_923_162,
    "shake_shake_26_2x64d": 11_653_978,
    "shake_shake_26_2x96d": 26_192_922,
}


def one_of(h: Hyperparameter) -> st.SearchStrategy[Any]:
    values = st.integers(int(h.lower), int(h.upper)) if h.integer else st.floats(h.lower, h.upper)
    return st.one_of(st.just(h.lower), st.just(h.upper), values)  # corners often


configurations = st.fixed_dictionaries({h.name: one_of(h) for h in HYPERPARAMETERS})
shapes = st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33))
# Names with which a small network is drawn from every corner of the space.
SMALL = {
    **dict.fromkeys(("nr_residual_blocks_1", "nr_residual_blocks_2", "nr_residual_blocks_3"), (1, 2)),
    **dict.fromkeys(("widen_factor_1", "widen_factor_2"), (0.5, 1)),
    "widen_factor_3": (0.5, 1.5),
    "initial_filters": (8, 8),
}
small_configurations = st.fixed_dictionaries({
    h.name: one_of(type(h)(h.name, *map(float, SMALL.get(h.name, (h.lower, h.upper))), 0, h.log, h.integer, "", ""))  # type: ignore[arg-type, call-arg]
    for h in HYPERPARAMETERS
})  # fmt: skip


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_named_models_have_the_posters_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == POSTER[name] == model_cost(name, (3, 32, 32), 10).parameters


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(configurations, shapes, st.integers(2, 100))
def test_every_configuration_builds_on_the_meta_device_and_is_counted_without_building(
    configuration: dict[str, float], shape: tuple[int, int, int], classes: int
) -> None:
    cost = model_cost(configuration, shape, classes)
    with torch.device("meta"):
        model = build_model(configuration, shape, classes)
        logits = model(torch.empty(2, *shape))
    assert sum(p.numel() for p in model.parameters()) == cost.parameters
    assert logits.shape == (2, classes)


@settings(max_examples=25, deadline=None)
@given(small_configurations, shapes)
def test_every_parameter_gets_a_finite_gradient(configuration: dict[str, float], shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = build_model(configuration, shape, 10).train()
    loss = F.cross_entropy(model(torch.randn(3, *shape)), torch.tensor([1, 2, 3]))
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    "corner",
    [
        {"initial_filters": 8, "widen_factor_1": 0.5, "widen_factor_2": 0.5, "widen_factor_3": 0.5},
        {"nr_residual_blocks_1": 16, "nr_residual_blocks_2": 16, "nr_residual_blocks_3": 16,
         "res_branches_1": 5, "res_branches_2": 5, "res_branches_3": 5},
    ],
    ids=["a width of one", "16 blocks of 5 branches"],
)  # fmt: skip
def test_the_corners_of_the_space_train_a_step(corner: dict[str, Any]) -> None:
    smallest = {h.name: h.lower for h in HYPERPARAMETERS} | {f"widen_factor_{i}": 0.5 for i in (1, 2, 3)}
    model = build_model({**smallest, **corner}, (3, 32, 32), 10).train()
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", preset_names())
def test_configurations_drawn_from_every_preset_build(name: str) -> None:
    space = build_space(load_settings(name).space, seed=0)
    for drawn in space.sample_configuration(5):
        configuration = plain_configuration(dict(drawn))
        with torch.device("meta"):
            model = build_model(configuration, (3, 32, 32), 10)
        assert sum(p.numel() for p in model.parameters()) == model_cost(configuration, (3, 32, 32), 10).parameters


def test_the_largest_configuration_is_counted_at_25_billion_parameters_without_building() -> None:
    largest = {h.name: h.upper for h in HYPERPARAMETERS}
    assert model_cost(largest, (3, 32, 32), 10).parameters / 1e9 == pytest.approx(25, abs=1)


# Shake-Shake 26, read off Gastaldi's paper and code, to compare with
class PlainShakeShake26(nn.Module):
    """Shake-Shake 26 2xWd for evaluation, written from the paper, independently of `models/network.py`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.blocks = nn.ModuleList()
        before = 16
        for stage in range(3):
            for i in range(4):
                out, stride = width * 2**stage, 2 if stage > 0 and i == 0 else 1
                block = nn.ModuleDict({"branches": nn.ModuleList(self.branch(before, out, stride) for _ in range(2))})
                if before != out:
                    block["path1"] = nn.Conv2d(before, out // 2, 1, bias=False)
                    block["path2"] = nn.Conv2d(before, out // 2, 1, bias=False)
                    block["norm"] = nn.BatchNorm2d(out)
                self.blocks.append(block)
                before = out
        self.last = nn.Linear(before, 10)

    @staticmethod
    def branch(before: int, out: int, stride: int) -> torch.nn.Module:
        return nn.Sequential(
            nn.ReLU(), nn.Conv2d(before, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out),
            nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            stride = block["branches"][0][1].stride[0]
            skip = x
            if "norm" in block:
                relu = F.relu(x)
                shifted = F.pad(relu, (0, 1, 0, 1))[:, :, 1:, 1:]
                skip = block["norm"](torch.cat([
                    block["path1"](F.avg_pool2d(relu, 1, stride)), block["path2"](F.avg_pool2d(shifted, 1, stride)),
                ], 1))  # fmt: skip
            x = skip + 0.5 * block["branches"][0](x) + 0.5 * block["branches"][1](x)
        return self.last(F.adaptive_avg_pool2d(F.relu(x), 1).flatten(1))


@pytest.mark.parametrize("width", [32, 64, 96])
def test_the_baseline_the_configuration_and_shake_shake_26_give_identical_outputs_for_identical_weights(
    width: int,
) -> None:
    torch.manual_seed(0)
    named = build_model(f"shake_shake_26_2x{width}d", (3, 32, 32), 10).eval()
    configuration = {h.name: h.default for h in HYPERPARAMETERS} | {
        "initial_filters": 16, "widen_factor_1": width / 16, "widen_factor_2": 2.0, "widen_factor_3": 2.0,
        **{f"nr_residual_blocks_{i}": 4 for i in (1, 2, 3)}, **{f"res_branches_{i}": 2 for i in (1, 2, 3)},
    }  # fmt: skip
    searched = build_model(configuration, (3, 32, 32), 10).eval()
    searched.load_state_dict(named.state_dict())
    plain = PlainShakeShake26(width).eval()
    copy_by_layer(named, plain)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(named(images), searched(images))
        assert torch.allclose(named(images), plain(images), atol=1e-4)


def copy_by_layer(source: nn.Module, target: nn.Module) -> None:
    """Copy weights between networks whose layers have other names: block by block, in the order of the forward pass."""

    def layers(module: nn.Module) -> list[Any]:
        return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]

    ours, theirs = layers(source), layers(target)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        other.load_state_dict(one.state_dict())


def test_every_baseline_is_a_point_of_the_space_but_resnet18() -> None:
    for values in SHAKE_SHAKE.values():
        for h in HYPERPARAMETERS:
            if h.name in values:
                assert h.lower <= values[h.name] <= h.upper
    assert set(MODEL_NAMES) - set(SHAKE_SHAKE) == {"resnet18"}


def test_a_configuration_may_name_its_model_and_an_unknown_name_lists_the_known_ones() -> None:
    by_name = build_model({"model": "resnet18", "learning_rate": 0.1}, (1, 8, 8), 10)
    assert by_name(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"unknown model 'resnet19'; known: resnet18, shake_shake"):
        build_model("resnet19", (3, 32, 32), 10)


def test_a_configuration_that_lacks_a_hyperparameter_is_refused_by_name() -> None:
    configuration = {h.name: h.default for h in HYPERPARAMETERS}
    del configuration["widen_factor_2"]
    with pytest.raises(ValueError, match="widen_factor_2"):
        model_cost(configuration, (3, 32, 32), 10)


def test_layout_does_not_change_what_a_network_computes() -> None:
    torch.manual_seed(0)
    configuration = {h.name: h.lower for h in HYPERPARAMETERS}
    model = SearchedNetwork(architecture_of(configuration), 3, 10).eval()
    images = torch.randn(2, 3, 17, 17)
    with torch.no_grad():
        contiguous = model(images)
        model.to(memory_format=torch.channels_last)
        assert torch.allclose(model(images.contiguous(memory_format=torch.channels_last)), contiguous, atol=1e-5)
