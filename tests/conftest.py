"""Small datasets on disk, in the formats and folders in which the official files of MNIST, Fashion-MNIST and CIFAR-10 come."""

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hybridep.datasets import DATASETS

try:
    from hypothesis import settings
except ImportError:  # on a GPU machine that has little more than PyTorch, `-m gpu` runs without
    settings = None

# The same examples every time: a test that can fail by chance fails somebody. `pytest --hypothesis-profile=explore` looks for new ones;
# each counterexample that it finds becomes an @example of its test.
if settings is not None:
    settings.register_profile("fixed", derandomize=True, deadline=None)
    settings.register_profile("explore", deadline=None, max_examples=500, print_blob=True)
    settings.load_profile("fixed")

Layout = Literal["torchvision", "plain", "archive"]

TORCHVISION_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}


@dataclass(frozen=True)
class OfficialFiles:
    """`data_dir` is what a user would pass, `files` the path of each file by official name; the arrays are what was written."""

    name: str
    data_dir: Path
    files: dict[str, Path]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def cifar_batch_bytes(images: np.ndarray, labels: np.ndarray, title: str) -> bytes:
    """A CIFAR batch opcode by opcode as Python 2's cPickle wrote the official ones, which Python 3 cannot be made to write."""

    def string(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    rows = images.reshape(len(images), -1)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07"
        + (b"(K\x01" + b"M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86")
        + b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb")
    )
    names = b"".join(string(f"picture_s_{number:06d}.png") for number in range(len(rows)))
    return (
        b"\x80\x02}q\x01("
        + (string("batch_label") + string(title))
        + (string("labels") + b"]q\x03(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e")
        + (string("data") + array)
        + (string("filenames") + b"]q\x0a(" + names + b"e")
        + b"u."
    )


def learnable_images(name: str, count: int, rng: np.random.Generator, prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noisy copies of one random image per class, uint8 [count, C, H, W], and their labels; classes as even as the count allows."""
    labels = rng.permutation(np.arange(count) % DATASETS[name].classes)
    noise = rng.integers(0, 80, size=(count, *DATASETS[name].shape))
    return (prototypes[labels] + noise).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture
def official_files(tmp_path: Path) -> Callable[..., OfficialFiles]:
    """Writes a small dataset to disk: `official_files("mnist", layout="plain", compressed=True, train=50, test=20, seed=0)`.

    `layout` is torchvision's, a plain folder of the files, or (cifar10) the .tar.gz; `compressed` (IDX) writes .gz files.
    """

    def write(
        name: str,
        layout: Layout = "torchvision",
        compressed: bool = False,
        train: int = 50,
        test: int = 20,
        seed: int = 0,
        data_dir: Path | None = None,
    ) -> OfficialFiles:
        rng = np.random.default_rng(seed)
        prototypes = rng.integers(0, 176, size=(DATASETS[name].classes, *DATASETS[name].shape))
        train_images, train_labels = learnable_images(name, train, rng, prototypes)
        test_images, test_labels = learnable_images(name, test, rng, prototypes)

        contents: dict[str, bytes] = {}
        if name == "cifar10":
            for number, (images, labels) in enumerate(
                zip(np.array_split(train_images, 5), np.array_split(train_labels, 5), strict=True), start=1
            ):
                contents[f"data_batch_{number}"] = cifar_batch_bytes(images, labels, f"training batch {number} of 5")
            contents["test_batch"] = cifar_batch_bytes(test_images, test_labels, "testing batch 1 of 1")
        else:
            contents["train-images-idx3-ubyte"] = idx_bytes(train_images[:, 0])
            contents["train-labels-idx1-ubyte"] = idx_bytes(train_labels)
            contents["t10k-images-idx3-ubyte"] = idx_bytes(test_images[:, 0])
            contents["t10k-labels-idx1-ubyte"] = idx_bytes(test_labels)

        root = data_dir or tmp_path / f"{name}-{layout}"
        folder = root / TORCHVISION_FOLDERS[name] if layout == "torchvision" else root
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        if layout == "archive":
            archive = folder / "cifar-10-python.tar.gz"
            with tarfile.open(archive, "w:gz") as members:
                for file, content in contents.items():
                    member = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
                    member.size = len(content)
                    members.addfile(member, io.BytesIO(content))
                    files[file] = archive
        else:
            for file, content in contents.items():
                files[file] = folder / (f"{file}.gz" if compressed else file)
                files[file].write_bytes(gzip.compress(content, mtime=0) if compressed else content)
        return OfficialFiles(name, root, files, train_images, train_labels, test_images, test_labels)

    return write
