"""A network that a search with Tandem found, in plain PyTorch: what lies in this folder is all that it needs.

    python predict.py photo.jpg another.png     the likeliest classes of pictures (reading them needs torchvision)

    from predict import load_network, network_input
    logits = load_network()(network_input(images))     # images: (n, height, width, channels) uint8

`about.json` says what it is, `weights.pt` holds the weights (a state dict), `network/` the code of the network.
`network.pt2`, where it is there, is the whole network by torch.export: `torch.export.load("network.pt2").module()`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SHOWN = 3


def about() -> dict[str, Any]:
    """What the network is: configuration, classes, shape and pixels of the images that it was trained on."""
    return dict(json.loads((HERE / "about.json").read_text(encoding="utf-8")))


def load_network() -> nn.Module:
    """The trained network, on the CPU, ready to predict: normalised images (n, channels, height, width) to logits."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    from network.architecture import architecture_of  # type: ignore[import-not-found]
    from network.network import SearchedNetwork  # type: ignore[import-not-found]

    what = about()
    architecture = architecture_of(what["configuration"])
    network: nn.Module = SearchedNetwork(architecture, what["image_shape"][0], len(what["classes"]), what["recipe"])
    network.load_state_dict(torch.load(HERE / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval()


def network_input(images: Tensor) -> Tensor:
    """Images (n, height, width, channels) uint8 as the network takes them: normalised by the training set's pixels."""
    what = about()
    mean, deviation = torch.tensor(what["mean"]), torch.tensor(what["deviation"])
    return ((images.float() - mean) / deviation).permute(0, 3, 1, 2)


def read_image(file: Path) -> Tensor:
    """A picture of any size as (height, width, channels) uint8 of the size that the network was trained on."""
    from network.resize import fitted  # type: ignore[import-not-found]
    from torchvision.io import ImageReadMode, decode_image

    what = about()
    channels, height, width = what["image_shape"]
    pixels = decode_image(str(file), ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY)
    image: Tensor = fitted(pixels, height, width, what["fit"]).permute(1, 2, 0)
    return image


def main(files: list[str]) -> None:
    """Print the likeliest classes of pictures."""
    network, classes = load_network(), about()["classes"]
    for file in files:
        try:
            image = read_image(Path(file))
        except (OSError, RuntimeError) as error:  # missing, damaged, or no picture
            print(f"{file}: cannot be read: {str(error).splitlines()[0]}")
            continue
        with torch.inference_mode():
            shares = network(network_input(image[None]))[0].softmax(0)
        best = shares.topk(min(SHOWN, len(classes)))
        found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        print(f"{file}: " + ", ".join(f"{classes[place]} {share:.1%}" for share, place in found))


if __name__ == "__main__":
    main(sys.argv[1:])
