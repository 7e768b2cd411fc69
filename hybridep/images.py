"""Image batches as tensors: uint8 images stay resident on the device, and each batch is normalised, and augmented, as a whole."""

import copy
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.datasets import DatasetInfo

PADDING = 4  # of the random crop (thesis section 3.4)


class Images:
    """Images uint8 [N, channels, height, width] and their labels [N] on one device.

    A batch is (pixel ÷ 255 − mean) ÷ (std_factor · std), in the dtype of `like`; with unit inputs mean is 0 and std is 1.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, info: DatasetInfo, config: TrialConfig, like: Tensor) -> None:
        with warnings.catch_warnings():
            # Arrays out of a shared object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.pixels = torch.from_numpy(images).to(like.device)
            self.labels = torch.from_numpy(labels).to(like.device)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (info.mean, info.std))
        if config.inputs == "unit":
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        self.scale = (1 / (255 * config.std_factor * std)).to(like)
        self.shift = (-mean / (config.std_factor * std)).to(like)
        self.classes = info.classes

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self.shift, pixels.to(self.scale.dtype), self.scale)

    def batch(self, rows: Tensor, crops: "Crops | None" = None) -> tuple[Tensor, Tensor]:
        """x [n, channels, height, width] and labels [n]."""
        pixels = self.pixels[rows]
        return self.normalised(pixels if crops is None else crops.of(pixels)), self.labels[rows]

    def one_hot(self, labels: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(labels, self.classes).to(self.scale.dtype)


class Crops:
    """Random crops with four pixels of padding, `black` or repeating those at the `edge`, and horizontal flips, drawn for n images."""

    def __init__(self, n: int, generator: np.random.Generator, device: torch.device, padding: Literal["black", "edge"]) -> None:
        self.padding = padding
        self.offsets = torch.from_numpy(generator.integers(0, 2 * PADDING + 1, size=(2, n))).to(device)
        self.flipped = torch.from_numpy(generator.random(n) < 0.5).to(device)

    def at(self, offsets: Tensor, flipped: Tensor) -> "Crops":
        """Crops with the same padding at these places: the drawn ones on another device."""
        placed = copy.copy(self)
        placed.offsets, placed.flipped = offsets, flipped
        return placed

    def of(self, pixels: Tensor) -> Tensor:
        """The crops of pixels [n, channels, height, width], in one gather."""
        n, channels, height, width = pixels.shape
        device = pixels.device
        rows = self.offsets[0][:, None] + torch.arange(height, device=device)
        columns = torch.arange(width, device=device).expand(n, width)
        columns = torch.where(self.flipped[:, None], width - 1 - columns, columns) + self.offsets[1][:, None]
        if self.padding == "black":
            padded = torch.nn.functional.pad(pixels, (PADDING,) * 4)
        else:
            padded = pixels
            rows, columns = (rows - PADDING).clamp(0, height - 1), (columns - PADDING).clamp(0, width - 1)
        samples = torch.arange(n, device=device).view(n, 1, 1, 1)
        return padded[
            samples, torch.arange(channels, device=device).view(1, channels, 1, 1), rows[:, None, :, None], columns[:, None, None, :]
        ]
