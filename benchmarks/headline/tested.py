"""The test error of a network that a search kept, measured alike for every side: clean images, no time counted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.headline.processes import networks
from benchmarks.headline.protocol import PRESET, network_name
from benchmarks.reference.network import ReferenceNetwork
from models.architecture import architecture_of
from models.registry import build_model
from pipeline.settings import load_settings
from pipeline.training.data import ImageData, load_data
from pipeline.training.measure import measure


@cache
def data_of(root: Path) -> ImageData:
    """The preset's data."""
    return load_data(load_settings(PRESET, [f"data.root={root}"]).data, torch.device("cpu"))


def measured_test_error(folder: Path, evaluation: Mapping[str, Any], root: Path) -> float:
    """On the 10,000 test images, as a fraction."""
    data = data_of(root)
    kept = torch.load(networks(folder) / network_name(tuple(evaluation["config_id"]), evaluation["budget"]))
    configuration, shape, classes = kept["configuration"], data.info.image_shape, data.info.classes
    if "state" in kept:  # a checkpoint of Tandem's
        model = build_model(configuration, shape, classes, "default").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        model = ReferenceNetwork(architecture_of(configuration), shape[0], classes)
    model.load_state_dict(kept["model"])
    measured = measure(model, data.test, data, 500, nullcontext, lambda: False)
    assert measured is not None
    return measured.error
