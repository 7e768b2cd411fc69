"""How a user's own arrays are read: which axis holds the channels, what a pixel's value means, what the labels are.

A reading is taken where it is the only one that makes sense, and told in a sentence where it is not the plain one (uint8, channels first,
labels from 0). Anything else is refused: a wrong reading would train, and look right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

IMAGES: Final = ("train_images", "test_images")
LABELS: Final = ("train_labels", "test_labels")
LAYOUTS: Final = ("NCHW", "NHWC")
# An axis that holds colours is no longer than this; an axis of pixels that is shorter could be either.
MOST_CHANNELS: Final = 4
# Values from 0 to 1 of which none reaches this were scaled down twice, or are no brightness at all.
DARKEST_WHITE: Final = 0.5
_IMAGES_AT_A_TIME: Final = 1024
MOST_TOLD: Final = 5  # ranges of labels in a message


class UnusableArrays(ValueError):
    """Arrays that cannot be read in one way alone; the message names the array, what it holds and what it must hold."""


@dataclass(frozen=True, eq=False)
class OwnArrays:
    """Images uint8 [N, C, H, W], labels int64 [N] from 0 to classes - 1; `notes` are sentences on what was not plain."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    notes: tuple[str, ...]


def read(arrays: Mapping[str, NDArray[Any]], layout: str | None = None) -> OwnArrays:
    """The arrays `train_images`, `train_labels`, `test_images` and `test_labels`; UnusableArrays where they cannot be read.

    `layout` is NCHW or NHWC where the user says it, for images of four axes.
    """
    for images, labels in zip(IMAGES, LABELS, strict=True):
        _check_kind(images, arrays[images])
        if len(_vector(labels, arrays[labels])) != len(arrays[images]):
            raise UnusableArrays(
                f"{labels} are {len(arrays[labels])} for {images} {_by(arrays[images].shape)}; the first axis counts the images in both"
            )
    train, test = (arrays[name] for name in IMAGES)
    if train.shape[1:] != test.shape[1:] or train.dtype.newbyteorder("=") != test.dtype.newbyteorder("="):
        raise UnusableArrays(
            f"train_images are {_plain(train.dtype)} {_by(train.shape)}, test_images {_plain(test.dtype)} {_by(test.shape)};"
            " they must be of one type, and of one shape but for their number"
        )
    ordered, layout_notes = _channels_first(train, test, layout)
    (train_pixels, test_pixels), pixel_notes = _as_bytes(*ordered)
    train_labels, test_labels, classes, label_notes = _numbered(*(_vector(name, arrays[name]) for name in LABELS))
    return OwnArrays(train_pixels, train_labels, test_pixels, test_labels, classes, (*layout_notes, *pixel_notes, *label_notes))


def _check_kind(name: str, images: NDArray[Any]) -> None:
    if images.dtype.kind not in "biuf" or images.ndim not in (3, 4) or not images.size:
        raise UnusableArrays(
            f"{name} are {_plain(images.dtype)} {_by(images.shape)}, must be numbers [N, H, W] or [N, C, H, W], none of these 0"
            + ("; reshape rows of pixels with images.reshape(-1, height, width)" if images.ndim == 2 else "")
        )


def _channels_first(
    train: NDArray[Any], test: NDArray[Any], layout: str | None
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[str, ...]]:
    """Both as [N, C, H, W], and how that was told where it was not so."""
    if layout is not None and layout not in LAYOUTS:
        raise UnusableArrays(f"layout {layout!r}: must be {' or '.join(LAYOUTS)}")
    if train.ndim == 3:
        if layout is not None:
            raise UnusableArrays(f"layout {layout}: images {_by(train.shape)} have no axis of channels; leave layout out")
        return (train[:, None], test[:, None]), ()
    second, _, last = train.shape[1:]
    if layout is None:
        first_fits, last_fits = second <= MOST_CHANNELS, last <= MOST_CHANNELS
        if first_fits == last_fits:
            why = "both the second and the last axis" if first_fits else "neither the second nor the last axis"
            raise UnusableArrays(
                f"images are {_by(train.shape)}: {why} could be the channels, of which there are 1 to {MOST_CHANNELS};"
                f' say which by one more array in the file, layout="NCHW" or layout="NHWC"'
            )
        layout = LAYOUTS[last_fits]
    if layout == "NCHW":
        return (train, test), ()
    told = f"channels are the last axis of images {_by(train.shape)}: read as {_count(last, 'channel')} of {_by(train.shape[1:3])} pixels"
    return (train.transpose(0, 3, 1, 2), test.transpose(0, 3, 1, 2)), (told,)


