"""Augmentation against slow references that do the obvious, one image and one pixel at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.settings import DataSettings
from pipeline.training.augment import Augmenter, crop, cutout, flip, mixup, mixup_share, network_input, normalise
from pipeline.training.data import ImageData, load_data, prepare_data


def random_images(n: int, h: int, w: int, c: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, h, w, c), dtype=torch.uint8, generator=generator)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(1, 4), st.integers(0, 1000))
def test_crops_are_the_windows_that_numpy_cuts_out_of_the_padded_images(
    h: int, w: int, channels: int, padding: int, seed: int
) -> None:
    images = random_images(5, h, w, channels, seed)
    border = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    padded = torch.from_numpy(np.pad(images.numpy(), border))
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(0, 5, (8,), generator=generator)
    top, left = torch.randint(0, 2 * padding + 1, (2, 8), generator=generator)
    cropped = crop(padded, indices, top, left, padding)
    for i in range(8):
        y, x = int(top[i]), int(left[i])
        assert torch.equal(cropped[i], padded[indices[i], y : y + h, x : x + w])


def test_flips_mirror_columns_of_the_chosen_images_and_leave_the_others() -> None:
    images = random_images(4, 3, 5, 2, 0)
    flipped = flip(images, torch.tensor([True, False, True, False]))
    for i, mirrored in enumerate([True, False, True, False]):
        for column in range(5):
            source = 4 - column if mirrored else column
            assert torch.equal(flipped[i, :, column], images[i, :, source])


def test_normalised_images_have_mean_zero_and_deviation_one_in_every_channel() -> None:
    images = random_images(50, 8, 8, 3, 0)
    flat = images.reshape(-1, 3).double()
    out = normalise(images, flat.mean(0).float(), flat.std(0, correction=0).float())
    assert out.shape == (50, 8, 8, 3)
    assert torch.allclose(out.mean((0, 1, 2)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std((0, 1, 2), correction=0), torch.ones(3), atol=1e-5)
    pixel = (float(images[7, 2, 5, 1]) - flat[:, 1].mean()) / flat[:, 1].std(correction=0)
    assert float(out[7, 2, 5, 1]) == pytest.approx(float(pixel), abs=1e-5)


def slow_cutout(image: torch.Tensor, row: int, column: int, length: int) -> torch.Tensor:
    """The authors' cutout, pixel by pixel: from centre - length / 2 to centre + length / 2, clipped, rounded down."""
    h, w = image.shape[:2]
    y1, y2 = (int(np.clip(row + sign * length / 2, 0, h)) for sign in (-1, 1))
    x1, x2 = (int(np.clip(column + sign * length / 2, 0, w)) for sign in (-1, 1))
    out = image.clone()
    for y in range(y1, y2):
        for x in range(x1, x2):
            out[y, x] = 0
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(1, 34), st.integers(1, 34), st.integers(0, 10_000))
def test_cutout_sets_the_square_to_zero_and_clips_it_at_the_border(length: int, h: int, w: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(6, h, w, 2, generator=generator) + 1
    row, column = torch.randint(0, h, (6,), generator=generator), torch.randint(0, w, (6,), generator=generator)
    expected = torch.stack([slow_cutout(images[i], int(row[i]), int(column[i]), length) for i in range(6)])
    assert torch.equal(cutout(images.clone(), row, column, length), expected)


def test_mixup_is_the_weighted_mean_of_two_images() -> None:
    images = torch.rand(4, 3, 3, 1)
    partner = torch.tensor([2, 0, 3, 1])
    mixed = mixup(images, partner, 0.7)
    for i in range(4):
        assert torch.allclose(mixed[i], 0.7 * images[i] + 0.3 * images[partner[i]], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0])
def test_mixup_shares_are_beta_distributed(alpha: float) -> None:
    shares = torch.tensor([mixup_share(alpha, seed) for seed in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # the variance of Beta(alpha, alpha)


def test_without_alpha_nothing_is_mixed() -> None:
    assert mixup_share(0.0, seed=1) == 1.0


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    settings = DataSettings(dataset="digits", root=tmp_path_factory.mktemp("data"))
    prepare_data(settings)
    return load_data(settings, torch.device("cpu"))


def test_a_batch_is_made_of_the_images_asked_for_with_their_labels_and_shares(digits: ImageData) -> None:
    torch.manual_seed(0)
    indices = torch.tensor([5, 9, 700, 3])
    batch = Augmenter(digits, mixup_alpha=1.0, cutout_length=0).batch(indices, seed=11)
    assert batch.images.shape == (4, 1, 8, 8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.share == mixup_share(1.0, 11)
    assert torch.equal(batch.labels, digits.train_labels[indices])
    assert sorted(batch.other_labels.tolist()) == sorted(batch.labels.tolist())


def test_batches_without_augmentation_of_values_are_crops_of_the_normalised_images(digits: ImageData) -> None:
    torch.manual_seed(0)
    batch = Augmenter(digits, mixup_alpha=0.0, cutout_length=0).batch(torch.arange(64), seed=1)
    padded = network_input(normalise(digits.padded_train[:64], digits.mean, digits.deviation))
    for i in range(64):
        windows = [padded[i, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert any(torch.equal(batch.images[i], window) for window in windows)


def test_digits_are_never_mirrored_and_what_shows_the_same_mirrored_is_half_of_the_time(digits: ImageData) -> None:
    from dataclasses import replace

    def mirrored_share(data: ImageData) -> float:
        # An image whose left half is black and whose right half is white, everywhere.
        n = 512
        images = torch.zeros(n, 10, 10, 1, dtype=torch.uint8)
        images[:, :, 5:] = 255
        asymmetric = replace(data, padded_train=images, train_labels=torch.zeros(n, dtype=torch.int64))
        torch.manual_seed(0)
        batch = Augmenter(asymmetric, 0.0, 0).batch(torch.arange(n), seed=1)
        left, right = batch.images[..., :4].sum((1, 2, 3)), batch.images[..., 4:].sum((1, 2, 3))
        return float((left > right).float().mean())

    assert mirrored_share(digits) == 0
    assert mirrored_share(replace(digits, info=replace(digits.info, flips=True))) == pytest.approx(0.5, abs=0.08)


def test_every_position_of_a_crop_is_equally_likely(digits: ImageData) -> None:
    torch.manual_seed(0)
    augmenter = Augmenter(digits, 0.0, 0)
    padded = network_input(normalise(digits.padded_train[:1], digits.mean, digits.deviation))[0]
    windows = torch.stack([padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    images = augmenter.batch(torch.zeros(3600, dtype=torch.int64), seed=1).images
    counts = torch.stack([(images == window).all(-1).all(-1).all(-1).sum() for window in windows])
    assert counts.sum() == 3600
    assert counts.min() > 320
    assert counts.max() < 480
