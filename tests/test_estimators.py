"""Stencils: what can be constructed, what it costs, and the order of its bias on functions whose Taylor series is known."""

from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from math import factorial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hybridep.estimators import ESTIMATORS, Stencil, stencil

FRACTIONS = st.fractions(min_value=-4, max_value=4, max_denominator=6)


@st.composite
def stencils(draw):
    """Any consistent stencil: all but two coefficients are free, the last two follow from Σc = 0 and Σcb = 1."""
    nudges = draw(st.lists(FRACTIONS, min_size=2, max_size=5, unique=True))
    free = draw(st.lists(FRACTIONS.filter(bool), min_size=len(nudges) - 2, max_size=len(nudges) - 2))
    missing, slope = -sum(free), 1 - sum(c * b for c, b in zip(free, nudges, strict=False))
    last = (slope - missing * nudges[-2]) / (nudges[-1] - nudges[-2])
    coefficients = (*free, missing - last, last)
    assume(all(coefficients))
    return Stencil("any", tuple(nudges), coefficients)


def exponential(beta):
    """G(β) = e^β to 30 terms: every derivative at 0 is 1, so that no order of the bias can vanish by itself."""
    return sum(beta**n / Fraction(factorial(n)) for n in range(30))


def bias(estimator, beta, sign, function=exponential):
    """ĝ - G'(0) of one update, in exact arithmetic, for a function with G'(0) = 1."""
    nudge = sign * beta
    return sum(c * function(b * nudge) for b, c in zip(estimator.nudges, estimator.coefficients, strict=True)) / nudge - 1


def leading(measure):
    """(power, factor) of the leading term of a function of β, from its values at two small β."""
    beta = Fraction(1, 10**12)
    ratio = measure(2 * beta) / measure(beta)
    power = round(float(ratio)).bit_length() - 1
    return power, float(measure(beta) / beta**power)


@pytest.mark.parametrize(
    ("name", "nudged_phases", "bias_order", "order"),
    [
        ("standard", 1, 1, 1),
        ("negative", 1, 1, 1),
        ("random_sign", 1, 1, 2),
        ("alternating", 1, 1, 2),
        ("split_sign", 1, 1, 2),
        ("centered", 2, 2, 2),
        ("second_order", 2, 2, 2),
        ("fourth_order", 4, 4, 4),
    ],
)
def test_named_stencils_have_the_cost_and_bias_order_that_theory_gives_them(name, nudged_phases, bias_order, order):
    estimator = ESTIMATORS.make(name)
    assert (estimator.nudged_phases, estimator.order) == (nudged_phases, order)
    assert (stencil(name).nudged_phases, stencil(name).bias_order) == (nudged_phases, bias_order)


def test_centered_bias_is_a_sixth_of_the_third_derivative():
    assert stencil("centered").moment(3) == Fraction(1, 6)
    assert stencil("standard").moment(2) == Fraction(1, 2)


@pytest.mark.parametrize("sign", [1, -1])
@given(stencils())
def test_bias_of_one_update_begins_at_the_bias_order_with_the_moment_as_its_factor(sign, estimator):
    power, factor = leading(lambda beta: bias(estimator, beta, sign))
    assert power == estimator.bias_order
    assert factor == pytest.approx(sign**power * float(estimator.moment(power + 1)), rel=1e-6)


@given(stencils())
def test_bias_averaged_over_both_signs_begins_at_the_averaged_bias_order(estimator):
    power, factor = leading(lambda beta: (bias(estimator, beta, 1) + bias(estimator, beta, -1)) / 2)
    assert power == estimator.averaged_bias_order
    assert factor == pytest.approx(float(estimator.moment(power + 1)), rel=1e-6)


@given(stencils(), st.integers(1, 5).map(lambda n: Fraction(1, 10) ** n))
def test_stencils_are_exact_on_polynomials_below_their_bias_order(estimator, beta):
    def polynomial(nudge):
        return sum(nudge**n for n in range(estimator.bias_order + 1))

    assert bias(estimator, beta, 1, polynomial) == 0


@given(stencils())
def test_a_phase_is_counted_unless_it_is_the_free_one(estimator):
    assert estimator.nudged_phases == len(estimator.nudges) - (0 in estimator.nudges)


@given(stencils(), FRACTIONS.filter(bool), st.data())
def test_a_stencil_with_one_coefficient_off_cannot_be_constructed(estimator, error, data):
    place = data.draw(st.integers(0, len(estimator.nudges) - 1))
    coefficients = list(estimator.coefficients)
    coefficients[place] += error
    with pytest.raises(ValueError, match="any"):
        replace(estimator, coefficients=tuple(coefficients))


@given(stencils(), FRACTIONS.filter(bool))
def test_a_stencil_whose_slope_is_not_one_cannot_be_constructed(estimator, scale):
    assume(scale != 1)
    with pytest.raises(ValueError, match="must be 1"):
        replace(estimator, coefficients=tuple(c * scale for c in estimator.coefficients))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 1), (-1, 2)), "coefficients sum to 1, must be 0"),
        (((0, 1), (-2, 2)), "Σ c·b is 2, must be 1"),
        (((0, 1), (-1, 1, 0)), "2 nudges but 3 coefficients"),
        (((1, 1, 0), (1, 0, -1)), "not distinct"),
        (((0, 1, 2), (-1, 1, 0)), "coefficient is 0"),
        (((), ()), "must be 1"),
    ],
)
def test_inconsistent_stencils_fail_in_one_line_that_names_the_estimator(arguments, message):
    with pytest.raises(ValueError, match=message) as failure:
        Stencil("wrong", *arguments)
    assert "wrong" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_constructed_stencil_cannot_be_made_inconsistent():
    with pytest.raises(FrozenInstanceError):
        stencil("centered").coefficients = (1, 1)


def test_whole_numbers_and_fractions_give_the_same_stencil():
    assert Stencil("same", (0, 1), (-1, 1)) == Stencil("same", (Fraction(0), Fraction(1)), (Fraction(-1), Fraction(1)))
    assert all(isinstance(number, Fraction) for number in (*stencil("standard").nudges, *stencil("standard").coefficients))


def test_what_is_more_than_a_stencil_has_none():
    for name in ("part", "best"):
        with pytest.raises(ValueError, match=f"estimator '?{name}"):
            stencil(name)
