"""A user's own arrays: read in the one way that makes sense and told so, or refused in one line; never read wrongly without a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from hybridep.config import TrialConfig
from hybridep.datasets import Dataset, DatasetError, load
from hybridep.own_arrays import MOST_CHANNELS, OwnArrays, UnusableArrays, read
from hybridep.study.study import prepare
from studies.schedule_sweep import Args, plan

Arrays = dict[str, np.ndarray]


def own(images: tuple[int, ...] = (8, 7), count: int = 12, classes: int = 3) -> Arrays:
    """Plain arrays: uint8 pictures and labels from 0."""
    draw = np.random.default_rng(0)
    made: Arrays = {}
    for part in ("train", "test"):
        made[f"{part}_images"] = draw.integers(0, 256, (count, *images), dtype=np.uint8)
        made[f"{part}_labels"] = np.arange(count) % classes
    return made


def changed(arrays: Arrays, change: Callable[[np.ndarray], np.ndarray], what: str = "images") -> Arrays:
    return {name: change(array) if name.endswith(what) else array for name, array in arrays.items()}


def complaint(arrays: Arrays, layout: str | None = None) -> str:
    with pytest.raises(UnusableArrays) as caught:
        read(arrays, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plain_arrays_are_read_as_they_are_without_a_word() -> None:
    arrays = own()
    found = read(arrays)
    np.testing.assert_array_equal(found.train_images[:, 0], arrays["train_images"])
    np.testing.assert_array_equal(found.test_labels, arrays["test_labels"])
    assert (found.classes, found.notes) == (3, ())


# Channels


def test_channels_that_are_the_last_axis_are_recognised_and_told() -> None:
    # The layout of torchvision.datasets.CIFAR10.data, once read as 32 channels of 32×3 images.
    arrays = own((32, 32, 3))
    found = read(arrays)
    assert found.train_images.shape == (12, 3, 32, 32)
    np.testing.assert_array_equal(found.test_images[5, 2], arrays["test_images"][5, :, :, 2])
    assert found.notes == ("channels are the last axis of images [12, 32, 32, 3]: read as 3 channels of [32, 32] pixels",)


def test_channels_that_are_the_first_axis_are_plain() -> None:
    found = read(own((3, 32, 32)))
    assert found.train_images.shape == (12, 3, 32, 32) and found.notes == ()


@pytest.mark.parametrize("shape", [(3, 32, 3), (1, 5, 4), (16, 32, 32)])
def test_images_that_can_be_read_in_two_ways_or_none_are_refused_until_the_layout_is_said(shape: tuple[int, int, int]) -> None:
    assert "could be the channels" in complaint(own(shape))
    assert 'layout="NHWC"' in complaint(own(shape))
    assert read(own(shape), "NCHW").train_images.shape == (12, *shape)
    assert read(own(shape), "NHWC").train_images.shape == (12, shape[2], shape[0], shape[1])


def test_a_layout_that_is_none_is_refused() -> None:
    assert complaint(own((3, 32, 32)), "CHW") == "layout 'CHW': must be NCHW or NHWC"
    assert "have no axis of channels" in complaint(own(), "NHWC")


def test_training_and_test_images_of_different_layouts_are_refused() -> None:
    arrays = own((3, 32, 32)) | {"test_images": own((32, 32, 3))["test_images"]}
    assert "must be of one type, and of one shape but for their number" in complaint(arrays)


@pytest.mark.parametrize("shape", [(), (12,), (12, 56), (12, 1, 1, 8, 7), (0, 8, 7), (12, 0, 7)])
def test_images_of_no_shape_that_has_pixels_are_refused(shape: tuple[int, ...]) -> None:
    message = complaint(own() | {"train_images": np.zeros(shape, np.uint8)})
    assert message.startswith("train_images are uint8 [") and "must be numbers [N, H, W] or [N, C, H, W]" in message
    assert ("images.reshape(-1, height, width)" in message) == (len(shape) == 2)


# Pixels


@pytest.mark.parametrize("kind", ["float16", "float32", ">f8", "longdouble"])
def test_brightness_from_0_to_1_is_read_back_as_the_bytes_that_it_was_made_of(kind: str) -> None:
    arrays = own()
    found = read(changed(arrays, lambda images: (images / 255).astype(kind)))
    np.testing.assert_array_equal(found.train_images[:, 0], arrays["train_images"])
    assert found.notes == (f"pixels are {np.dtype(kind).newbyteorder('=')} from 0 to 1: read as 0 to 255, rounded to whole numbers",)


@pytest.mark.parametrize("kind", ["int16", ">u2", "int64", "uint64", "float32", "float64"])
def test_whole_numbers_up_to_255_are_read_as_bytes_whatever_their_type(kind: str) -> None:
    arrays = own()
    found = read(changed(arrays, lambda images: images.astype(kind)))
    np.testing.assert_array_equal(found.test_images[:, 0], arrays["test_images"])
    assert "read as uint8" in found.notes[0]


def test_what_one_part_holds_decides_for_both() -> None:
    # All training pixels are 0 or 1, but the test images tell that the scale ends at 255.
    arrays = changed(own(), lambda images: images.astype(float))
    arrays["train_images"] = np.round(arrays["train_images"] / 255)
    assert read(arrays).train_images.max() == 1
    # Alone, they are black and white.
    arrays["test_images"] = arrays["train_images"]
    assert read(arrays).train_images.max() == 255


def test_black_and_white_is_read_as_0_and_255() -> None:
    found = read(changed(own(), lambda images: images > 127))
    assert set(np.unique(found.train_images)) == {0, 255} and "bool" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda images: images.astype(np.uint16) * 257, "images are uint16 from 0 to 65535, must be uint8 or from 0 to 1"),
        (lambda images: images.astype(np.int16) - 128, "images are int16 from -128 to 127"),
        (lambda images: images / 127.5 - 1, "images are float64 from -1 to 1, must be uint8 or from 0 to 1; bring both parts to one scale"),
        (lambda images: images + 0.5, "images are float64 from 0.5 to 255.5"),
        (lambda images: images / 255 / 255, "brightest pixel is 0.00392, as after dividing twice"),
        (lambda images: np.where(images == images[0, 0, 0], np.nan, images / 255), "NaN or infinite"),
        (lambda images: np.where(images == images[0, 0, 0], -np.inf, images / 255), "NaN or infinite"),
        (lambda images: images.astype(complex), "train_images are complex128"),
        (lambda images: images.astype(str), "train_images are <U"),
        (lambda images: images.astype("datetime64[s]"), "train_images are datetime64[s]"),
    ],
)
def test_pixels_that_are_no_brightness_are_refused(change: Callable[[np.ndarray], np.ndarray], told: str) -> None:
    assert told in complaint(changed(own(), change))


@pytest.mark.parametrize("part", ["train_images", "test_images"])
def test_one_pixel_that_is_no_number_is_found_in_either_part(part: str) -> None:
    arrays = changed(own(), lambda images: images / 255)
    arrays[part][3, 4, 5] = np.nan
    assert "NaN" in complaint(arrays)


def test_training_and_test_images_of_different_types_are_refused() -> None:
    arrays = own()
    assert "must be of one type" in complaint(arrays | {"test_images": arrays["test_images"] / 255})
    # Byte order is no type of its own.
    wide = changed(arrays, lambda images: images.astype("<i4"))
    assert read(wide | {"test_images": wide["test_images"].astype(">i4")}).notes == read(wide).notes


# Labels


def test_labels_from_1_are_renumbered_and_told() -> None:
    found = read(changed(own(), lambda labels: labels + 1, "labels"))
    np.testing.assert_array_equal(found.train_labels, own()["train_labels"])
    np.testing.assert_array_equal(found.test_labels, own()["test_labels"])
    assert (found.classes, found.notes) == (3, ("labels are 1 to 3: read as 0 to 2",))


@pytest.mark.parametrize("far", [2**40, 2**63 - 1, -(2**63)])
def test_one_label_far_away_makes_no_outputs(far: int) -> None:
    arrays = own()
    arrays["train_labels"][3] = far
    message = complaint(arrays)
    assert "no training image has label" in message and "numpy.unique(train_labels, return_inverse=True)" in message


def test_missing_labels_are_named_with_how_to_renumber() -> None:
    labels = np.array([*range(5), *range(95, 100), 0, 1])
    assert complaint(own() | {"train_labels": labels}) == (
        "train_labels are 0 to 4 and 95 to 99: no training image has label 5 to 94, and every class needs one; number them anew:"
        " classes, train_labels = numpy.unique(train_labels, return_inverse=True); test_labels = numpy.searchsorted(classes, test_labels)"
    )


def test_the_remedy_for_missing_labels_is_one() -> None:
    arrays = own() | {"train_labels": np.array([5, 9, 70] * 4), "test_labels": np.array([70, 5, 9, 9] * 3)}
    complaint(arrays)
    classes, numbered = np.unique(arrays["train_labels"], return_inverse=True)
    found = read(arrays | {"train_labels": numbered, "test_labels": np.searchsorted(classes, arrays["test_labels"])})
    np.testing.assert_array_equal(classes[found.test_labels], arrays["test_labels"])


def test_many_gaps_are_told_in_one_short_line() -> None:
    message = complaint(own((8, 7), count=1000) | {"train_labels": np.arange(1000) * 2})
    assert "and more" in message and len(message) < 350


@pytest.mark.parametrize(("label", "told"), [(3, "3"), (-1, "-1"), (2**63, str(2**63))])
def test_a_test_image_of_a_class_without_training_images_is_refused(label: int, told: str) -> None:
    test_labels = np.array([0, 1, 2] * 4, dtype=np.uint64 if label > 2**62 else np.int64)
    test_labels[7] = label
    message = complaint(own() | {"test_labels": test_labels})
    assert message == f"test_labels: label {told} has no training image; train_labels are 0 to 2"


def test_large_labels_of_different_types_are_not_taken_for_each_other() -> None:
    # As floats, which NumPy compares them as, all of these are one number.
    start = 2**53
    arrays = own() | {"train_labels": (np.arange(12) % 3 + start).astype(np.uint64)}
    found = read(arrays | {"test_labels": np.arange(12) % 3 + start})
    np.testing.assert_array_equal(found.test_labels, np.arange(12) % 3)
    complaint(arrays | {"test_labels": np.full(12, start + 3)})


@pytest.mark.parametrize(
    "change", [lambda labels: labels[:, None], lambda labels: labels.astype(float), lambda labels: labels.astype(">u2")]
)
def test_labels_in_a_column_and_of_any_type_are_read(change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = read(changed(own(), change, "labels"))
    np.testing.assert_array_equal(found.train_labels, own()["train_labels"])
    assert found.train_labels.dtype == np.int64 and found.notes == ()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.eye(3)[np.arange(12) % 3], "train_labels.argmax(axis=1) makes them of one-hot rows"),
        (np.array(["cat", "dog", "eel"] * 4), "numpy.unique(train_labels, return_inverse=True)[1] makes them of names"),
        (np.arange(12) % 3 + 0.5, "not all whole numbers"),
        (np.where(np.arange(12) == 3, np.nan, 1.0), "not all whole numbers"),
        (np.where(np.arange(12) == 3, np.inf, 1.0), "not all whole numbers"),
        (np.full(12, 4), "train_labels are all 4; there must be at least two classes"),
        (np.zeros(12, complex), "must be whole numbers [N]"),
        (np.array(1), "must be whole numbers [N]"),
        (np.arange(11) % 3, "train_labels are 11 for train_images [12, 8, 7]"),
    ],
)
def test_labels_that_are_no_numbers_of_classes_are_refused(labels: np.ndarray, told: str) -> None:
    assert told in complaint(own() | {"train_labels": labels})


# Files


def written(tmp_path: Path, arrays: dict[str, Any]) -> str:
    np.savez(tmp_path / "own.npz", **arrays)
    return str(tmp_path / "own.npz")


def test_a_file_says_its_layout_and_keeps_what_was_told(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, changed(own((1, 5, 4)), lambda images: images / 255) | {"layout": "NHWC"}))
    assert dataset.info.shape == (4, 1, 5)
    assert len(dataset.notes) == 2 and "; ".join(dataset.notes) == dataset.described()["notes"]


def test_inputs_are_normalised_by_what_was_read(tmp_path: Path) -> None:
    arrays = own((9, 8, 3))
    dataset = load(written(tmp_path, changed(arrays, lambda images: (images / 255).astype(np.float32))))
    pixels = arrays["train_images"] / 255
    assert dataset.info.mean == pytest.approx(tuple(pixels.mean(axis=(0, 1, 2))))
    assert dataset.info.std == pytest.approx(tuple(pixels.std(axis=(0, 1, 2))))


def test_a_channel_that_shows_nothing_is_named(tmp_path: Path) -> None:
    arrays = own((9, 8, 4))
    arrays["train_images"][..., 3] = 255  # as transparency mostly is
    with pytest.raises(DatasetError, match="channel 3 of train_images is 255 everywhere"):
        load(written(tmp_path, arrays))


def test_a_file_that_was_written_anew_is_known_as_it_now_is(tmp_path: Path) -> None:
    load(written(tmp_path, own((8, 7))))
    name = written(tmp_path, own((5, 4), classes=2))
    load(name)
    assert TrialConfig(dataset=name, sizes=(20, 6, 2)).layer_shapes()[0] == (20,)


def test_how_a_file_was_read_is_told_and_stands_in_study_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path, own((5, 5, 3), count=40))
    args = Args(dataset=name, protocol="digits", options={"sizes": (75, 8, 3)}, out=str(tmp_path / "study"), search="thesis")
    folder, dataset = prepare("schedule_sweep", args, plan(args))
    folder.close()
    told = "channels are the last axis of images [40, 5, 5, 3]: read as 3 channels of [5, 5] pixels"
    assert capsys.readouterr().out == f"{name}: {told}\n"
    assert json.loads((tmp_path / "study/study.json").read_text())["dataset"] == {
        "name": name,
        "checksum": dataset.checksum,
        "notes": told,
    }


# Whatever is brought


NUMBERS = ("bool", "u1", "i1", "<u2", ">u2", "<i4", ">i4", "<i8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8")
OTHERS = ("c8", "M8[s]", "m8[s]", "U3", "S2")
# Values that could be pixels, and whatever the type can hold.
PIXELS = {"f": (st.floats(0, 1, width=16), st.integers(0, 255), st.floats(-2, 300, width=16), None), "i": (st.integers(0, 100), None)}


@st.composite
def any_arrays(draw: st.DrawFn) -> tuple[Arrays, str | None]:
    """Arrays of every type, byte order, memory order and rank, with labels of every kind; each part is mostly one that could be meant."""

    def one_of(*usual: Any, odd: tuple[Any, ...]) -> Any:
        return draw(st.sampled_from(usual if draw(st.integers(0, 9)) < 9 else odd))

    kind = one_of(*NUMBERS, odd=OTHERS)
    shape = draw(st.lists(st.integers(1, 7), min_size=(rank := one_of(2, 3, odd=(0, 1, 4))), max_size=rank))
    values = draw(st.sampled_from(PIXELS.get({"u": "i"}.get(letter := np.dtype(kind).kind, letter), (None,))))
    start, step, label_kind = (
        draw(st.sampled_from([0, 0, 1, -1, 7, 2**40])),
        one_of(1, odd=(3,)),
        one_of("i8", ">i8", "f8", odd=("u1", "c8", "U3")),
    )
    made: Arrays = {}
    for part in ("train", "test"):
        count = draw(st.integers(3, 6))
        own_kind = one_of(kind, odd=(*NUMBERS, *OTHERS))
        images = draw(arrays_of.arrays(own_kind, (count, *shape), elements=values if own_kind == kind else None))
        made[f"{part}_images"] = np.asarray(images, order=draw(st.sampled_from("CF")))
        labels = draw(st.permutations([0, 1, *draw(st.lists(st.integers(0, 2), min_size=count - 2, max_size=count - 2))]))
        made[f"{part}_labels"] = (start + step * np.array(labels)).astype(label_kind)
        made[f"{part}_labels"] = one_of(made[f"{part}_labels"], made[f"{part}_labels"][:, None], odd=(np.eye(count), np.arange(count + 1)))
    return made, draw(st.sampled_from([None, None, "NCHW", "NHWC", "CHW"]) if len(shape) == 3 else st.none())


def assert_right(arrays: Arrays, layout: str | None, found: OwnArrays) -> None:
    """What was read, turned back, is what was brought."""
    for part in ("train", "test"):
        images, pixels = arrays[f"{part}_images"], getattr(found, f"{part}_images")
        if images.ndim == 3:
            back = pixels[:, 0]
            assert pixels.shape[1] == 1 and layout is None
        else:
            last = layout == "NHWC" or (layout is None and images.shape[1] > MOST_CHANNELS)
            assert layout is not None or (images.shape[1] <= MOST_CHANNELS) != (images.shape[3] <= MOST_CHANNELS)
            back = pixels.transpose(0, 2, 3, 1) if last else pixels
        assert pixels.dtype == np.uint8 and back.shape == images.shape
        both = [arrays["train_images"], arrays["test_images"]]
        bright = images.dtype.kind == "b" or (images.dtype.kind == "f" and max(own.max() for own in both) <= 1 + 1 / 510)
        assert np.abs(back.astype(float) - images.astype(float) * (255 if bright else 1)).max() <= (0.5 if bright else 0)
    # A class has one number, in both parts, and every number has a training image.
    pairs = {
        (int(label), int(number))
        for part in ("train", "test")
        for label, number in zip(arrays[f"{part}_labels"].ravel(), getattr(found, f"{part}_labels"), strict=True)
    }
    assert len({label for label, _ in pairs}) == len({number for _, number in pairs}) == len(pairs) == found.classes
    assert set(found.train_labels.tolist()) == set(range(found.classes)) and found.classes >= 2
    plain = arrays["train_images"].dtype == np.uint8 and all(label == number for label, number in pairs)
    if found.notes == ():
        assert plain and back is not pixels.transpose(0, 2, 3, 1)


@given(any_arrays())
@example((own(), None))
@example((changed(own((4, 9, 9)), lambda images: images / 255), None))
@example((changed(own((9, 9, 3)), lambda images: np.asfortranarray(images).astype(">i4")), None))
@example((changed(own((2, 2, 2)), lambda images: images > 127), "NHWC"))
def test_arrays_of_every_kind_are_refused_in_one_line_or_read_rightly(brought: tuple[Arrays, str | None]) -> None:
    arrays, layout = brought
    try:
        found = read(arrays, layout)
    except UnusableArrays as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert_right(arrays, layout, found)


@given(data=st.data())
def test_a_file_with_a_changed_byte_is_refused_in_one_line_or_read_as_it_was(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("own") / "own.npz"
    np.savez_compressed(path, **own())
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        dataset: Dataset = load(str(path))
    except DatasetError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_array_equal(dataset.train_images[:, 0], own()["train_images"])
        np.testing.assert_array_equal(dataset.test_labels, own()["test_labels"])
