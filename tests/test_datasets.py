"""Datasets: what is read from official files in every form, how damage and absence are told, and how training data is split."""

import gzip
import hashlib
import importlib
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridep import datasets
from hybridep.datasets import DATASETS, Dataset, DatasetError, DatasetInfo, load, split
from tests.conftest import idx_bytes

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")

# The fixtures are used for what they write to disk, which each example overwrites.
on_disk = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def complaint(action: Callable[[], object]) -> str:
    """The message of the DatasetError that the action raises, which must be one line."""
    with pytest.raises(DatasetError) as caught:
        action()
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def assert_holds(dataset: Dataset, written) -> None:
    np.testing.assert_array_equal(dataset.train_images, written.train_images)
    np.testing.assert_array_equal(dataset.train_labels, written.train_labels)
    np.testing.assert_array_equal(dataset.test_images, written.test_images)
    np.testing.assert_array_equal(dataset.test_labels, written.test_labels)
    assert dataset.train_images.dtype == np.uint8 and dataset.train_labels.dtype == np.int64


@pytest.fixture
def no_defaults(monkeypatch, tmp_path) -> Path:
    """A home and working folder without any dataset, and no system-wide one."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("HYBRIDEP_DATA", raising=False)
    monkeypatch.chdir(work)
    for name, source in datasets._SOURCES.items():
        monkeypatch.setitem(datasets._SOURCES, name, datasets.replace(source, system_folder=None))
    return tmp_path


# Embedded and real data


def test_digits_normalisation_constants_are_those_of_its_training_part():
    digits = load("digits")
    pixels = digits.train_images / 255
    assert DATASETS["digits"].mean == (round(float(pixels.mean()), 4),)
    assert DATASETS["digits"].std == (round(float(pixels.std()), 4),)


def test_digits_are_those_of_scikit_learn_with_sixteen_as_white():
    digits = load("digits")
    pixels, targets = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    ours = np.concatenate([digits.train_images, digits.test_images]).reshape(-1, 64)
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert digits.train_images.max() == 255
    back = np.rint(ours / 255 * 16)
    assert sorted(map(tuple, np.column_stack([back, labels]))) == sorted(map(tuple, np.column_stack([pixels, targets])))


def test_digits_split_is_the_same_for_everyone():
    digits = load("digits")
    assert (digits.info.train, digits.info.test) == (len(digits.train_images), len(digits.test_images)) == (1437, 360)
    assert np.bincount(digits.test_labels).min() >= 25
    assert digits.checksum == "dfe95c1b5712a5fe3774b77a92e26cbdc14d4e1466e0539ce80ea93c16a1f22d"


def test_digits_can_be_had_when_scikit_learn_keeps_its_table_elsewhere(monkeypatch):
    expected = load("digits").checksum
    empty = types.SimpleNamespace(submodule_search_locations=["nowhere"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: empty)
    assert load("digits").checksum == expected


def test_digits_without_scikit_learn_are_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "scikit-learn" in complaint(lambda: load("digits"))


@needs_fashion
def test_fashion_mnist_from_debian_is_found_complete_and_normalised(monkeypatch, tmp_path):
    monkeypatch.delenv("HYBRIDEP_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fashion = load("fashion-mnist", download=False)
    assert fashion.info == DATASETS["fashion-mnist"]
    assert np.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert np.bincount(fashion.test_labels).tolist() == [1000] * 10
    assert fashion.train_images.mean() / 255 == pytest.approx(fashion.info.mean[0], abs=5e-5)
    assert fashion.train_images.std() / 255 == pytest.approx(fashion.info.std[0], abs=5e-5)


@needs_fashion
def test_fashion_mnist_loads_in_under_one_and_a_half_seconds():
    # Processor time, so that whatever else runs on the machine does not count.
    start = time.process_time()
    load("fashion-mnist", FASHION_FOLDER)
    assert time.process_time() - start < 1.5


@needs_fashion
def test_fashion_mnist_is_not_taken_for_mnist():
    message = complaint(lambda: load("mnist", FASHION_FOLDER))
    assert message == f"{FASHION_FOLDER}: holds fashion-mnist, not mnist"


def test_mnist_is_not_taken_for_fashion_mnist(official_files):
    written = official_files("fashion-mnist")
    path = written.files["train-labels-idx1-ubyte"]
    path.write_bytes(path.read_bytes()[:8] + bytes(datasets._OPENING_LABELS["mnist"]) + path.read_bytes()[28:])
    assert complaint(lambda: load("fashion-mnist", written.data_dir)) == f"{path.parent}: holds mnist, not fashion-mnist"


def test_importing_the_module_imports_nothing_heavy():
    heavy = "('torch', 'torchvision', 'sklearn', 'ray', 'pandas')"
    code = f"import sys, hybridep.datasets as d; d.load('digits'); print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(datasets.__file__).parents[1], check=True)
    assert run.stdout.strip() == "[]"


# Official files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("layout", ["torchvision", "plain"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files_are_read_in_every_layout(official_files, name, layout, compressed):
    written = official_files(name, layout=layout, compressed=compressed)
    assert_holds(load(name, written.data_dir, download=False), written)


@pytest.mark.parametrize("layout", ["torchvision", "plain", "archive"])
def test_cifar_batches_are_read_in_every_layout(official_files, layout):
    written = official_files("cifar10", layout=layout)
    assert_holds(load("cifar10", written.data_dir, download=False), written)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_cifar_batches_that_python_3_pickled_are_read(official_files, protocol, order):
    written = official_files("cifar10", layout="plain")
    rows = np.asarray(written.test_images.reshape(20, -1), order=order)
    for keys in ({"data": rows, "labels": written.test_labels.tolist()}, {b"data": rows, b"labels": written.test_labels.tolist()}):
        written.files["test_batch"].write_bytes(pickle.dumps(keys, protocol=protocol))
        assert_holds(load("cifar10", written.data_dir, download=False), written)


def test_the_same_images_have_the_same_checksum_in_any_kind_of_file(official_files):
    sums = {load("mnist", official_files("mnist", *form).data_dir).checksum for form in [("torchvision", True), ("plain", False)]}
    sums |= {load("fashion-mnist", official_files("fashion-mnist", "plain", True).data_dir).checksum}
    assert len(sums) == 1
    assert load("mnist", official_files("mnist", seed=1).data_dir).checksum not in sums


def test_counts_are_those_of_the_files_and_not_the_official_ones(official_files):
    for name in ("mnist", "cifar10"):
        info = load(name, official_files(name, train=37, test=11).data_dir).info
        assert (info.train, info.test) == (37, 11)
        assert info.mean == DATASETS[name].mean


def test_loaded_arrays_cannot_be_written_to(official_files):
    dataset = load("mnist", official_files("mnist").data_dir)
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_torchvision_reads_the_same_idx_files_to_the_same_arrays(official_files):
    torchvision = pytest.importorskip("torchvision")
    written = official_files("fashion-mnist")
    ours = load("fashion-mnist", written.data_dir)
    theirs = torchvision.datasets.FashionMNIST(str(written.data_dir), train=True)
    np.testing.assert_array_equal(ours.train_images[:, 0], theirs.data.numpy())
    np.testing.assert_array_equal(ours.train_labels, theirs.targets.numpy())
    theirs = torchvision.datasets.FashionMNIST(str(written.data_dir), train=False)
    np.testing.assert_array_equal(ours.test_images[:, 0], theirs.data.numpy())


# NumPy warns about the alignment flags in what Python 2 pickled; our own reader does not ask NumPy.
@pytest.mark.filterwarnings("ignore:dtype.*align:Warning")
def test_torchvision_reads_the_same_cifar_batches_to_the_same_arrays(official_files, monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    written = official_files("cifar10")
    # Only its checksums of the real files are passed over.
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *args: True)
    (written.data_dir / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    ours = load("cifar10", written.data_dir)
    for part, images, labels in ((True, ours.train_images, ours.train_labels), (False, ours.test_images, ours.test_labels)):
        theirs = torchvision.datasets.CIFAR10(str(written.data_dir), train=part)
        np.testing.assert_array_equal(images, theirs.data.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(labels, theirs.targets)


def test_a_readers_own_arrays_make_a_dataset():
    images, labels = np.zeros((6, 1, 8, 8), np.uint8), np.arange(6)
    own = Dataset.from_arrays(DATASETS["digits"], images[:4], labels[:4], images[4:], labels[4:])
    assert (own.info.train, own.info.test) == (4, 2)
    moved = Dataset.from_arrays(DATASETS["digits"], images[:3], labels[:3], images[3:], labels[3:])
    assert own.checksum != moved.checksum
    images[0] = 1  # the caller's array stays the caller's


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (np.zeros((2, 1, 8, 8)), np.zeros(2, int), "pixels are float64, must be uint8"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2, int), "images are 8x8, digits has 1x8x8"),
        (np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, int), "holds no images"),
        (np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2), "must be a vector of integers"),
        (np.zeros((2, 1, 8, 8), np.uint8), np.zeros((2, 1), int), "must be a vector of integers"),
        (np.zeros((2, 1, 8, 8), np.uint8), np.zeros(3, int), "3 labels for the 2 images"),
        (np.zeros((2, 1, 8, 8), np.uint8), np.array([0, -1]), "label -1 at position 1, must be 0 to 9"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, expected):
    good = np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, int)
    assert expected in complaint(lambda: Dataset.from_arrays(DATASETS["digits"], *good, images, labels))


# Damaged files


def idx_header(*fields: int, magic: bytes) -> bytes:
    return magic + b"".join(field.to_bytes(4, "big") for field in fields)


IMAGE_DAMAGE = {
    "empty": (lambda content: b"", "truncated, 0 bytes"),
    "magic cut": (lambda content: content[:3], "truncated, 3 bytes"),
    "header cut": (lambda content: content[:10], "truncated, 10 bytes where the IDX header alone has 16"),
    "no pixels": (lambda content: content[:16], "truncated, 16 bytes where its header (20x28x28) asks for 15696"),
    "one pixel short": (lambda content: content[:-1], "truncated"),
    "one byte more": (lambda content: content + b"\0", "1 trailing bytes"),
    "twice": (lambda content: content * 2, "trailing bytes"),
    "wrong magic": (lambda content: b"\x08\x03\0\0" + content[4:], "magic number is 0x08030000, must be 0x00000803"),
    "an error page": (lambda content: b"<!DOCTYPE html><html>404</html>", "not an IDX file, magic number is 0x3c21444f"),
    "floats": (lambda content: b"\0\0\x0d\x03" + content[4:], "element type is 0x0d, must be 0x08"),
    "signed bytes": (lambda content: b"\0\0\x09\x03" + content[4:], "element type is 0x09"),
    "four dimensions": (lambda content: b"\0\0\x08\x04" + content[4:], "has 4 dimensions, must have 3"),
    "labels": (lambda content: idx_header(20, magic=b"\0\0\x08\x01") + bytes(20), "has 1 dimensions, must have 3"),
    "endless": (lambda content: b"\0\0\x08\x03" + b"\xff" * 12 + content[16:], "truncated"),
    "one image more claimed": (lambda content: idx_header(21, 28, 28, magic=content[:4]) + content[16:], "truncated"),
    "little-endian": (lambda content: content[:4] + b"\x14\0\0\0\x1c\0\0\0\x1c\0\0\0" + content[16:], "truncated"),
    "no images": (lambda content: idx_header(0, 28, 28, magic=content[:4]), "holds no images"),
    "other size": (lambda content: idx_header(40, 14, 28, magic=content[:4]) + content[16:], "images are 1x14x28, mnist has 1x28x28"),
}

LABEL_DAMAGE = {
    "empty": (lambda content: b"", "truncated, 0 bytes"),
    "header cut": (lambda content: content[:7], "truncated, 7 bytes where the IDX header alone has 8"),
    "one label short": (lambda content: content[:-1], "truncated, 27 bytes where its header (20) asks for 28"),
    "one byte more": (lambda content: content + b"\0", "1 trailing bytes"),
    "images": (lambda content: idx_header(1, 1, 1, magic=b"\0\0\x08\x03") + b"\0", "has 3 dimensions, must have 1"),
    "shorts": (lambda content: b"\0\0\x0b\x01" + content[4:], "element type is 0x0b"),
    "eleven classes": (lambda content: content[:-1] + b"\x0a", "label 10 at position 19, must be 0 to 9"),
    "fewer than images": (lambda content: idx_header(19, magic=content[:4]) + content[9:], "19 labels for the 20 images of"),
    "more than images": (lambda content: idx_header(21, magic=content[:4]) + content[8:] + b"\0", "21 labels for the 20 images of"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", IMAGE_DAMAGE)
def test_damaged_idx_images_are_named(official_files, damage, compressed):
    spoil, expected = IMAGE_DAMAGE[damage]
    check_damaged_idx(official_files, "t10k-images-idx3-ubyte", spoil, expected, compressed)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", LABEL_DAMAGE)
def test_damaged_idx_labels_are_named(official_files, damage, compressed):
    spoil, expected = LABEL_DAMAGE[damage]
    check_damaged_idx(official_files, "t10k-labels-idx1-ubyte", spoil, expected, compressed)


def check_damaged_idx(official_files, file, spoil, expected, compressed):
    written = official_files("mnist", compressed=compressed)
    path = written.files[file]
    content = path.read_bytes()
    spoiled = spoil(gzip.decompress(content) if compressed else content)
    path.write_bytes(gzip.compress(spoiled) if compressed else spoiled)
    message = complaint(lambda: load("mnist", written.data_dir))
    assert message.startswith(f"{path}: ")
    assert expected in message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"more",
        lambda content: gzip.decompress(content),
        lambda content: content[:-8] + bytes(4) + content[-4:],
        lambda content: content[:200] + bytes(100) + content[300:],
        lambda content: b"<html>Not Found</html>",
    ],
    ids=["empty", "header cut", "half", "a byte short", "more behind", "not compressed", "checksum", "body", "error page"],
)
def test_damaged_gzip_is_named(official_files, spoil):
    written = official_files("fashion-mnist", compressed=True)
    path = written.files["train-images-idx3-ubyte"]
    path.write_bytes(spoil(path.read_bytes()))
    assert complaint(lambda: load("fashion-mnist", written.data_dir)).startswith(f"{path}: ")


@on_disk
@given(st.data())
def test_no_changed_byte_of_a_compressed_file_changes_the_data_unseen(official_files, data):
    written = official_files("mnist", compressed=True)
    path = written.files[data.draw(st.sampled_from(sorted(written.files)))]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        dataset = load("mnist", written.data_dir)
    except DatasetError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert_holds(dataset, written)


@on_disk
@given(st.data())
def test_a_cifar_batch_cut_anywhere_is_named(official_files, data):
    written = official_files("cifar10", layout="plain", train=10, test=2)
    path = written.files["test_batch"]
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert complaint(lambda: load("cifar10", written.data_dir)).startswith(f"{path}: not a CIFAR batch")


@on_disk
@given(st.data())
def test_a_cifar_batch_with_a_changed_byte_is_read_or_named(official_files, data):
    written = official_files("cifar10", layout="plain", train=10, test=2)
    path = written.files["test_batch"]
    content = bytearray(path.read_bytes())
    rows = content.index(written.test_images.tobytes())
    # Outside the pixels, where nearly every byte means something to the unpickler.
    position = data.draw(st.one_of(st.integers(0, rows - 1), st.integers(rows + written.test_images.size, len(content) - 1)))
    content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load("cifar10", written.data_dir)
    except DatasetError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def batch(**changes) -> bytes:
    entries = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]} | changes
    return pickle.dumps({key: value for key, value in entries.items() if value is not None}, protocol=2)


BATCH_DAMAGE = {
    "empty": (b"", "not a CIFAR batch"),
    "an error page": (b"<html>404</html>", "not a CIFAR batch"),
    "a list": (pickle.dumps([1, 2]), "holds a list, must be a dict"),
    "no data": (batch(data=None), "no entry 'data'"),
    "no labels": (batch(labels=None), "no entry 'labels'"),
    "fine labels only": (batch(labels=None, fine_labels=[0, 1]), "no entry 'labels'"),
    "data is a list": (batch(data=[[0] * 3072] * 2), "data is a list, must be an array of bytes"),
    "floats": (batch(data=np.zeros((2, 3072), np.float32)), "element type 'f4', must be 'u1'"),
    "objects": (batch(data=np.array([[None] * 3072] * 2)), "element type 'O8', must be 'u1'"),
    "grey images": (batch(data=np.zeros((2, 1024), np.uint8)), "data is 2x1024, must be N rows of 3072 bytes"),
    "not flattened": (batch(data=np.zeros((2, 3, 32, 32), np.uint8)), "data is 2x3x32x32, must be N rows"),
    "no images": (batch(data=np.zeros((0, 3072), np.uint8), labels=[]), "not a CIFAR batch"),
    "one label short": (batch(labels=[0]), "1 labels for the 2 images"),
    "one label more": (batch(labels=[0, 1, 2]), "3 labels for the 2 images"),
    "label 10": (batch(labels=[0, 10]), "label 10 at position 1, must be 0 to 9"),
    "label -1": (batch(labels=[-1, 0]), "label -1 at position 0"),
    "huge label": (batch(labels=[0, 10**30]), "labels must be a list of integers"),
    "labels are text": (batch(labels=["0", "1"]), "labels must be a list of integers"),
    "labels are true": (batch(labels=[True, False]), "labels must be a list of integers"),
    "trailing": (batch() + b"\0\0", "2 trailing bytes"),
}


@pytest.mark.parametrize("damage", BATCH_DAMAGE)
def test_damaged_cifar_batches_are_named(official_files, damage):
    content, expected = BATCH_DAMAGE[damage]
    written = official_files("cifar10", layout="plain")
    path = written.files["data_batch_4"]
    path.write_bytes(content)
    message = complaint(lambda: load("cifar10", written.data_dir))
    assert message.startswith(f"{path}: ")
    assert expected in message


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch executed",)),
        (eval, ("open('executed', 'w')",)),
        (getattr, (os, "system")),
        (np.load, ("executed",)),
        (np.dtype, ("O",)),
        (np.array, ([1],)),
        (importlib.import_module, ("antigravity",)),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_in_a_pickle_is_run(official_files, monkeypatch, tmp_path, function, arguments, protocol):
    monkeypatch.chdir(tmp_path)
    written = official_files("cifar10", layout="plain")
    arguments = [argument.__name__ if isinstance(argument, types.ModuleType) else argument for argument in arguments]
    content = pickle.dumps({"data": Call(function, *arguments), "labels": []}, protocol=protocol)
    written.files["data_batch_1"].write_bytes(content)
    message = complaint(lambda: load("cifar10", written.data_dir))
    assert message.startswith(f"{written.files['data_batch_1']}: not a CIFAR batch")
    assert not (tmp_path / "executed").exists()


def test_a_pickle_cannot_ask_for_all_memory(official_files):
    written = official_files("cifar10", layout="plain")
    # A memo index of four thousand million, for which the unpickler in C would allocate a table.
    written.files["data_batch_1"].write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    assert "no entry 'data'" in complaint(lambda: load("cifar10", written.data_dir))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:8],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:-8] + bytes(4) + content[-4:],
        lambda content: gzip.decompress(content),
        lambda content: gzip.compress(gzip.decompress(content)[:5000]),
        lambda content: gzip.compress(b"not a tar archive" * 100),
        lambda content: gzip.compress(bytes(10240)),
        lambda content: b"<html>Not Found</html>",
    ],
    ids=["empty", "header cut", "half", "a byte short", "checksum", "not compressed", "tar cut", "not a tar", "no members", "error page"],
)
def test_a_damaged_archive_is_named(official_files, spoil):
    written = official_files("cifar10", layout="archive")
    archive = written.data_dir / "cifar-10-python.tar.gz"
    archive.write_bytes(spoil(archive.read_bytes()))
    assert complaint(lambda: load("cifar10", written.data_dir)).startswith(f"{archive}: ")


@on_disk
@given(st.data())
def test_no_changed_byte_of_the_archive_changes_the_data_unseen(official_files, data):
    written = official_files("cifar10", layout="archive", train=5, test=1)
    archive = written.data_dir / "cifar-10-python.tar.gz"
    content = bytearray(archive.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(content)
    try:
        dataset = load("cifar10", written.data_dir)
    except DatasetError as error:
        assert str(error).startswith(f"{archive}: ") and "\n" not in str(error)
    else:
        assert_holds(dataset, written)


def repacked(
    archive: Path, keep: Callable[[tarfile.TarInfo], bool], content: Callable[[str, bytes], bytes] = lambda name, old: old
) -> None:
    with tarfile.open(archive) as members:
        old = [(member, members.extractfile(member).read()) for member in members if keep(member)]
    with tarfile.open(archive, "w:gz") as members:
        for member, data in old:
            data = content(Path(member.name).name, data)
            member.size = len(data)
            members.addfile(member, io.BytesIO(data))


def test_an_archive_without_a_batch_is_named(official_files):
    written = official_files("cifar10", layout="archive")
    archive = written.data_dir / "cifar-10-python.tar.gz"
    repacked(archive, keep=lambda member: not member.name.endswith("data_batch_3"))
    assert complaint(lambda: load("cifar10", written.data_dir)) == f"{archive}: lacks data_batch_3"


def test_a_damaged_batch_in_the_archive_is_named_with_it(official_files):
    written = official_files("cifar10", layout="archive")
    archive = written.data_dir / "cifar-10-python.tar.gz"
    repacked(archive, keep=lambda member: True, content=lambda name, old: old[:100] if name == "data_batch_2" else old)
    message = complaint(lambda: load("cifar10", written.data_dir))
    assert message.startswith(f"{archive}: cifar-10-batches-py/data_batch_2: not a CIFAR batch")


def test_a_file_that_may_not_be_read_is_named(official_files, monkeypatch):
    written = official_files("mnist")
    refuse = written.files["t10k-labels-idx1-ubyte"]
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == refuse:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert complaint(lambda: load("mnist", written.data_dir)) == f"{refuse}: cannot be read (Permission denied)"


# Where files are looked for


def test_an_unknown_dataset_is_refused_with_the_known_ones():
    known = "digits, mnist, fashion-mnist, cifar10, or an .npz file of your own"
    assert complaint(lambda: load("svhn")) == f"dataset 'svhn': must be one of {known}"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_files_are_told_with_places_and_remedy(no_defaults, name):
    message = complaint(lambda: load(name, download=False))
    source = datasets._SOURCES[name]
    assert message.startswith(f"{name} not found: looked for {source.files[0]}")
    assert f"data/{source.folder}" in message and f"{no_defaults}/home/.cache/hybridep/{source.folder}" in message
    assert "http" in message and "--data-dir" in message


def test_debians_package_is_the_remedy_for_fashion_mnist(no_defaults):
    assert "dataset-fashion-mnist" in complaint(lambda: load("fashion-mnist", download=False))


def test_a_folder_that_lacks_one_file_is_told_which(official_files):
    written = official_files("mnist", layout="plain", compressed=True)
    written.files["t10k-labels-idx1-ubyte"].unlink()
    assert f"{written.data_dir} (lacks t10k-labels-idx1-ubyte)" in complaint(lambda: load("mnist", written.data_dir, download=False))


def test_a_given_folder_is_the_only_place(no_defaults, official_files):
    official_files("mnist", data_dir=no_defaults / "work" / "data")
    (no_defaults / "elsewhere").mkdir()
    message = complaint(lambda: load("mnist", no_defaults / "elsewhere", download=False))
    assert str(no_defaults / "elsewhere") in message and ".cache" not in message


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert complaint(lambda: load("mnist", path)) == f"data_dir {path}: is a file, must be the folder that holds the files of mnist"


def test_a_data_dir_with_a_line_break_is_told_in_one_line(tmp_path):
    assert "not found" in complaint(lambda: load("mnist", tmp_path / "two\nlines", download=False))


@pytest.mark.parametrize("place", ["work/data", "home/.cache/hybridep"])
def test_default_places_are_searched_in_torchvisions_layout(no_defaults, official_files, place):
    written = official_files("mnist", data_dir=no_defaults / place)
    assert_holds(load("mnist", download=False), written)


@pytest.mark.parametrize("layout", ["torchvision", "plain"])
def test_the_environment_names_the_first_place(no_defaults, official_files, monkeypatch, layout):
    written = official_files("mnist", layout=layout, data_dir=no_defaults / "mine", seed=1)
    official_files("mnist", data_dir=no_defaults / "work" / "data", seed=2)
    monkeypatch.setenv("HYBRIDEP_DATA", str(no_defaults / "mine"))
    assert_holds(load("mnist", download=False), written)


def test_a_default_place_may_hold_a_folder_named_as_the_dataset(no_defaults, official_files):
    for name, layout in (("mnist", "plain"), ("fashion-mnist", "plain"), ("cifar10", "archive")):
        written = official_files(name, layout=layout, data_dir=no_defaults / "work" / "data" / name, seed=len(name))
        assert_holds(load(name, download=False), written)


def test_unlabelled_idx_files_in_a_default_place_are_left_alone(no_defaults, official_files):
    official_files("mnist", layout="plain", data_dir=no_defaults / "work" / "data")
    complaint(lambda: load("fashion-mnist", download=False))


def test_debians_folder_is_searched_for_fashion_mnist(no_defaults, official_files, monkeypatch):
    written = official_files("fashion-mnist", layout="plain", compressed=True)
    source = datasets.replace(datasets._SOURCES["fashion-mnist"], system_folder=str(written.data_dir))
    monkeypatch.setitem(datasets._SOURCES, "fashion-mnist", source)
    assert_holds(load("fashion-mnist", download=False), written)


def test_an_unpacked_file_goes_before_its_archive(official_files):
    written = official_files("mnist")
    for path in written.files.values():
        path.with_name(f"{path.name}.gz").write_bytes(b"never read")
    assert_holds(load("mnist", written.data_dir), written)


# Downloading


@pytest.fixture
def fake_torchvision(monkeypatch) -> Callable[[Callable[[Path], None]], None]:
    """Replaces torchvision's datasets by one whose download does what the test says."""

    def install(fetch: Callable[[Path], None]) -> None:
        def dataset(root: str, download: bool) -> None:
            assert download
            fetch(Path(root))

        module = types.ModuleType("torchvision.datasets")
        module.MNIST = module.FashionMNIST = module.CIFAR10 = dataset
        monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, "torchvision.datasets", module)

    return install


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_files_are_downloaded_once_into_the_given_folder(official_files, fake_torchvision, tmp_path, name):
    calls = []
    written = official_files(name, data_dir=tmp_path / "server")

    def fetch(root: Path) -> None:
        calls.append(root)
        shutil.copytree(tmp_path / "server", root, dirs_exist_ok=True)

    fake_torchvision(fetch)
    mine = tmp_path / "mine"
    for _ in range(2):
        assert_holds(load(name, mine), written)
    assert len(calls) == 1
    assert [path.name for path in mine.iterdir()] == [datasets._SOURCES[name].folder.split("/")[0]]


