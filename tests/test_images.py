"""Image batches: normalised as torchvision does it one image at a time, and augmented as a loop over images would."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridep.config import TrialConfig
from hybridep.datasets import DATASETS
from hybridep.images import PADDING, Crops, Images
from hybridep.streams import stream

FLOAT32, FLOAT64 = torch.empty(0), torch.empty(0, dtype=torch.float64)


def arrays(name, n=20, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(n, *DATASETS[name].shape), dtype=np.uint8)
    images[0], images[1] = 0, 255
    return images, rng.integers(0, 10, size=n)


def one_by_one(images, name, std_factor, inputs="standardised"):
    """ToTensor, then Normalize(mean, std_factor · std), with unit inputs Normalize(0, std_factor)."""
    if inputs == "unit":
        return images / 255 / std_factor
    info = DATASETS[name]
    mean, std = (np.array(values)[:, None, None] for values in (info.mean, info.std))
    return np.stack([(image / 255 - mean) / (std_factor * std) for image in images])


def cropped_one_by_one(images, offsets, flipped, padding="black"):
    """Pad each image on all sides, with black or with its edge, and mirror what the crop shows where it is flipped."""
    found = []
    for image, row, column, mirrored in zip(images, *offsets, flipped, strict=True):
        _, height, width = image.shape
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="constant" if padding == "black" else "edge")
        crop = padded[:, row : row + height, column : column + width]
        found.append(crop[:, :, ::-1] if mirrored else crop)
    return np.stack(found)


@pytest.mark.parametrize("name", sorted(DATASETS))
@pytest.mark.parametrize("std_factor", [1.0, 3.0])
@pytest.mark.parametrize("inputs", ["standardised", "unit"])
def test_batches_are_normalised_as_image_by_image(name, std_factor, inputs):
    pixels, labels = arrays(name)
    selected = [4, 0, 1, 19, 4]
    expected = torch.from_numpy(one_by_one(pixels[selected], name, std_factor, inputs))
    for like, tolerance in ((FLOAT64, 1e-14), (FLOAT32, 2e-6)):
        images = Images(pixels, labels, DATASETS[name], TrialConfig(inputs=inputs, std_factor=std_factor), like)
        x, found = images.batch(torch.tensor(selected))
        assert (x.dtype, x.shape, len(images)) == (like.dtype, (5, *DATASETS[name].shape), 20)
        torch.testing.assert_close(x.double(), expected, rtol=0, atol=tolerance)
        assert found.tolist() == labels[selected].tolist()


def test_fashion_mnist_is_normalised_with_the_constants_of_the_thesis():
    images = Images(*arrays("fashion-mnist"), DATASETS["fashion-mnist"], TrialConfig(), FLOAT64)
    x, _ = images.batch(torch.tensor([0, 1]))
    torch.testing.assert_close(x[:, 0, 0, 0], torch.tensor([-0.2860 / 0.3530, (1 - 0.2860) / 0.3530], dtype=torch.float64))


def test_targets_are_one_hot_in_the_precision_of_the_network():
    images = Images(*arrays("digits"), DATASETS["digits"], TrialConfig(), FLOAT64)
    target = images.one_hot(torch.tensor([0, 9]))
    assert target.dtype == torch.float64
    assert target.tolist() == [[1.0] + [0.0] * 9, [0.0] * 9 + [1.0]]


def test_read_only_arrays_are_shared_without_a_copy_and_without_a_warning():
    pixels, labels = arrays("digits")
    for array in (pixels, labels):
        array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = Images(pixels, labels, DATASETS["digits"], TrialConfig(), FLOAT32)
    assert images.pixels.data_ptr() == pixels.ctypes.data
    images.batch(torch.arange(20))
    assert np.array_equal(images.pixels.numpy(), pixels)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.sampled_from(["black", "edge"])
)
def test_crops_are_those_of_a_loop_over_images(n, channels, height, width, seed, padding):
    pixels = np.random.default_rng(seed).integers(1, 256, size=(n, channels, height, width), dtype=np.uint8)
    crops = Crops(n, stream(seed, "augmentation"), torch.device("cpu"), padding)
    expected = cropped_one_by_one(pixels, crops.offsets.numpy(), crops.flipped.numpy(), padding)
    assert np.array_equal(crops.of(torch.from_numpy(pixels)).numpy(), expected)


def test_crops_are_normalised_after_their_padding_is_black():
    pixels, labels = arrays("cifar10")
    crops = Crops(5, stream(0, "augmentation"), torch.device("cpu"), "black")
    selected = [3, 1, 7, 7, 0]
    x, _ = Images(pixels, labels, DATASETS["cifar10"], TrialConfig(std_factor=3.0), FLOAT64).batch(torch.tensor(selected), crops)
    expected = one_by_one(cropped_one_by_one(pixels[selected], crops.offsets.numpy(), crops.flipped.numpy()), "cifar10", 3.0)
    torch.testing.assert_close(x, torch.from_numpy(expected), rtol=0, atol=1e-14)


def test_every_offset_and_both_ways_round_are_drawn_equally_often():
    n = 20_000
    crops = Crops(n, stream(1, "augmentation"), torch.device("cpu"), "black")
    assert PADDING == 4
    for offsets in crops.offsets:
        counts = torch.bincount(offsets, minlength=9)
        assert len(counts) == 9
        # Five standard deviations of a count of n draws among nine.
        assert (counts - n / 9).abs().max() < 5 * (n * 8 / 81) ** 0.5
    assert abs(float(crops.flipped.double().mean()) - 0.5) < 5 * 0.5 / n**0.5


def test_augmentation_follows_its_stream_alone():
    first, again, other = (Crops(50, stream(seed, "augmentation"), torch.device("cpu"), "black") for seed in (3, 3, 4))
    assert torch.equal(first.offsets, again.offsets)
    assert torch.equal(first.flipped, again.flipped)
    assert not torch.equal(first.offsets, other.offsets)
