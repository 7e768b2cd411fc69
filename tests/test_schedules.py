"""Schedules: the thesis's equations, the mean that every family promises, bad parameters, and the longest cheap run."""

import itertools
import json
import math
import pickle
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybridep.schedules import FAMILIES, Schedule, _Runs, expected_nudged_phases, longest_cheap_run, make_schedule

SKEWS = st.floats(0, 1) | st.sampled_from([0.0, 1e-9, 0.25, 0.5, 0.75, 1 - 1e-9, 1.0])
WITH_DIRECTION = ("linear", "step", "exponential", "cyclic_cosine")
PROBABILITIES = st.floats(0, 1) | st.sampled_from([0.0, 1.0])


@st.composite
def knots(draw):
    progress = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True)))
    return tuple((place / 100, draw(PROBABILITIES)) for place in progress)


@st.composite
def schedules(draw):
    family = draw(st.sampled_from(list(FAMILIES)))
    return make_schedule(
        family,
        draw(SKEWS),
        rising=draw(st.none() | st.booleans()) if family in WITH_DIRECTION else None,
        cycles=draw(st.none() | st.integers(1, 7)) if family == "cyclic_cosine" else None,
        knots=draw(knots()) if family == "piecewise" else None,
    )


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
            total += (right - left) / 2 * sum(w * schedule.p_std(float(t)) for w, t in zip(weights, places, strict=True))
    return total


@settings(deadline=None, max_examples=150)
@given(schedules())
def test_every_family_meets_its_skew(schedule):
    assert schedule.mean == schedule.skew
    assert quadrature(schedule) == pytest.approx(schedule.skew, abs=1e-9)


@settings(deadline=None)
@given(knots())
def test_knots_without_a_skew_are_taken_as_they_are(pairs):
    schedule = make_schedule("piecewise", None, knots=pairs)
    for progress, p in pairs:
        if progress < 1:
            assert schedule.p_std(progress) == pytest.approx(p, abs=1e-15)
    assert quadrature(schedule) == pytest.approx(schedule.mean, abs=1e-9)


@given(schedules(), st.floats(0, 1, exclude_max=True))
def test_p_std_is_a_probability(schedule, progress):
    assert 0 <= schedule.p_std(progress) <= 1


@pytest.mark.parametrize("epochs", [1, 3, 15, 50, 128])
def test_cosine_and_inverse_cosine_at_half_are_equations_14_and_15_bit_for_bit(epochs):
    cosine, inverse = make_schedule("cosine", 0.5), make_schedule("inverse_cosine", 0.5)
    for epoch in range(epochs):
        progress = epoch / epochs
        assert cosine.p_std(progress) == 0.5 * (1 + math.cos(math.pi * progress))
        assert inverse.p_std(progress) == 0.5 * (1 - math.cos(math.pi * progress))


@given(SKEWS, st.floats(0.001, 0.999))
def test_inverse_cosine_is_the_cosine_of_the_same_skew_run_backwards(skew, progress):
    backwards = make_schedule("cosine", skew).p_std(1 - progress)
    assert make_schedule("inverse_cosine", skew).p_std(progress) == pytest.approx(backwards, abs=1e-9)