def test_without_a_folder_downloads_go_to_the_cache(no_defaults, official_files, fake_torchvision):
    written = official_files("mnist", data_dir=no_defaults / "server")
    fake_torchvision(lambda root: shutil.copytree(no_defaults / "server", root, dirs_exist_ok=True))
    assert_holds(load("mnist"), written)
    assert (no_defaults / "home/.cache/hybridep/MNIST/raw").is_dir()


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("first\nsecond"), KeyError("mirror"), TimeoutError()])
def test_a_failed_download_is_one_line_and_leaves_nothing(fake_torchvision, tmp_path, capfd, failure):
    def fetch(root: Path) -> None:
        print("Failed to download (trying next):")
        assert socket.getdefaulttimeout() == 30
        (root / "MNIST" / "raw").mkdir(parents=True)
        (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"half")
        raise failure

    fake_torchvision(fetch)
    assert socket.getdefaulttimeout() is None
    message = complaint(lambda: load("mnist", tmp_path / "mine"))
    assert f"download into {tmp_path / 'mine'} failed ({type(failure).__name__}" in message
    assert "looked for train-images-idx3-ubyte" in message and "--data-dir" in message
    assert not (tmp_path / "mine").exists()
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_a_download_that_lacks_files_is_reported(fake_torchvision, tmp_path):
    fake_torchvision(lambda root: (root / "MNIST" / "raw").mkdir(parents=True))
    assert "mnist not found" in complaint(lambda: load("mnist", tmp_path / "mine"))


