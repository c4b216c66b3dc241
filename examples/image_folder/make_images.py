"""Make a folder of images to try: three textures, PNG and JPEG of several sizes. Your own folder looks alike.

python examples/image_folder/make_images.py images
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def texture(kind: str, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    wave = {"rows": y, "columns": x, "diagonals": x + y}[kind]
    brightness = 128 + 70 * np.sin(wave * random.uniform(0.5, 0.9) + random.uniform(0, 6))
    pixels = brightness[..., None] * random.uniform(0.6, 1.2, 3) + random.normal(0, 25, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def main(folder: Path, per_class: int = 150) -> None:
    random = np.random.default_rng(0)
    for kind in ("rows", "columns", "diagonals"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            height, width = (int(n) for n in random.integers(24, 64, 2))
            suffix = "png" if number % 2 else "jpg"
            Image.fromarray(texture(kind, height, width, random)).save(folder / kind / f"{number}.{suffix}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