def _as_bytes(train: NDArray[Any], test: NDArray[Any]) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[str, ...]]:
    """Both as uint8 from 0 to 255, and how they came to be. What one holds decides for both."""
    kind = _plain(train.dtype)
    if train.dtype == np.uint8:
        return (np.ascontiguousarray(train), np.ascontiguousarray(test)), ()
    if train.dtype.kind == "b":
        return (_rounded(train, 255), _rounded(test, 255)), (f"pixels are {kind}: read as 0 and 255",)
    ends = [end.item() for images in (train, test) for end in (images.min(), images.max())]
    if not np.isfinite(ends).all():
        raise UnusableArrays(f"images are {kind} with pixels that are NaN or infinite; every pixel must be a number")
    low, high = min(ends), max(ends)
    if low >= 0 and high <= 255 and (train.dtype.kind in "iu" or (high > 1 and _whole(train) and _whole(test))):
        return (_rounded(train, 1), _rounded(test, 1)), (f"pixels are {kind}, whole numbers from {low:g} to {high:g}: read as uint8",)
    if train.dtype.kind == "f" and round(255 * low) >= 0 and round(255 * high) <= 255:
        if high < DARKEST_WHITE:
            raise UnusableArrays(
                f"images are {kind} of which the brightest pixel is {high:.3g}, as after dividing twice; white must be 1, or 255 as uint8"
            )
        return (_rounded(train, 255), _rounded(test, 255)), (f"pixels are {kind} from 0 to 1: read as 0 to 255, rounded to whole numbers",)
    raise UnusableArrays(
        f"images are {kind} from {low:.6g} to {high:.6g}, must be uint8 or from 0 to 1;"
        " bring both parts to one scale, (images - black) / (white - black)"
    )


def _whole(images: NDArray[Any]) -> bool:
    return all((part == np.rint(part)).all() for part in _parts(images))


def _rounded(images: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    """uint8, without ever holding all images as float64."""
    pixels = np.empty(images.shape, dtype=np.uint8)
    for part, target in zip(_parts(images), _parts(pixels), strict=True):
        target[...] = np.rint(part.astype(np.float64) * factor)
    return pixels


def _parts(images: NDArray[Any]) -> Iterable[NDArray[Any]]:
    return (images[start : start + _IMAGES_AT_A_TIME] for start in range(0, len(images), _IMAGES_AT_A_TIME))


def _vector(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as [N], where they are whole numbers [N] or [N, 1]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuf":
        remedy = ""
        if labels.ndim == 2:
            remedy = f"; {name}.argmax(axis=1) makes them of one-hot rows"
        elif labels.dtype.kind in "US":
            remedy = f"; numpy.unique({name}, return_inverse=True)[1] makes them of names"
        raise UnusableArrays(f"{name} are {_plain(labels.dtype)} {_by(labels.shape)}, must be whole numbers [N]{remedy}")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise UnusableArrays(f"{name} are {_plain(labels.dtype)} that are not all whole numbers; a label is the number of a class, from 0")
    return labels


def _numbered(train: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], int, tuple[str, ...]]:
    """Labels from 0, and the number of classes: those that have a training image, and no others."""
    # Python's numbers from here on: NumPy compares integers of different types as floats, where large ones are equal.
    found, train_places = np.unique(train, return_inverse=True)
    known = _runs([int(label) for label in found])
    first, last = known[0][0], known[-1][1]
    if len(found) < 2:
        raise UnusableArrays(f"train_labels are all {first}; there must be at least two classes")
    if len(known) > 1:
        gaps = [(before + 1, after - 1) for (_, before), (after, _) in pairwise(known)]
        raise UnusableArrays(
            f"train_labels are {_told(known)}: no training image has label {_told(gaps)}, and every class needs one; number them anew:"
            " classes, train_labels = numpy.unique(train_labels, return_inverse=True);"
            " test_labels = numpy.searchsorted(classes, test_labels)"
        )
    found_in_test, test_places = np.unique(test, return_inverse=True)
    unknown = [int(label) for label in found_in_test if not first <= int(label) <= last]
    if unknown:
        raise UnusableArrays(f"test_labels: label {_told(_runs(unknown))} has no training image; train_labels are {first} to {last}")
    test_numbers = np.array([int(label) - first for label in found_in_test], dtype=np.int64)[test_places]
    notes = () if first == 0 else (f"labels are {first} to {last}: read as 0 to {last - first}",)
    return train_places.astype(np.int64), test_numbers, len(found), notes


def _runs(labels: list[int]) -> list[tuple[int, int]]:
    """Ascending labels as (first, last) of those that follow one another."""
    starts = [0, *(place for place in range(1, len(labels)) if labels[place] - labels[place - 1] != 1), len(labels)]
    return [(labels[start], labels[end - 1]) for start, end in pairwise(starts)]


def _told(runs: list[tuple[int, int]]) -> str:
    """`0 to 4, 7 and 95 to 99`."""
    words = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    if len(words) > MOST_TOLD:
        words = [*words[:MOST_TOLD], "more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _plain(dtype: np.dtype[Any]) -> str:
    """The type's name, whatever its byte order: users do not mind that."""
    return str(dtype.newbyteorder("=")) if dtype.names is None else "records"


def _by(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