def test_an_interrupted_download_leaves_no_half_dataset(fake_torchvision, tmp_path):
    def fetch(root: Path) -> None:
        (root / "MNIST" / "raw").mkdir(parents=True)
        (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"half")
        raise KeyboardInterrupt

    fake_torchvision(fetch)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_torchvision_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    message = complaint(lambda: load("mnist", tmp_path / "mine"))
    assert "ModuleNotFoundError" in message and "--data-dir" in message


# Splits


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@given(st.data())
def test_splits_partition_the_first_training_images(digits, data):
    train_samples = data.draw(st.none() | st.integers(1, 1437))
    kept = train_samples or 1437
    validation = data.draw(st.integers(0, kept - 1))
    splits = split(digits, validation, train_samples)
    assert len(splits.validation) == validation
    np.testing.assert_array_equal(np.sort(np.concatenate([splits.train, splits.validation])), np.arange(kept))
    np.testing.assert_array_equal(splits.test, np.arange(360))
    assert splits.train.dtype == splits.validation.dtype == splits.test.dtype == np.int64


def test_the_validation_draw_is_the_same_for_everyone(digits):
    held_out = split(digits, validation=200).validation
    assert hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest()[:16] == "d6a49e03fc97358d"
    assert set(split(digits, validation=100).validation) < set(held_out)
    assert not np.array_equal(held_out, np.arange(200))


