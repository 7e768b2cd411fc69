"""Schedules: the thesis's equations, the mean that every family promises, and bad parameters."""

import itertools
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybridep.policies import FAMILIES
from hybridep.schedules import Schedule

SCHEDULES = tuple(name for name, family in FAMILIES.items() if issubclass(family, Schedule))

SKEWS = st.floats(0, 1) | st.sampled_from([0.0, 1e-9, 0.25, 0.5, 0.75, 1 - 1e-9, 1.0])
WITH_DIRECTION = ("linear", "step", "exponential", "cyclic_cosine")
PROBABILITIES = st.floats(0, 1) | st.sampled_from([0.0, 1.0])


@st.composite
def knots(draw):
    progress = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True)))
    return tuple((place / 100, draw(PROBABILITIES)) for place in progress)


@st.composite
def schedules(draw):
    family = draw(st.sampled_from(SCHEDULES))
    fields = {"skew": draw(SKEWS)}
    if family in WITH_DIRECTION:
        fields["rising"] = draw(st.booleans())
    if family == "cyclic_cosine":
        fields["cycles"] = draw(st.integers(1, 7))
    if family == "piecewise":
        fields["knots"] = draw(knots())
    return FAMILIES.make(family, **fields)


def corners(schedule):
    """Progress at which p_std may jump or bend."""
    places = {0.0, 1.0, schedule.mean, 1 - schedule.mean}
    places |= {cycle / getattr(schedule, "cycles", 1) for cycle in range(getattr(schedule, "cycles", 1))}
    given_knots = getattr(schedule, "knots", ())
    places |= {place for place, _ in given_knots}
    for (start, low), (end, high) in itertools.pairwise(given_knots):
        for bound in (0, 1):
            if low != high and 0 < (cut := (bound - schedule.shift - low) / (high - low)) < 1:
                places.add(start + cut * (end - start))
    return sorted(places)


