"""The verdict of collapse: from predictions alone, and by a test that a good network passes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridep.collapse import STANDARD_ERRORS, collapsed


def with_right(classes: int, each: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions for as many images of each class, of which so many are right, in turn of each class, and labels."""
    labels = np.tile(np.arange(classes), each)
    predicted = (labels + 1) % classes
    predicted[:right] = labels[:right]
    return predicted, labels


@pytest.mark.parametrize(("classes", "each"), [(10, 36), (10, 1000), (2, 50), (5, 6)])
def test_with_as_many_images_of_each_class_it_is_an_accuracy_within_two_standard_errors_of_guessing(classes: int, each: int) -> None:
    n = classes * each
    bound = 1 / classes + STANDARD_ERRORS * math.sqrt(1 / classes * (1 - 1 / classes) / n)
    below = math.floor(bound * n)
    assert collapsed(*with_right(classes, each, below))
    assert not collapsed(*with_right(classes, each, below + 1))
    assert collapsed(*with_right(classes, each, 0))
    assert not collapsed(*with_right(classes, each, n))


@pytest.mark.parametrize("rare", [1, 3, 10, 50])
def test_a_test_set_of_nearly_one_class_is_judged_by_both_classes(rare: int) -> None:
    labels = np.repeat([0, 1], [100 - rare, rare])
    assert not collapsed(labels, labels)
    assert collapsed(np.zeros(100, int), labels)
    # As many are named 1 as there are, but not those that are.
    if rare > 5:
        assert collapsed(np.roll(labels, rare), labels)


def test_always_naming_the_commonest_class_is_a_collapse_however_accurate() -> None:
    assert collapsed(np.zeros(10_000, int), np.repeat([0, 1], [9_990, 10]))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 1], [0, 1]])
def test_a_few_images_that_are_all_named_rightly_are_no_collapse(labels: list[int]) -> None:
    assert not collapsed(np.array(labels), np.array(labels))
    assert collapsed(np.full(len(labels), 1), np.array(labels))


def test_images_of_one_class_tell_nothing() -> None:
    assert not collapsed(np.zeros(50, int), np.zeros(50, int))
    assert not collapsed(np.ones(50, int), np.zeros(50, int))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_perfect_predictions_never_collapse_and_one_answer_always_does(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = np.array(pairs).T
    assert not collapsed(labels, labels)
    several = len(set(labels.tolist())) > 1
    assert collapsed(np.full(len(labels), predicted[0]), labels) is several
    assert isinstance(collapsed(predicted, labels), bool)


def test_guesses_are_told_as_collapse_in_all_but_a_few_of_a_thousand_networks() -> None:
    draw = np.random.default_rng(0)
    for counts in ([100] * 10, [500, 300, 150, 50], [20] * 3):
        labels = np.repeat(np.arange(len(counts)), counts)
        told = [collapsed(draw.integers(0, len(counts), len(labels)), labels) for _ in range(1000)]
        assert np.mean(told) > 0.95