def test_all_classes_are_held_out(digits):
    assert np.bincount(digits.train_labels[split(digits, validation=200).validation], minlength=10).min() >= 10


@pytest.mark.parametrize(
    ("validation", "train_samples", "expected"),
    [
        (0, 1438, "train_samples 1438: must be 1 to 1437"),
        (0, 0, "train_samples 0: must be 1 to 1437"),
        (0, -5, "train_samples -5: must be 1 to 1437"),
        (-1, None, "validation -1: must be 0 to 1436"),
        (1437, None, "validation 1437: must be 0 to 1436"),
        (100, 100, "validation 100: must be 0 to 99"),
        (1, 1, "validation 1: must be 0 to 0"),
    ],
)
def test_splits_that_do_not_fit_are_refused(digits, validation, train_samples, expected):
    assert complaint(lambda: split(digits, validation, train_samples)).startswith(expected)


def test_splits_follow_what_was_loaded(official_files):
    dataset = load("mnist", official_files("mnist", train=30, test=7).data_dir)
    splits = split(dataset, validation=10)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 10, 7)
    assert "must be 1 to 30" in complaint(lambda: split(dataset, train_samples=31))


def sorted_by_class(counts, test=(20,) * 4, name="shapes"):
    """A dataset that is not a published one, with these many training images of each class, class after class."""
    train_labels, test_labels = (np.repeat(np.arange(4), each) for each in (counts, test))
    images = np.random.default_rng(0).integers(0, 256, (len(train_labels) + len(test_labels), 1, 4, 4)).astype(np.uint8)
    info = DatasetInfo(name, (1, 4, 4), 4, len(train_labels), len(test_labels), (0.5,), (0.3,))
    return Dataset.from_arrays(info, images[: len(train_labels)], train_labels, images[len(train_labels) :], test_labels)


