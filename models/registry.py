"""Every model by name: the baselines, and the searched network from a configuration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from models.architecture import architecture_of
from models.baselines import SHAKE_SHAKE, ResNet18
from models.cost import Cost, resnet18_cost, searched_network_cost
from models.network import SearchedNetwork
from models.recipe import DEFAULT

# A model is named, or described by a configuration. A configuration that has MODEL_KEY names its model there; its
# other values are hyperparameters of training.
Model = str | Mapping[str, object]
MODEL_KEY = "model"
RESNET18 = "resnet18"
MODEL_NAMES = (RESNET18, *SHAKE_SHAKE)


def build_model(model: Model, image_shape: tuple[int, int, int], classes: int, recipe: str = DEFAULT) -> nn.Module:
    """A network with initial weights drawn from torch's default generator, on torch's default device.

    Args:
        model: a name of `MODEL_NAMES`, or a configuration of the search space.
        image_shape: (channels, height, width).
        classes: number of classes.
        recipe: a name of `models.recipe.RECIPES`; ResNet-18 has none of what they differ in.

    Raises:
        ValueError: an unknown name, or a configuration that lacks a hyperparameter.
    """
    described = _resolve(model)
    if described is None:
        return ResNet18(image_shape[0], classes)
    return SearchedNetwork(architecture_of(described), image_shape[0], classes, recipe)


def model_cost(model: Model, image_shape: tuple[int, int, int], classes: int) -> Cost:
    """Parameters, FLOPs and memory of `build_model` with the same arguments, without building it.

    Raises:
        ValueError: as `build_model`.
    """
    described = _resolve(model)
    if described is None:
        return resnet18_cost(image_shape, classes)
    return searched_network_cost(architecture_of(described), image_shape, classes)


def _resolve(model: Model) -> Mapping[str, object] | None:
    """The hyperparameters of a searched network; None is ResNet-18, the one model that is none."""
    if not isinstance(model, str) and MODEL_KEY not in model:
        return model
    name = model if isinstance(model, str) else model[MODEL_KEY]
    if name == RESNET18:
        return None
    if name in SHAKE_SHAKE:
        return SHAKE_SHAKE[str(name)]
    raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}")
