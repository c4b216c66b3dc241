"""How fast the devices of this machine train: a few steps of a known network on random images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from models.registry import build_model
from pipeline.errors import BrokenError
from pipeline.settings import Settings
from pipeline.training.device import device_for, device_name, set_up_device, synchroniser

MODEL = "shake_shake_26_2x32d"
SHAPE, CLASSES = (3, 32, 32), 10
STEPS_S = 2.0
LEAST_STEPS = 2


class NoDeviceError(Exception):
    """The device that the settings ask for is not there, or does not train."""


@dataclass(frozen=True)
class DeviceSpeed:
    """What a device trains.

    Attributes:
        what: was trained.
    """

    name: str
    images_per_s: float
    what: str


def device_speeds(settings: Settings) -> list[DeviceSpeed]:
    """The speed of the CPU, or of every GPU that this process sees.

    Raises:
        NoDeviceError: there is none, or a step fails.
    """
    try:
        device = device_for(settings)
        set_up_device(settings, device)
        if device.type == "cpu":
            return [_speed(device, batch=8)]
        return [_speed(torch.device("cuda", index), batch=128) for index in range(torch.cuda.device_count())]
    except (BrokenError, RuntimeError) as error:
        raise NoDeviceError(str(error)) from None


def _speed(device: torch.device, batch: int) -> DeviceSpeed:
    model = build_model(MODEL, SHAPE, CLASSES).to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.randn(batch, *SHAPE, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    wait = synchroniser(device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    step()  # the first one chooses kernels
    wait()
    began, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or time.perf_counter() - began < STEPS_S:
        step()
        wait()
        steps += 1
    speed = batch * steps / (time.perf_counter() - began)
    return DeviceSpeed(device_name(device), speed, f"{MODEL}, batches of {batch}, float32")