@given(st.data())
def test_splits_of_data_sorted_by_class_have_every_class_in_proportion(data):
    counts = data.draw(st.lists(st.integers(8, 200), min_size=4, max_size=4))
    kept = data.draw(st.integers(8, sum(counts)))
    validation = data.draw(st.integers(0, kept // 2))
    tested = data.draw(st.integers(1, 80))
    dataset = sorted_by_class(counts)
    splits = split(dataset, validation, kept, tested)
    chosen = np.concatenate([splits.train, splits.validation])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (kept - validation, validation, tested)
    assert len(set(chosen)) == kept
    shares = np.array(counts) / sum(counts)
    # One of each of the four classes comes before all others: that, and rounding, is all that a class may be off by.
    assert np.abs(np.bincount(dataset.train_labels[chosen], minlength=4) - kept * shares).max() <= 2 + 4 * shares.max()
    assert np.bincount(dataset.train_labels[splits.train], minlength=4).min() >= 1
    assert np.ptp(np.bincount(dataset.test_labels[splits.test], minlength=4)) <= 1
    if validation >= 4:
        several = np.bincount(dataset.train_labels[chosen], minlength=4) > 1
        assert np.bincount(dataset.train_labels[splits.validation], minlength=4)[several].min() >= 1


def test_smaller_choices_of_ones_own_data_are_parts_of_larger_ones():
    dataset = sorted_by_class((30, 40, 50, 60))
    small, large = split(dataset, 0, 40, 10), split(dataset, 0, 80, 20)
    assert set(small.train) < set(large.train)
    assert set(small.test) < set(large.test)
    assert set(split(dataset, 20).validation) < set(split(dataset, 40).validation)


def test_the_choice_among_ones_own_images_is_the_same_for_everyone():
    splits = split(sorted_by_class((30, 40, 50, 60)), 20, 100, 30)
    digest = hashlib.sha256(np.concatenate([splits.train, splits.validation, splits.test]).astype("<i8").tobytes()).hexdigest()[:16]
    assert digest == "016d1c63acccbee6"


def test_the_first_test_images_of_ones_own_are_of_all_classes():
    dataset = sorted_by_class((10,) * 4, test=(100,) * 4)
    assert np.bincount(dataset.test_labels[split(dataset).test[:40]]).tolist() == [10] * 4


@pytest.mark.parametrize(
    ("counts", "validation", "train_samples", "missing"),
    [
        ((10, 10, 10, 10), 0, 3, "3 images to train on have none of class "),
        ((10, 10, 10, 10), 37, None, "3 images to train on have none of class "),
        ((10, 0, 10, 0), 0, None, "20 images to train on have none of class 1, 3;"),
    ],
)
def test_a_choice_that_leaves_nothing_of_some_class_is_refused(counts, validation, train_samples, missing):
    message = complaint(lambda: split(sorted_by_class(counts), validation, train_samples))
    assert message.startswith(f"dataset shapes: the {missing}")


def test_files_in_an_official_format_that_are_not_the_published_ones_are_chosen_from_all_classes(tmp_path):
    for part, each in (("train", 30), ("t10k", 5)):
        labels = np.repeat(np.arange(10), each)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((len(labels), 28, 28))))
    dataset = load("mnist", tmp_path)
    assert np.bincount(dataset.train_labels[split(dataset, 0, 100).train]).tolist() == [10] * 10