def quadrature(schedule):
    """Mean of p_std by Gauss-Legendre on panels that halve towards every corner, where extreme skews have all their change."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    fractions = 0.5 ** np.arange(46.0, 0, -1)
    grid = np.concatenate(([0.0], fractions, 1 - fractions[-2::-1], [1.0]))
    total = 0.0
    for low, high in itertools.pairwise(corners(schedule)):
        edges = low + (high - low) * grid
        for left, right in itertools.pairwise(edges):
            places = np.clip((left + right) / 2 + (right - left) / 2 * nodes, 0, np.nextafter(1, 0))
            total += (right - left) / 2 * sum(w * schedule.at(float(t)) for w, t in zip(weights, places, strict=True))
    return total


@settings(deadline=None, max_examples=150)
@given(schedules())
def test_every_family_meets_its_skew(schedule):
    assert schedule.mean == schedule.skew
    assert quadrature(schedule) == pytest.approx(schedule.skew, abs=1e-9)


@settings(deadline=None)
@given(knots())
def test_knots_without_a_skew_are_taken_as_they_are(pairs):
    schedule = FAMILIES.make("piecewise", skew=None, knots=pairs)
    for progress, p in pairs:
        if progress < 1:
            assert schedule.at(progress) == pytest.approx(p, abs=1e-15)
    assert quadrature(schedule) == pytest.approx(schedule.mean, abs=1e-9)


@given(schedules(), st.floats(0, 1, exclude_max=True))
def test_p_std_is_a_probability(schedule, progress):
    assert 0 <= schedule.at(progress) <= 1


@pytest.mark.parametrize("epochs", [1, 3, 15, 50, 128])
def test_cosine_and_inverse_cosine_at_half_are_equations_14_and_15_bit_for_bit(epochs):
    cosine, inverse = FAMILIES.make("cosine", skew=0.5), FAMILIES.make("inverse_cosine", skew=0.5)
    for epoch in range(epochs):
        progress = epoch / epochs
        assert cosine.at(progress) == 0.5 * (1 + math.cos(math.pi * progress))
        assert inverse.at(progress) == 0.5 * (1 - math.cos(math.pi * progress))


@given(SKEWS, st.floats(0.001, 0.999))
def test_inverse_cosine_is_the_cosine_of_the_same_skew_run_backwards(skew, progress):
    backwards = FAMILIES.make("cosine", skew=skew).at(1 - progress)
    assert FAMILIES.make("inverse_cosine", skew=skew).at(progress) == pytest.approx(backwards, abs=1e-9)


@pytest.mark.parametrize("family", WITH_DIRECTION)
@given(skew=SKEWS, progress=st.floats(0.001, 0.999))
def test_rising_is_falling_run_backwards(family, skew, progress):
    falling, rising = FAMILIES.make(family, skew=skew, rising=False), FAMILIES.make(family, skew=skew, rising=True)
    if family == "step" and abs(1 - progress - skew) < 1e-9:
        return  # on the switch itself either value is right
    if family == "cyclic_cosine" and abs(4 * progress - round(4 * progress)) < 1e-2:
        return  # and on a restart; near one the exponent of an extreme skew amplifies rounding
    assert rising.at(progress) == pytest.approx(falling.at(1 - progress), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("family", SCHEDULES)
@pytest.mark.parametrize("skew", [0, 1])
def test_skew_0_and_1_are_the_constants_0_and_1(family, skew):
    own = {"knots": ((0.2, 0.9), (0.6, 0.1))} if family == "piecewise" else {}
    schedule = FAMILIES.make(family, skew=skew, **own)
    assert set(schedule.probabilities(40, 1)) == {float(skew)}


@pytest.mark.parametrize("epochs", [4, 10, 15, 50, 120])
@pytest.mark.parametrize("rising", [False, True])
def test_a_step_that_falls_between_epochs_is_cheap_for_exactly_its_share_of_them(epochs, rising):
    for cheap in range(epochs + 1):
        p = FAMILIES.make("step", skew=cheap / epochs, rising=rising).probabilities(epochs, 1)
        assert p.sum() == cheap
        assert list(p) == sorted(p, reverse=not rising)


@pytest.mark.parametrize("cycles", [1, 3, 7, 49])
def test_every_warm_restart_begins_at_the_top_where_it_falls_on_an_update(cycles):
    p = FAMILIES.make("cyclic_cosine", skew=0.5, cycles=cycles).probabilities(cycles * 6, 1, per="update")
    assert np.all(p[::6] == 1)
    assert p == pytest.approx(np.tile(p[:6], cycles), abs=1e-12)


@settings(deadline=None)
@given(schedules(), st.integers(1, 20))
def test_the_average_over_epochs_is_the_skew_however_few_they_are(schedule, epochs):
    # But for the thesis's own cosines, which are read at the starts of epochs.
    assume(schedule.name not in ("cosine", "inverse_cosine"))
    assert schedule.probabilities(epochs, 3).mean() == pytest.approx(schedule.mean, abs=6e-3)


def test_more_cycles_than_epochs_can_show_are_the_constant():
    for rising in (False, True):
        p = FAMILIES.make("cyclic_cosine", skew=0.3, cycles=8, rising=rising).probabilities(8, 1)
        assert p == pytest.approx(np.full(8, 0.3), abs=2e-3)


def test_linear_at_half_falls_from_1_to_0_and_at_other_skews_touches_one_end():
    assert FAMILIES.make("linear", skew=0.5).at(0.0) == 1
    assert FAMILIES.make("linear", skew=0.25).probabilities(4, 1) == pytest.approx([0.4375, 0.3125, 0.1875, 0.0625])
    assert FAMILIES.make("linear", skew=0.75, rising=True).probabilities(4, 1) == pytest.approx([0.5625, 0.6875, 0.8125, 0.9375])


def test_a_falling_exponential_begins_at_1_and_a_quarter_of_skew_has_the_known_rate():
    schedule = FAMILIES.make("exponential", skew=0.25)
    assert schedule.at(0.0) == 1
    assert -math.log(schedule.at(0.5)) / 0.5 == pytest.approx(3.9206903, rel=1e-7)  # root of (1 - exp(-k)) / k = 1/4


def test_knots_shift_by_a_constant_until_they_clip():
    schedule = FAMILIES.make("piecewise", skew=0.5, knots=((0.0, 0.2), (1.0, 0.4)))
    assert [schedule.at(t) for t in (0.0, 0.5)] == pytest.approx([0.4, 0.5])
    clipped = FAMILIES.make("piecewise", skew=0.75, knots=((0.0, 0.0), (1.0, 1.0)))
    shift = 1 - math.sqrt(0.5)  # the c at which 1 - (1 - c)²/2, the mean of t + c cut at 1, is 3/4
    assert [clipped.at(t) for t in (0.0, 0.5, 0.9)] == pytest.approx([shift, 0.5 + shift, 1.0])


def test_probabilities_are_constant_within_an_epoch_or_not_as_asked():
    schedule = FAMILIES.make("linear", skew=0.5)
    assert schedule.probabilities(2, 3) == pytest.approx([0.75, 0.75, 0.75, 0.25, 0.25, 0.25])
    assert schedule.probabilities(2, 2, per="update").tolist() == [1, 0.75, 0.5, 0.25]


@settings(deadline=None, max_examples=30)
@given(schedules())
def test_the_average_over_many_updates_approaches_the_skew(schedule):
    assert schedule.probabilities(20, 50, per="update").mean() == pytest.approx(schedule.mean, abs=0.02)


@given(schedules())
def test_schedules_survive_pickling_and_are_equal_by_value(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    copy.begin(3, 2, "epoch")  # what it was asked for is no part of what it is
    assert copy == schedule == copy.fresh()
    assert copy.describe() == schedule.describe()
    assert hash(copy) == hash(schedule)
    assert copy.at(0.3) == schedule.at(0.3)


def test_knots_from_json_are_the_same_schedule():
    pairs = ((0.0, 1.0), (0.5, 0.25))
    assert FAMILIES.make("piecewise", skew=0.5, knots=json.loads(json.dumps(pairs))) == FAMILIES.make("piecewise", skew=0.5, knots=pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "cosin", "skew": 0.5}, "family 'cosin': must be one of constant, cosine, inverse_cosine, linear"),
        ({"family": "cosine", "skew": 1.1}, "skew 1.1: Input should be less than or equal to 1"),
        ({"family": "cosine", "skew": -1e-9}, "skew -1e-09"),
        ({"family": "cosine", "skew": math.nan}, "skew nan"),
        ({"family": "cosine", "skew": None}, "skew None"),
        ({"family": "piecewise", "skew": 2, "knots": ((0, 1), (1, 0))}, "skew 2"),
        ({"family": "cosine", "skew": 0.5, "cycles": 3}, "cycles 3: family cosine takes only skew"),
        ({"family": "constant", "skew": 0.5, "rising": False}, "rising False: family constant takes only skew"),
        ({"family": "inverse_cosine", "skew": 0.5, "rising": True}, "rising True"),
        ({"family": "step", "skew": 0.5, "knots": ((0, 1), (1, 0))}, "knots .*: family step takes only skew, rising"),
        ({"family": "cyclic_cosine", "skew": 0.5, "cycles": 0}, "cycles 0: Input should be greater than or equal to 1"),
        ({"family": "piecewise", "skew": 0.5}, "knots: must be given for family piecewise"),
        ({"family": "piecewise", "knots": ((0.5, 0.5),)}, "knots .*two or more"),
        ({"family": "piecewise", "knots": ((0, 0.5), (0, 0.6))}, "strictly increasing"),
        ({"family": "piecewise", "knots": ((0.5, 0.5), (0.2, 0.6))}, "strictly increasing"),
        ({"family": "piecewise", "knots": ((0, 0.5), (1.1, 0.6))}, "knots"),
        ({"family": "piecewise", "knots": ((0, 0.5), (1, -0.1))}, "knots"),
        ({"family": "piecewise", "knots": ((0, math.nan), (1, 0.1))}, "knots"),
        ({"family": "piecewise", "knots": ((0, 0.5, 1), (1, 0.1, 1))}, "knots"),
        ({"family": "piecewise", "knots": (0.5, 0.6)}, "knots"),
    ],
)
def test_bad_parameters_fail_in_one_line(arguments, message):
    family, fields = arguments["family"], {name: value for name, value in arguments.items() if name != "family"}
    with pytest.raises(ValueError, match=message) as failure:
        FAMILIES.make(family, **fields)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("progress", [-0.1, 1.0, math.nan])
def test_progress_outside_training_fails(progress):
    with pytest.raises(ValueError, match="progress"):
        FAMILIES.make("cosine", skew=0.5).at(progress)


def test_probabilities_need_epochs_updates_and_a_known_grain():
    schedule = FAMILIES.make("cosine", skew=0.5)
    for arguments in ((0, 1), (1, 0), (1, 1, "minibatch")):
        with pytest.raises(ValueError, match=r"epochs|per"):
            schedule.probabilities(*arguments)


def test_a_new_family_is_added_in_one_place():
    known = dict(FAMILIES)

    class Parabola(Schedule, name="parabola"):
        def curve(self, progress):
            return self.mean * 3 * progress**2

    try:
        assert FAMILIES.make("parabola", skew=0.3).at(0.5) == pytest.approx(0.225)
        with pytest.raises(ValueError, match="family parabola takes only skew"):
            FAMILIES.make("parabola", skew=0.3, cycles=2)
    finally:
        FAMILIES.restore(known)


def test_cheap_updates_to_expect_are_those_of_the_thesis_protocol():
    def cheap(family, skew, per="epoch", after=0):
        schedule = FAMILIES.make(family, skew=skew)
        schedule.begin(50, 469, per)
        assert schedule.p_std(0) == schedule.at(0)
        return schedule.expected(after)

    assert cheap("constant", 1) == 23_450
    assert cheap("constant", 0) == 0
    assert cheap("constant", 0.5) == 11_725
    # Sampled at the starts of epochs, eq. 14 averages 0.51 and eq. 15 0.49; within 1 % of the midpoint all the same.
    assert cheap("cosine", 0.5) == pytest.approx(0.51 * 23_450)
    assert cheap("inverse_cosine", 0.5) == pytest.approx(0.49 * 23_450)
    assert cheap("cosine", 0.5, "update") == pytest.approx(11_725, abs=1)
    assert cheap("step", 0.5, after=20 * 469) == 5 * 469
    assert cheap("step", 0.5, after=30 * 469) == 0
