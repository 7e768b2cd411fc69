"""The image datasets a trial can train on: what each is (`DATASETS`), how its official files are read, and how they are split.

Imports neither torch nor Ray; torchvision is imported only to download files that are missing. The files are parsed here rather than
by torchvision because a damaged one must be told in one line that names it, and because CIFAR's pickles must not run code.
"""

import contextlib
import gzip
import hashlib
import importlib
import importlib.util
import io
import os
import pickle
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hybridep import own_arrays

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class DatasetError(ValueError):
    """A dataset that cannot be had, read or split as asked; the message is one line and names the file or argument."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class DatasetInfo:
    """Sizes of a dataset. `shape` is (channels, height, width); `mean` and `std` are per channel on the [0, 1] pixel scale."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


DATASETS: Final[dict[str, DatasetInfo]] = {
    info.name: info
    for info in (
        DatasetInfo("digits", (1, 8, 8), 10, 1437, 360, (0.3054,), (0.3757,)),
        DatasetInfo("mnist", (1, 28, 28), 10, 60_000, 10_000, (0.1307,), (0.3081,)),
        DatasetInfo("fashion-mnist", (1, 28, 28), 10, 60_000, 10_000, (0.2860,), (0.3530,)),
        DatasetInfo("cifar10", (3, 32, 32), 10, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    )
}


OWN: Final = ".npz"
# As their publishers made them: these come with their classes mixed.
PUBLISHED: Final = dict(DATASETS)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All images and labels of a dataset, resident. `info.train` and `info.test` are the counts loaded, not the official ones.

    Images are uint8 [N, C, H, W], labels int64 [N]. The arrays are read-only, as they are when they come out of Ray's object store:
    trials share them. `checksum` is the SHA-256 over the four arrays, the same whatever kind of file they came from. `notes` are sentences
    on how a user's own file was read, where that was not plain.
    """

    info: DatasetInfo
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    checksum: str
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        info: DatasetInfo,
        train_images: NDArray[Any],
        train_labels: NDArray[Any],
        test_images: NDArray[Any],
        test_labels: NDArray[Any],
    ) -> Self:
        """A dataset of the caller's own arrays, images uncopied; DatasetError where they do not fit `info`, whose counts are replaced."""
        _check_images_and_labels(info, train_images, train_labels, "train_images", "train_labels")
        _check_images_and_labels(info, test_images, test_labels, "test_images", "test_labels")
        arrays = (
            np.ascontiguousarray(train_images).view(),
            np.array(train_labels, dtype=np.int64),
            np.ascontiguousarray(test_images).view(),
            np.array(test_labels, dtype=np.int64),
        )
        for array in arrays:
            array.setflags(write=False)
        return cls(replace(info, train=len(train_images), test=len(test_images)), *arrays, _checksum(arrays))

    def described(self) -> dict[str, str]:
        """What a study.json says of it."""
        return {"name": self.info.name, "checksum": self.checksum, **({"notes": "; ".join(self.notes)} if self.notes else {})}


def _check_images_and_labels(info: DatasetInfo, images: NDArray[Any], labels: NDArray[Any], images_in: str, labels_in: str) -> None:
    """DatasetError, naming where they are, unless these are uint8 images of the right shape with a label of the right range each."""
    if images.dtype != np.uint8:
        raise DatasetError(f"{images_in}: pixels are {images.dtype}, must be uint8")
    if images.shape[1:] != info.shape:
        raise DatasetError(f"{images_in}: images are {_by(images.shape[1:])}, {info.name} has {_by(info.shape)}")
    if len(images) == 0:
        raise DatasetError(f"{images_in}: holds no images")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(f"{labels_in}: labels are {labels.dtype} {_by(labels.shape)}, must be a vector of integers")
    if len(labels) != len(images):
        raise DatasetError(f"{labels_in}: {len(labels)} labels for the {len(images)} images of {images_in}")
    wrong = np.flatnonzero((labels < 0) | (labels >= info.classes))
    if len(wrong):
        raise DatasetError(f"{labels_in}: label {labels[wrong[0]]} at position {wrong[0]}, must be 0 to {info.classes - 1}")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _checksum(arrays: tuple[NDArray[Any], ...]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        # Shape and type go in too, else moving an image from train to test would leave the sum as it was.
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


# Splits


@dataclass(frozen=True, eq=False)
class Splits:
    """Positions (int64 [n]): `train` and `validation` among the training images, `test` among the test images.

    Ascending for a published dataset; for any other, each beginning of them has all classes in proportion.
    """

    train: Labels
    validation: Labels
    test: Labels


def split(dataset: Dataset, validation: int = 0, train_samples: int | None = None, test_samples: int | None = None) -> Splits:
    """Keep `train_samples` training and `test_samples` test images (all where None), and hold `validation` of the former out.

    Of a published dataset, whose classes are mixed, the first ones are kept. Any other may be sorted by class: of it, images are kept and
    held out in proportion from all classes. Either way the choice depends on the dataset and the counts alone, so every seed selects on
    the same images. DatasetError if the counts do not fit the dataset, or leave nothing to train on or nothing of some class.
    """
    kept = _count(train_samples, dataset.info.train, "train_samples", f"the training images of {dataset.info.name} at hand")
    tested = _count(test_samples, dataset.info.test, "test_samples", f"the test images of {dataset.info.name} at hand")
    if not 0 <= validation < kept:
        raise DatasetError(f"validation {validation}: must be 0 to {kept - 1}, to leave a training image of the {kept} in use")
    if dataset.info == PUBLISHED.get(dataset.info.name):
        order = _fixed_permutation(kept)
        return Splits(np.sort(order[validation:]), np.sort(order[:validation]), np.arange(tested, dtype=np.int64))
    chosen = _mixed(dataset.train_labels)[:kept]
    # Mixed anew, so that both ends, and not the beginning alone, have every class.
    chosen = chosen[_mixed(dataset.train_labels[chosen])]
    splits = Splits(chosen[: kept - validation], chosen[kept - validation :], _mixed(dataset.test_labels)[:tested])
    _check_classes(dataset, splits)
    return splits


def _mixed(labels: Labels) -> Labels:
    """A fixed order of images, of which each beginning and each end has every class, as far as it goes, and in proportion."""
    order = _fixed_permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(labels))
    place[by_class] = rank / np.maximum(1, np.repeat(counts, counts) - 1)  # from 0, the first of its class, to 1, the last
    return order[np.argsort(place[order], kind="stable")]


def untrained(dataset: Dataset, splits: Splits) -> tuple[str, ...]:
    """A sentence on the classes that have test images and none to train on; nothing where there are none."""
    missing = np.setdiff1d(np.concatenate([dataset.train_labels, dataset.test_labels]), dataset.train_labels[splits.train])
    named = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
    return (f"the {len(splits.train)} images to train on have none of class {named}",) if len(missing) else ()


def _check_classes(dataset: Dataset, splits: Splits) -> None:
    for missing in untrained(dataset, splits):
        raise DatasetError(
            f"dataset {dataset.info.name}: {missing};"
            f" there must be some of each class that the data set names, take more images or hold fewer out for validation"
        )


def _count(samples: int | None, available: int, argument: str, which: str) -> int:
    if samples is not None and not 1 <= samples <= available:
        raise DatasetError(f"{argument} {samples}: must be 1 to {available}, {which}")
    return available if samples is None else samples


def _fixed_permutation(count: int) -> Labels:
    # RandomState is the one generator whose numbers NumPy promises never to change; these splits must outlive versions of it.
    return np.random.RandomState(0).permutation(count).astype(np.int64)


# Finding the files


@dataclass(frozen=True)
class _Source:
    """Where a dataset's official files are found: in a `folder` below torchvision's root, or an `archive` in that root itself."""

    files: tuple[str, ...]
    suffixes: tuple[str, ...]
    folder: str
    torchvision: str
    advice: str
    archive: str | None = None
    system_folder: str | None = None


_IDX_FILES: Final = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR_TRAIN: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR_TEST: Final = "test_batch"

_SOURCES: Final[dict[str, _Source]] = {
    "mnist": _Source(
        files=_IDX_FILES,
        suffixes=("", ".gz"),
        folder="MNIST/raw",
        torchvision="MNIST",
        advice="fetch the four .gz files from https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": _Source(
        files=_IDX_FILES,
        suffixes=("", ".gz"),
        folder="FashionMNIST/raw",
        torchvision="FashionMNIST",
        advice="install Debian's package dataset-fashion-mnist, or fetch the four .gz files from"
        " https://github.com/zalandoresearch/fashion-mnist",
        system_folder="/usr/share/datasets/fashion-mnist",
    ),
    "cifar10": _Source(
        files=(*_CIFAR_TRAIN, _CIFAR_TEST),
        suffixes=("",),
        folder="cifar-10-batches-py",
        torchvision="CIFAR10",
        advice="fetch https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        archive="cifar-10-python.tar.gz",
    ),
}


def load(name: str, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Read a dataset of `DATASETS`; `digits` comes with scikit-learn, the others from their official files.

    `data_dir` is torchvision's root folder or a plain folder of the official files, and then the only place looked in. Without it:
    $HYBRIDEP_DATA (understood likewise), ./data and ~/.cache/hybridep (torchvision's layout, or a folder named as the dataset), and
    where Debian installs Fashion-MNIST. Missing files are downloaded by torchvision if it can and `download` allows it, into `data_dir`,
    $HYBRIDEP_DATA or ~/.cache/hybridep, the first that is given. Files in the official formats may hold any number of images.

    A name that ends in .npz is a user's own dataset, a file with the arrays train_images, train_labels, test_images and test_labels, read
    as `own_arrays` says. It joins `DATASETS` under that name.

    DatasetError for an unknown name, files that cannot be had, and damaged files.
    """
    if name.endswith(OWN):
        return _read_own(name)
    if name not in DATASETS:
        raise DatasetError(f"dataset {name!r}: must be one of {', '.join(PUBLISHED)}, or an .npz file of your own")
    from hybridep.sources import SOURCES

    if name in SOURCES:
        return Dataset.from_arrays(DATASETS[name], *SOURCES[name].create().read(data_dir))
    if name == "digits":
        return Dataset.from_arrays(DATASETS[name], *_read_digits())
    if data_dir is not None:
        data_dir = Path(os.path.expanduser(data_dir))
        if os.path.exists(data_dir) and not os.path.isdir(data_dir):
            raise DatasetError(f"data_dir {data_dir}: is a file, must be the folder that holds the files of {name}")
    place = _find(name, data_dir)
    if place is None and download:
        _download(name, data_dir)
        place = _find(name, data_dir)
    if place is None:
        raise DatasetError(_missing(name, data_dir, "nothing was downloaded"))
    arrays = _read_cifar(place, DATASETS[name]) if name == "cifar10" else _read_idx_folder(place, DATASETS[name])
    return Dataset.from_arrays(DATASETS[name], *arrays)


def register(info: DatasetInfo) -> None:
    """Make a dataset known by its name, so that configurations on it can be checked: a user's own as it now is, others as they were."""
    if info.name.endswith(OWN):
        DATASETS[info.name] = info
    DATASETS.setdefault(info.name, info)


def _read_own(name: str) -> Dataset:
    keys = (*own_arrays.IMAGES, *own_arrays.LABELS)
    try:
        with open(os.path.expanduser(name), "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in keys}
            layout = str(file["layout"]) if "layout" in file else None
    except FileNotFoundError:
        raise DatasetError(f"dataset {name}: no such file") from None
    except KeyError as error:
        raise DatasetError(f"dataset {name}: has no array {error.args[0].split()[0]}; must have {', '.join(keys)}") from None
    except Exception as error:  # a damaged zip raises nearly anything
        raise DatasetError(f"dataset {name}: is not a readable .npz file of plain arrays ({_reason(error)})") from None
    try:
        own = own_arrays.read(arrays, layout)
    except own_arrays.UnusableArrays as error:
        raise DatasetError(f"dataset {name}: {error}") from None
    del arrays
    channels = own.train_images.transpose(1, 0, 2, 3)
    same = [number for number, channel in enumerate(channels) if channel.min() == channel.max()]
    if same:
        raise DatasetError(f"dataset {name}: channel {same[0]} of train_images is {channels[same[0]].min()} everywhere, it shows nothing")
    info = DatasetInfo(
        name, own.train_images.shape[1:], own.classes, len(own.train_images), len(own.test_images),
        tuple(float(channel.mean()) / 255 for channel in channels), tuple(float(channel.std()) / 255 for channel in channels),
    )  # fmt: skip
    dataset = Dataset.from_arrays(info, own.train_images, own.train_labels, own.test_images, own.test_labels)
    register(dataset.info)
    return replace(dataset, notes=own.notes)


def _environment_root() -> Path | None:
    value = os.environ.get("HYBRIDEP_DATA")
    return Path(os.path.expanduser(value)) if value else None


def _cache_root() -> Path:
    return Path(os.path.expanduser("~/.cache/hybridep"))


def _candidates(name: str, data_dir: Path | None) -> list[Path]:
    """Folders and archives that may hold the dataset, the preferred one first."""
    source = _SOURCES[name]
    given = data_dir or _environment_root()
    roots = [given] if given else []
    if data_dir is None:
        roots += [Path("data"), _cache_root()]
    places = []
    for root in roots:
        places += [root / source.folder, root / name]
        if root == given:
            # Only where the user says so: MNIST and Fashion-MNIST name their files alike, a plain ./data could be either.
            places.append(root)
        if source.archive:
            places += [root / source.archive, root / name / source.archive]
    if data_dir is None and source.system_folder:
        places.append(Path(source.system_folder))
    return places


def _find(name: str, data_dir: Path | None) -> Path | None:
    """The first candidate that is complete, or None."""
    source = _SOURCES[name]
    for place in _candidates(name, data_dir):
        if source.archive and place.name == source.archive:
            if os.path.isfile(place):
                return place
        elif len(_files_in(place, source)) == len(source.files):
            return place
    return None


def _files_in(folder: Path, source: _Source) -> dict[str, Path]:
    """The official files that the folder holds, by official name; an unpacked one goes before its .gz because it reads faster."""
    found = {}
    for name in source.files:
        # os.path and not Path.is_file, which raises in a folder that may not be entered: such a place just does not have the file.
        present = [folder / f"{name}{suffix}" for suffix in source.suffixes if os.path.isfile(folder / f"{name}{suffix}")]
        if present:
            found[name] = present[0]
    return found


def _missing(name: str, data_dir: Path | None, outcome: str) -> str:
    source = _SOURCES[name]
    packed = " (or .gz)" if ".gz" in source.suffixes else ""
    places = []
    for place in _candidates(name, data_dir):
        found = _files_in(place, source)
        absent = [file for file in source.files if file not in found]
        places.append(f"{place} (lacks {', '.join(absent)})" if found else str(place))
    return (
        f"{name} not found: looked for {', '.join(source.files)}{packed} in {', '.join(places)}; {outcome}; to get it, {source.advice},"
        " and pass the folder of the files as --data-dir"
    )


def _download(name: str, data_dir: Path | None) -> None:
    """Have torchvision fetch the dataset into `data_dir` or the default for it; DatasetError if that fails for whatever reason.

    Everything arrives in a temporary folder beside its place first, so that a download cut short never looks like a damaged dataset.
    """
    source = _SOURCES[name]
    root = data_dir or _environment_root() or _cache_root()
    made_root = not root.exists()
    timeout = socket.getdefaulttimeout()
    try:
        fetch = getattr(importlib.import_module("torchvision.datasets"), source.torchvision)
        root.mkdir(parents=True, exist_ok=True)
        # torchvision sets no timeout and would wait for a silent server for ever; it also prints each mirror that fails.
        socket.setdefaulttimeout(30)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary, contextlib.redirect_stdout(io.StringIO()):
            fetch(temporary, download=True)
            (root / source.folder).mkdir(parents=True, exist_ok=True)
            for file in (Path(temporary) / source.folder).iterdir():
                os.replace(file, root / source.folder / file.name)
    except Exception as error:  # torchvision raises whatever its transport raises
        if made_root:
            with contextlib.suppress(OSError):
                root.rmdir()
        failure = f"download into {root} failed ({type(error).__name__}: {error})"
        raise DatasetError(_missing(name, data_dir, failure)) from error
    finally:
        socket.setdefaulttimeout(timeout)


# Reading the files

_Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

# What gzip, tarfile and the file system raise for files that are damaged or may not be read.
_UNREADABLE: Final = (OSError, EOFError, zlib.error, tarfile.TarError, MemoryError)


def _read_digits() -> _Arrays:
    """scikit-learn's 1,797 digits, 0..16 stretched to 0..255, in a fixed order of which the last 360 are the test part."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError("digits not found: they come with scikit-learn, which is not installed; pip install scikit-learn")
    table_path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if table_path.is_file():
        # Importing scikit-learn takes longer than training a few trials on its digits.
        table = np.loadtxt(table_path, delimiter=",")
        pixels, targets = table[:, :-1], table[:, -1]
    else:
        pixels, targets = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    info = DATASETS["digits"]
    order = _fixed_permutation(len(pixels))
    images = np.rint(pixels[order] * (255 / 16)).astype(np.uint8).reshape(-1, *info.shape)
    labels = targets[order].astype(np.int64)
    return images[: info.train], labels[: info.train], images[info.train :], labels[info.train :]


# The first training labels of the official files. MNIST and Fashion-MNIST share names, sizes and counts, and a study of one under the
# name of the other would look right.
_OPENING_LABELS: Final = {
    "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7, 2, 8, 6, 9),
    "fashion-mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9, 1, 0, 6, 4),
}


def _read_idx_folder(folder: Path, info: DatasetInfo) -> _Arrays:
    """Train images, train labels, test images, test labels of the four IDX files in the folder."""
    files = _files_in(folder, _SOURCES[info.name])
    arrays: list[NDArray[Any]] = []
    for images_name, labels_name in (_IDX_FILES[:2], _IDX_FILES[2:]):
        images = _read_idx(files[images_name], dimensions=3)[:, np.newaxis]
        labels = _read_idx(files[labels_name], dimensions=1)
        _check_images_and_labels(info, images, labels, str(files[images_name]), str(files[labels_name]))
        arrays += [images, labels]
    opening = tuple(arrays[1][:20].tolist())
    for other, official in _OPENING_LABELS.items():
        if other != info.name and opening == official:
            raise DatasetError(f"{folder}: holds {other}, not {info.name}")
    return arrays[0], arrays[1], arrays[2], arrays[3]


def _read_idx(path: Path, dimensions: int) -> Images:
    """The array in an IDX file of unsigned bytes, plain or .gz; DatasetError unless the file is exactly as long as its header says."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: cannot be read ({_reason(error)})") from error
    header = 4 + 4 * dimensions
    if len(content) < 4:
        raise DatasetError(f"{path}: truncated, {len(content)} bytes where an IDX file starts with 4 of magic number")
    if content[:2] != b"\0\0":
        raise DatasetError(f"{path}: not an IDX file, magic number is 0x{content[:4].hex()}, must be 0x000008{dimensions:02x}")
    if content[2] != 8:
        raise DatasetError(f"{path}: IDX element type is 0x{content[2]:02x}, must be 0x08 (unsigned byte)")
    if content[3] != dimensions:
        raise DatasetError(f"{path}: IDX array has {content[3]} dimensions, must have {dimensions}")
    if len(content) < header:
        raise DatasetError(f"{path}: truncated, {len(content)} bytes where the IDX header alone has {header}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    expected = header + prod(shape)
    if len(content) < expected:
        raise DatasetError(f"{path}: truncated, {len(content)} bytes where its header ({_by(shape)}) asks for {expected}")
    if len(content) > expected:
        raise DatasetError(f"{path}: {len(content) - expected} trailing bytes after the {expected} that its header ({_by(shape)}) asks for")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _read_cifar(place: Path, info: DatasetInfo) -> _Arrays:
    """Train images, train labels, test images, test labels of the six batches in a folder or in the official .tar.gz."""
    source = _SOURCES[info.name]
    members = _archived_batches(place, source) if place.name == source.archive else _unpacked_batches(place, source)
    batches = {}
    for name, where, content in members:
        images, labels = _read_cifar_batch(content, where, info)
        batches[name] = (images, labels)
    absent = [name for name in source.files if name not in batches]
    if absent:
        raise DatasetError(f"{place}: lacks {', '.join(absent)}")
    train_images = np.concatenate([batches[name][0] for name in _CIFAR_TRAIN])
    train_labels = np.concatenate([batches[name][1] for name in _CIFAR_TRAIN])
    return train_images, train_labels, *batches[_CIFAR_TEST]


def _unpacked_batches(folder: Path, source: _Source) -> Iterator[tuple[str, str, bytes]]:
    """(official name, where it is, content) of each batch in the folder."""
    for name, path in _files_in(folder, source).items():
        try:
            content = path.read_bytes()
        except _UNREADABLE as error:
            raise DatasetError(f"{path}: cannot be read ({_reason(error)})") from error
        yield name, str(path), content


def _archived_batches(archive: Path, source: _Source) -> Iterator[tuple[str, str, bytes]]:
    """(official name, where it is, content) of each batch in the archive, in its order; nothing is unpacked to disk."""
    try:
        with gzip.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as members:
                for member in members:
                    name = PurePosixPath(member.name).name
                    content = members.extractfile(member) if name in source.files and member.isfile() else None
                    if content is not None:
                        yield name, f"{archive}: {member.name}", content.read()
            # The checksum of the whole is behind the last member, where tarfile does not look.
            while stream.read(1 << 20):
                pass
    except _UNREADABLE as error:
        raise DatasetError(f"{archive}: cannot be read ({_reason(error)})") from error


def _read_cifar_batch(content: bytes, where: str, info: DatasetInfo) -> tuple[Images, Labels]:
    """Images [N, 3, 32, 32] and labels [N] of one of CIFAR's Python batches."""
    stream = io.BytesIO(content)
    try:
        # Python 2 wrote the official batches: its strings are bytes.
        batch = _BatchUnpickler(stream, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DatasetError(f"{where}: not a CIFAR batch ({_reason(error)})") from error
    trailing = len(content) - stream.tell()
    if trailing:
        raise DatasetError(f"{where}: {trailing} trailing bytes after the batch")
    if not isinstance(batch, dict):
        raise DatasetError(f"{where}: not a CIFAR batch (holds a {type(batch).__name__}, must be a dict)")
    entries = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    for key in ("data", "labels"):
        if key not in entries:
            raise DatasetError(f"{where}: not a CIFAR batch (no entry {key!r})")
    images, labels = entries["data"], entries["labels"]
    if not isinstance(images, _PickledImages):
        raise DatasetError(f"{where}: data is a {type(images).__name__}, must be an array of bytes")
    pixels = prod(info.shape)
    if images.rows.ndim != 2 or images.rows.shape[1] != pixels:
        raise DatasetError(f"{where}: data is {_by(images.rows.shape)}, must be N rows of {pixels} bytes")
    # The bound keeps a pickled integer of any size from overflowing before its range is reported.
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise DatasetError(f"{where}: labels must be a list of integers")
    batch_images, batch_labels = images.rows.reshape(-1, *info.shape), np.array(labels, dtype=np.int64)
    _check_images_and_labels(info, batch_images, batch_labels, where, where)
    return batch_images, batch_labels


# Unpickling without trust
#
# NumPy's own constructors are not handed to the pickle: a crafted dtype or array state can corrupt memory, and NumPy 2.4 warns about
# the dtypes that Python 2 pickled. The few names that a batch needs are answered by the stand-ins below, which know arrays of bytes only.


class _ByteType:
    """Stand-in for `numpy.dtype`, of unsigned bytes."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"data has element type {code!r}, must be 'u1' (unsigned byte)")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment say nothing about bytes."""


class _PickledImages:
    """Stand-in for `numpy.ndarray`: `rows` is the uint8 array that was pickled."""

    rows: Images = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _ByteType, bool, bytes]) -> None:
        _version, shape, kind, column_major, content = state
        self._fill(content, kind, shape, "F" if column_major else "C")

    def _fill(self, content: bytes, kind: object, shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        if not isinstance(kind, _ByteType):
            raise pickle.UnpicklingError("data has no element type")
        self.rows = np.frombuffer(content, dtype=np.uint8).reshape(shape, order=order)


def _reconstruct(_kind: object, _shape: object, _code: object) -> _PickledImages:
    """Stand-in for NumPy's function of this name (pickle protocols up to 4): an array whose state follows."""
    return _PickledImages()


def _frombuffer(content: bytes, kind: object, shape: tuple[int, ...], order: Literal["C", "F"]) -> _PickledImages:
    """Stand-in for NumPy's function of this name (pickle protocol 5): an array at once."""
    images = _PickledImages()
    images._fill(content, kind, shape, order)
    return images


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes into pickles of protocol 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"bytes are encoded in {encoding!r}, must be latin1")
    return text.encode("latin-1")


_PICKLED_NAMES: Final[dict[tuple[str, str], Callable[..., object]]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _ByteType,
    ("numpy", "ndarray"): _PickledImages,
    # NumPy 2 renamed numpy.core.
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}


class _BatchUnpickler(pickle._Unpickler):
    """Reads dicts, lists, numbers, strings and arrays of bytes; any other name in the pickle is refused, so no code of it runs.

    It is pickle's Python implementation because the C one allocates whatever a memo index asks for: one damaged byte can take all memory.
    """

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in _PICKLED_NAMES:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which no image batch needs")
        return _PICKLED_NAMES[module, name]