# A dataset of the user's own


def _own_arrays(count: int = 12) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    images = {f"{part}_images": draw.integers(0, 256, (count, 5, 4), dtype=np.uint8) for part in ("train", "test")}
    return {**images, **{f"{part}_labels": np.arange(count) % 3 for part in ("train", "test")}}


def test_an_npz_file_is_a_dataset_that_configurations_know_by_its_name(tmp_path: Path) -> None:
    from hybridep.config import TrialConfig

    arrays = _own_arrays()
    name = str(tmp_path / "own.npz")
    np.savez_compressed(name, **arrays)
    dataset = datasets.load(name)
    assert dataset.info.shape == (1, 5, 4)
    assert dataset.info.classes == 3
    np.testing.assert_array_equal(dataset.train_images[:, 0], arrays["train_images"])
    pixels = arrays["train_images"] / 255
    assert dataset.info.mean == pytest.approx((pixels.mean(),))
    assert dataset.info.std == pytest.approx((pixels.std(),))
    assert TrialConfig(dataset=name, sizes=(20, 6, 3)).layer_shapes()[0] == (20,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"test_labels": None}, "has no array test_labels"),
        ({"train_images": np.zeros((12, 5))}, "must be numbers"),
        ({"train_images": np.zeros((12, 5, 4), np.uint8)}, "is 0 everywhere, it shows nothing"),
        ({"train_labels": np.zeros(12, int)}, "at least two classes"),
        ({"test_labels": np.full(12, 7)}, "has no training image"),
        ({"train_labels": np.array([None] * 12)}, "plain arrays"),
    ],
)
def test_an_npz_file_that_is_no_dataset_is_told_in_one_line(tmp_path: Path, change: dict[str, np.ndarray | None], told: str) -> None:
    arrays = {name: array for name, array in (_own_arrays() | change).items() if array is not None}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(datasets.DatasetError, match=told) as error:
        datasets.load(str(tmp_path / "own.npz"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_a_damaged_npz_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(datasets.DatasetError, match=r"not a readable \.npz"):
        datasets.load(str(tmp_path / "own.npz"))