@pytest.mark.parametrize("family", WITH_DIRECTION)
@given(skew=SKEWS, progress=st.floats(0.001, 0.999))
def test_rising_is_falling_run_backwards(family, skew, progress):
    falling, rising = make_schedule(family, skew, rising=False), make_schedule(family, skew, rising=True)
    if family == "step" and abs(1 - progress - skew) < 1e-9:
        return  # on the switch itself either value is right
    if family == "cyclic_cosine" and abs(4 * progress - round(4 * progress)) < 1e-2:
        return  # and on a restart; near one the exponent of an extreme skew amplifies rounding
    assert rising.p_std(progress) == pytest.approx(falling.p_std(1 - progress), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("skew", [0, 1])
def test_skew_0_and_1_are_the_constants_0_and_1(family, skew):
    schedule = make_schedule(family, skew, knots=((0.2, 0.9), (0.6, 0.1)) if family == "piecewise" else None)
    assert set(schedule.probabilities(40, 1)) == {float(skew)}


@pytest.mark.parametrize("epochs", [4, 10, 15, 50, 120])
@pytest.mark.parametrize("rising", [False, True])
def test_a_step_that_falls_between_epochs_is_cheap_for_exactly_its_share_of_them(epochs, rising):
    for cheap in range(epochs + 1):
        p = make_schedule("step", cheap / epochs, rising=rising).probabilities(epochs, 1)
        assert p.sum() == cheap
        assert list(p) == sorted(p, reverse=not rising)


@pytest.mark.parametrize("cycles", [1, 3, 7, 49])
def test_every_warm_restart_begins_at_the_top_where_it_falls_on_an_update(cycles):
    p = make_schedule("cyclic_cosine", 0.5, cycles=cycles).probabilities(cycles * 6, 1, per="update")
    assert np.all(p[::6] == 1)
    assert p == pytest.approx(np.tile(p[:6], cycles), abs=1e-12)


@settings(deadline=None)
@given(schedules(), st.integers(1, 20))
def test_the_average_over_epochs_is_the_skew_however_few_they_are(schedule, epochs):
    # But for the thesis's own cosines, which are read at the starts of epochs.
    assume(schedule.family not in ("cosine", "inverse_cosine"))
    assert schedule.probabilities(epochs, 3).mean() == pytest.approx(schedule.mean, abs=6e-3)


def test_more_cycles_than_epochs_can_show_are_the_constant():
    for rising in (False, True):
        p = make_schedule("cyclic_cosine", 0.3, cycles=8, rising=rising).probabilities(8, 1)
        assert p == pytest.approx(np.full(8, 0.3), abs=2e-3)


def test_linear_at_half_falls_from_1_to_0_and_at_other_skews_touches_one_end():
    assert make_schedule("linear", 0.5).p_std(0.0) == 1
    assert make_schedule("linear", 0.25).probabilities(4, 1) == pytest.approx([0.4375, 0.3125, 0.1875, 0.0625])
    assert make_schedule("linear", 0.75, rising=True).probabilities(4, 1) == pytest.approx([0.5625, 0.6875, 0.8125, 0.9375])


def test_a_falling_exponential_begins_at_1_and_a_quarter_of_skew_has_the_known_rate():
    schedule = make_schedule("exponential", 0.25)
    assert schedule.p_std(0.0) == 1
    assert -math.log(schedule.p_std(0.5)) / 0.5 == pytest.approx(3.9206903, rel=1e-7)  # root of (1 - exp(-k)) / k = 1/4


def test_knots_shift_by_a_constant_until_they_clip():
    schedule = make_schedule("piecewise", 0.5, knots=((0.0, 0.2), (1.0, 0.4)))
    assert [schedule.p_std(t) for t in (0.0, 0.5)] == pytest.approx([0.4, 0.5])
    clipped = make_schedule("piecewise", 0.75, knots=((0.0, 0.0), (1.0, 1.0)))
    shift = 1 - math.sqrt(0.5)  # the c at which 1 - (1 - c)²/2, the mean of t + c cut at 1, is 3/4
    assert [clipped.p_std(t) for t in (0.0, 0.5, 0.9)] == pytest.approx([shift, 0.5 + shift, 1.0])


def test_probabilities_are_constant_within_an_epoch_or_not_as_asked():
    schedule = make_schedule("linear", 0.5)
    assert schedule.probabilities(2, 3) == pytest.approx([0.75, 0.75, 0.75, 0.25, 0.25, 0.25])
    assert schedule.probabilities(2, 2, per="update").tolist() == [1, 0.75, 0.5, 0.25]


@settings(deadline=None, max_examples=30)
@given(schedules())
def test_the_average_over_many_updates_approaches_the_skew(schedule):
    assert schedule.probabilities(20, 50, per="update").mean() == pytest.approx(schedule.mean, abs=0.02)


@given(schedules())
def test_schedules_survive_pickling_and_are_equal_by_value(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert copy.p_std(0.3) == schedule.p_std(0.3)


def test_knots_from_json_are_the_same_schedule():
    pairs = ((0.0, 1.0), (0.5, 0.25))
    assert make_schedule("piecewise", 0.5, knots=json.loads(json.dumps(pairs))) == make_schedule("piecewise", 0.5, knots=pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "cosin", "skew": 0.5}, "family 'cosin': must be one of constant, cosine, inverse_cosine, linear"),
        ({"family": "cosine", "skew": 1.1}, r"skew 1.1: must lie in \[0, 1\]"),
        ({"family": "cosine", "skew": -1e-9}, "skew -1e-09"),
        ({"family": "cosine", "skew": math.nan}, "skew nan"),
        ({"family": "cosine"}, "skew None"),
        ({"family": "piecewise", "skew": 2, "knots": ((0, 1), (1, 0))}, "skew 2"),
        ({"family": "cosine", "skew": 0.5, "cycles": 3}, "cycles 3: family cosine takes only skew"),
        ({"family": "constant", "skew": 0.5, "rising": False}, "rising False: family constant takes only skew"),
        ({"family": "inverse_cosine", "skew": 0.5, "rising": True}, "rising True"),
        ({"family": "step", "skew": 0.5, "knots": ((0, 1), (1, 0))}, "knots .*: family step takes only skew, rising"),
        ({"family": "cyclic_cosine", "skew": 0.5, "cycles": 0}, "cycles 0: must be at least 1"),
        ({"family": "piecewise", "skew": 0.5}, "knots None: must be given for family piecewise"),
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
    with pytest.raises(ValueError, match=message) as failure:
        make_schedule(**arguments)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("progress", [-0.1, 1.0, math.nan])
def test_progress_outside_training_fails(progress):
    with pytest.raises(ValueError, match="progress"):
        make_schedule("cosine", 0.5).p_std(progress)


def test_probabilities_need_epochs_updates_and_a_known_grain():
    schedule = make_schedule("cosine", 0.5)
    for arguments in ((0, 1), (1, 0), (1, 1, "minibatch")):
        with pytest.raises(ValueError, match=r"epochs|per"):
            schedule.probabilities(*arguments)


def test_a_new_family_is_added_in_one_place():
    @dataclass(frozen=True)
    class Parabola(Schedule, family="parabola"):
        def curve(self, progress):
            return self.mean * 3 * progress**2

    try:
        assert make_schedule("parabola", 0.3).p_std(0.5) == pytest.approx(0.225)
        with pytest.raises(ValueError, match="family parabola takes only skew"):
            make_schedule("parabola", 0.3, cycles=2)
    finally:
        del FAMILIES["parabola"]


def test_expected_nudged_phases_of_the_thesis_protocol():
    def phases(family, skew, per="epoch"):
        return expected_nudged_phases(make_schedule(family, skew).probabilities(50, 469, per), 1, 2)

    assert phases("constant", 1) == 23_450
    assert phases("constant", 0) == 46_900
    assert phases("constant", 0.5) == 35_175
    # Sampled at the starts of epochs, eq. 14 averages 0.51 and eq. 15 0.49; within 1 % of the midpoint all the same.
    assert phases("cosine", 0.5) == pytest.approx(46_900 - 0.51 * 23_450)
    assert phases("inverse_cosine", 0.5) == pytest.approx(46_900 - 0.49 * 23_450)
    assert phases("cosine", 0.5, "update") == pytest.approx(35_175, abs=1)


def longest(cheap):
    return max((len(list(run)) for value, run in itertools.groupby(cheap) if value), default=0)


@settings(deadline=None)
@given(st.lists(PROBABILITIES, max_size=8))
def test_longest_cheap_run_is_the_mean_over_every_outcome(p):
    total = 0.0
    for outcome in itertools.product([False, True], repeat=len(p)):
        total += longest(outcome) * math.prod(q if cheap else 1 - q for q, cheap in zip(p, outcome, strict=True))
    assert longest_cheap_run(p) == pytest.approx(total, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(schedules(), st.sampled_from(["epoch", "update"]))
def test_longest_cheap_run_leaves_out_no_more_than_it_says(schedule, per):
    p = schedule.probabilities(12, 60, per)
    every_term = math.fsum(_Runs(p).occurs(k) for k in range(1, len(p) + 1))
    assert longest_cheap_run(p) == pytest.approx(every_term, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("family", ["constant", "cosine", "cyclic_cosine"])
def test_longest_cheap_run_agrees_with_simulated_draws(family):
    p = make_schedule(family, 0.6).probabilities(10, 100)
    cheap = np.random.default_rng(1).random((3000, len(p))) < p
    misses = np.pad(~cheap, ((0, 0), (1, 1)), constant_values=True)
    runs = np.array([np.diff(np.flatnonzero(row)).max() - 1 for row in misses])
    assert longest_cheap_run(p) == pytest.approx(runs.mean(), abs=4 * runs.std() / math.sqrt(len(runs)))


def test_longest_cheap_run_of_certain_stretches_is_exact():
    assert longest_cheap_run(np.ones(23_450)) == 23_450
    assert longest_cheap_run(np.zeros(23_450)) == 0
    assert longest_cheap_run(make_schedule("step", 0.5).probabilities(50, 469)) == 11_725
    assert longest_cheap_run([1, 1, 0, 1, 1, 1, 0]) == 3
    assert longest_cheap_run([]) == 0


def test_longest_cheap_run_orders_the_thesis_strategies_as_section_5_does():
    standard, cosine, stochastic, centered = (
        longest_cheap_run(make_schedule(*schedule).probabilities(50, 469))
        for schedule in (("constant", 1), ("cosine", 0.5), ("constant", 0.5), ("constant", 0))
    )
    assert standard == 23_450
    assert 900 < cosine < 1100
    assert 13 < stochastic < 15  # about log2 of the number of updates
    assert centered == 0


@pytest.mark.parametrize("schedule", [("constant", 0.05), ("constant", 0.5), ("cosine", 0.5), ("exponential", 0.25), ("linear", 0.9999)])
def test_longest_cheap_run_of_the_thesis_protocol_takes_well_under_a_second(schedule):
    p = make_schedule(*schedule).probabilities(50, 469, "update")
    start = time.process_time()
    longest_cheap_run(p)
    assert time.process_time() - start < 1.0


@given(st.lists(PROBABILITIES, max_size=40))
def test_spread_never_bunches_more_than_p_asks_for(p):
    run = longest_cheap_run(p, "spread")
    assert run == int(run)
    if p and max(p) <= 0.5:
        assert run <= 1


def test_spread_run_of_a_constant_is_the_gap_between_its_accurate_updates():
    assert longest_cheap_run([0.9] * 100, "spread") == 9
    assert longest_cheap_run([0.5] * 100, "spread") == 1


@pytest.mark.parametrize("bad", [[0.5, 1.5], [-0.1], [math.nan], 0.5])
def test_longest_cheap_run_takes_probabilities_only(bad):
    with pytest.raises(ValueError, match="probabilities"):
        longest_cheap_run(bad)


def test_longest_cheap_run_knows_its_draws():
    with pytest.raises(ValueError, match="draw 'dice': must be one of bernoulli, spread"):
        longest_cheap_run([0.5], "dice")
