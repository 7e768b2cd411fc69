"""Mixtures: how estimators are drawn and counted, what mixtures of one seed share, and that a restored one continues bit for bit."""

import copy
import io
import json
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridep.config import TrialConfig
from hybridep.draws import DRAWS, GRAINS
from hybridep.estimators import ESTIMATORS
from hybridep.mixture import Mixture, exactly
from hybridep.nudging import Minibatch
from hybridep.streams import STREAMS, stream

EPOCHS, UPDATES = 50, 469
THESIS_SEEDS = (42, 123, 456, 789, 1337)
PROBABILITIES = st.floats(0, 1) | st.sampled_from([0.0, 1.0])


MINIBATCH = Minibatch(4, 0.5)
ONE_PHASE = ("standard", "negative", "random_sign", "alternating", "split_sign")


def mixture(draw="bernoulli", seed=0, cheap="standard", accurate="centered", grain="minibatch"):
    return Mixture(ESTIMATORS.make(cheap), ESTIMATORS.make(accurate), DRAWS.make(draw), grain, seed)


def train(chosen, p):
    """Whether each update was cheap, and the sign of its first row's β."""
    tables = [chosen.nudging(q, MINIBATCH) for q in p]
    return [accurate is None for _, accurate in tables], [int(np.sign(table.beta[0])) for table, _ in tables]


def tables_of(chosen, p):
    """Everything that the tables of these updates hold."""
    found = []
    for q in p:
        table, accurate = chosen.nudging(q, MINIBATCH)
        found += [(t.rows.tolist(), t.beta.tolist(), t.weight.tolist()) for t in (table, accurate) if t is not None]
    return found


def spread(p):
    """Which updates `spread` makes cheap."""
    rule = DRAWS.make("spread")
    return np.array([rule.cheap(float(q), 0.0) for q in p], dtype=bool)


def thesis(family, skew):
    return TrialConfig(family=family, skew=skew).policy.probabilities(EPOCHS, UPDATES)


def expected_nudged_phases(p):
    """Of standard and centered."""
    return 2 * len(p) - math.fsum(p)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("skew", "phases", "run"), [(1, 23_450, 23_450), (0, 46_900, 0)])
def test_standard_and_centered_cost_exactly_their_nudged_phases(draw, skew, phases, run):
    chosen = mixture(draw, seed=42)
    train(chosen, thesis("constant", skew))
    assert (chosen.updates, chosen.nudged_phases, chosen.longest_cheap_run) == (23_450, phases, run)


HYBRIDS = pytest.mark.parametrize(("family", "skew"), [("cosine", 0.5), ("inverse_cosine", 0.5), ("constant", 0.5)])


@HYBRIDS
def test_hybrids_cost_the_midpoint_within_a_percent_on_the_thesis_seeds(family, skew):
    p, phases = thesis(family, skew), []
    for seed in THESIS_SEEDS:
        chosen = mixture(seed=seed)
        train(chosen, p)
        assert chosen.nudged_phases == 2 * chosen.updates - chosen.cheap_updates
        phases.append(chosen.nudged_phases)
    assert np.mean(phases) == pytest.approx(35_175, rel=0.01)
    assert np.max(np.abs(np.array(phases) - expected_nudged_phases(p))) < 4 * math.sqrt(float(np.sum(p * (1 - p))))


@HYBRIDS
def test_hybrid_costs_over_many_seeds_vary_as_independent_draws_do(family, skew):
    # All updates of a seed at once, as `Mixture` draws them: uniform numbers of the stream `draws` against p_std.
    p = thesis(family, skew)
    phases = np.array([2 * len(p) - (stream(seed, "draws").random(len(p)) < p).sum() for seed in range(400)])
    expected, deviation = expected_nudged_phases(p), math.sqrt(float(np.sum(p * (1 - p))))
    assert expected == pytest.approx(35_175, rel=0.01)
    assert phases.mean() == pytest.approx(expected, abs=4 * deviation / math.sqrt(400))
    assert phases.std(ddof=1) == pytest.approx(deviation, rel=0.15)
    # A single seed may miss 1 %: sampled at the starts of epochs, eq. 14 and 15 leave it only 2.2 deviations.
    assert np.mean(abs(phases / 35_175 - 1) < 0.01) > 0.95


def test_a_seed_drawn_all_at_once_is_the_seed_drawn_update_by_update():
    p = thesis("cosine", 0.5)
    assert train(mixture(seed=42), p)[0] == (stream(42, "draws").random(len(p)) < p).tolist()


@pytest.mark.parametrize(("family", "skew"), [("cosine", 0.5), ("inverse_cosine", 0.25), ("constant", 0.1), ("exponential", 0.9)])
def test_spread_costs_the_expected_nudged_phases_to_the_nearest_whole_one(family, skew):
    p, chosen = thesis(family, skew), mixture("spread")
    train(chosen, p)
    assert chosen.nudged_phases == pytest.approx(expected_nudged_phases(p), abs=0.5 + 1e-6)
    assert chosen.longest_cheap_run == max(len(run) for run in "".join("x" if cheap else " " for cheap in spread(p)).split(" "))


@given(st.lists(PROBABILITIES, max_size=200))
def test_spread_follows_the_sum_of_p_at_every_update(p):
    counts = np.cumsum(spread(p))
    sums = np.array([math.fsum(p[: n + 1]) for n in range(len(p))])
    assert np.all(np.abs(counts - sums) <= 0.5 + 1e-9)


@given(st.lists(PROBABILITIES, max_size=30))
def test_spread_is_exact_at_0_and_1_whatever_came_before(p):
    assert not spread([*p, *[0.0] * 5])[len(p) :].any()
    assert spread([*p, *[1.0] * 5])[len(p) :].all()


@pytest.mark.parametrize("p", [0.1, 0.3, 1 / 3, 0.7, 1e-3])
def test_spread_spaces_a_constant_p_as_evenly_as_possible(p):
    fired = np.flatnonzero(spread(np.full(20_000, p)))
    assert len(fired) == round(20_000 * p)
    assert set(np.diff(fired)) <= {math.floor(1 / p), math.ceil(1 / p)}


def test_bernoulli_draws_are_independent_of_one_another():
    cheap = np.array(train(mixture(seed=5), [0.5] * 20_000)[0], dtype=float)
    assert abs(np.corrcoef(cheap[1:], cheap[:-1])[0, 1]) < 4 / math.sqrt(20_000)


@given(st.lists(st.tuples(PROBABILITIES, PROBABILITIES).map(sorted), max_size=60), st.integers(0, 2**40))
def test_mixtures_of_one_seed_share_their_random_numbers(pairs, seed):
    """With common numbers an update that is cheap at p is cheap at every larger p."""
    low, high = (train(mixture(seed=seed), p)[0] for p in zip(*pairs, strict=True)) if pairs else ([], [])
    assert all(high[n] for n in range(len(low)) if low[n])


@given(st.lists(PROBABILITIES, min_size=1, max_size=30), st.integers(0, 2**40))
def test_every_draw_rule_and_p_leaves_the_streams_at_the_same_place(p, seed):
    states = []
    for draw, q in (("bernoulli", p), ("spread", p), ("bernoulli", [0.0] * len(p)), ("spread", [1.0] * len(p))):
        for cheap in ("standard", "random_sign"):
            chosen = mixture(draw, seed, cheap=cheap)
            train(chosen, q)
            states.append(chosen.state_dict()["streams"])
    assert all(state == states[0] for state in states)


def test_signs_do_not_shift_the_draws_and_are_fair():
    p = [0.6] * 4000
    plain, ones = train(mixture(seed=7), p)
    drawn, signs = train(mixture(seed=7, cheap="random_sign"), p)
    assert drawn == plain
    assert set(ones) == {1}
    cheap_signs = [sign for sign, cheap in zip(signs, drawn, strict=True) if cheap]
    assert {sign for sign, cheap in zip(signs, drawn, strict=True) if not cheap} == {1}
    assert set(cheap_signs) == {-1, 1}
    assert abs(sum(cheap_signs)) < 4 * math.sqrt(len(cheap_signs))


def test_a_negative_estimator_is_always_negative():
    assert set(train(mixture(cheap="negative"), [1.0] * 50)[1]) == {-1}


def test_alternating_signs_alternate_over_their_own_uses_whatever_comes_between():
    cheap, signs = train(mixture(seed=3, cheap="alternating"), [0.5] * 200)
    used = [sign for sign, own in zip(signs, cheap, strict=True) if own]
    assert used == [(-1) ** number for number in range(len(used))]
    assert 50 < len(used) < 150


@given(st.lists(PROBABILITIES, min_size=1, max_size=20), st.sampled_from(ONE_PHASE), st.sampled_from(GRAINS), st.integers(0, 2**40))
def test_every_table_is_consistent_and_what_is_accurate_of_it_too(p, cheap, grain, seed):
    chosen = mixture("bernoulli", seed, cheap, "fourth_order", grain)
    for q in p:
        table, accurate = chosen.nudging(q, MINIBATCH)
        assert table.n == MINIBATCH.n
        assert table.sums() == pytest.approx(np.zeros(table.n), abs=1e-12)
        assert table.slopes() == pytest.approx(np.full(table.n, 1 / table.n), rel=1e-12)
        if accurate is not None:
            assert np.array_equal(accurate.rows, table.rows)
            assert accurate.sums() == pytest.approx(np.zeros(table.n), abs=1e-12)
            assert set(accurate.slopes().round(12)) <= {0.0, round(1 / table.n, 12)}


@pytest.mark.parametrize("draw", DRAWS)
@given(st.lists(PROBABILITIES, min_size=1, max_size=30), st.integers(0, 2**40))
def test_drawn_by_sample_the_count_is_that_of_the_rows(draw, p, seed):
    chosen, rows = mixture(draw, seed, grain="sample"), 0
    for q in p:
        rows += len(chosen.nudging(q, MINIBATCH)[0].rows)
    assert chosen.nudged_phases == Fraction(rows, MINIBATCH.n) == 2 * len(p) - chosen.cheap_updates
    if draw == "spread":
        assert abs(float(chosen.cheap_updates) * MINIBATCH.n - MINIBATCH.n * math.fsum(p)) <= 0.5 + 1e-9


def test_a_count_is_reported_as_a_whole_number_where_it_is_one():
    assert [exactly(Fraction(n, 4)) for n in (8, 3, 0)] == [2, 0.75, 0]
    assert [type(exactly(Fraction(n, 4))) for n in (8, 3, 0)] == [int, float, int]


@given(st.lists(PROBABILITIES, max_size=80), st.sampled_from(list(DRAWS)))
def test_counts_are_those_of_the_choices_made(p, draw):
    chosen = mixture(draw, cheap="standard", accurate="fourth_order")
    cheap, _ = train(chosen, p)
    runs = "".join("x" if update else " " for update in cheap).split(" ")
    assert chosen.updates == len(p)
    assert chosen.cheap_updates == sum(cheap)
    assert chosen.nudged_phases == sum(1 if update else 4 for update in cheap)
    assert chosen.cheap_run == len(runs[-1])
    assert chosen.longest_cheap_run == max(len(run) for run in runs)


@settings(deadline=None)
@given(
    st.lists(PROBABILITIES, max_size=40),
    st.lists(PROBABILITIES, max_size=40),
    st.sampled_from(list(DRAWS)),
    st.sampled_from(GRAINS),
    st.sampled_from(ONE_PHASE),
    st.integers(0, 2**40),
)
def test_a_mixture_restored_from_json_continues_bit_for_bit(before, after, draw, grain, cheap, seed):
    whole, cut = mixture(draw, seed, cheap, grain=grain), mixture(draw, seed, cheap, grain=grain)
    tables_of(whole, before)
    tables_of(cut, before)
    # The seed is the trial's, not the state's: of a sample's draws it makes a stream of each update.
    restored = mixture(draw, seed, cheap, grain=grain)
    restored.load_state_dict(json.loads(json.dumps(cut.state_dict())))
    assert tables_of(restored, after) == tables_of(whole, after)
    assert restored.state_dict() == whole.state_dict()


def test_a_state_is_unaffected_by_what_the_mixture_does_next():
    chosen = mixture("spread")
    train(chosen, [0.3] * 10)
    state = chosen.state_dict()
    kept = copy.deepcopy(state)
    train(chosen, [0.3] * 10)
    assert state == kept


@pytest.mark.parametrize("draw", DRAWS)
def test_a_state_passes_through_a_checkpoint_that_may_hold_weights_only(draw):
    chosen = mixture(draw, seed=2**60)
    for q in np.linspace(0, 1, 30):  # NumPy floats must not turn counts into NumPy integers
        chosen.nudging(q, MINIBATCH)
    file = io.BytesIO()
    torch.save(chosen.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == chosen.state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(draw="spread"), "draw 'spread', must be 'bernoulli'"),
        (lambda state: state.update(cheap="negative"), "cheap 'negative'"),
        (lambda state: state.pop("counts"), "damaged"),
        (lambda state: state["counts"].pop("updates"), "damaged"),
        (lambda state: state["counts"].update(updates=[-1, 1]), "integers"),
        (lambda state: state["counts"].update(updates=["3", 1]), "integers"),
        (lambda state: state["counts"].update(nudged_phases=[3, 0]), "damaged"),
        (lambda state: state["memories"].pop("cheap"), "damaged"),
        (lambda state: state["memories"].update(cheap={"next": 1}), "damaged"),
        (lambda state: state.update(carried=0.5), "integers"),
        (lambda state: state["streams"].pop("signs"), "damaged"),
        (lambda state: state["streams"]["draws"].update(bit_generator="MT19937"), "damaged"),
        (lambda state: state["streams"]["draws"]["state"].update(state=-1), "damaged"),
        (lambda state: state["streams"]["draws"].update(state=None), "damaged"),
    ],
)
def test_a_damaged_state_fails_in_one_line_and_changes_nothing(change, message):
    chosen = mixture(seed=3)
    train(chosen, [0.5] * 20)
    before = copy.deepcopy(chosen.state_dict())
    state = copy.deepcopy(mixture(seed=4).state_dict())
    change(state)
    with pytest.raises(ValueError, match=message) as failure:
        chosen.load_state_dict(state)
    assert "\n" not in str(failure.value)
    assert chosen.state_dict() == before


@pytest.mark.parametrize("p", [-0.01, 1.01, math.nan])
def test_p_std_outside_0_to_1_fails(p):
    with pytest.raises(ValueError, match="p_std"):
        mixture().nudging(p, MINIBATCH)


def test_an_unknown_draw_fails():
    with pytest.raises(ValueError, match="draw 'dice': must be one of bernoulli, spread"):
        mixture("dice")


def test_an_unknown_grain_and_one_that_does_not_suit_the_estimators_fail():
    with pytest.raises(ValueError, match="grain 'epoch': draw bernoulli has only minibatch, sample"):
        mixture(grain="epoch")
    with pytest.raises(ValueError, match="grain 'sample': estimator corrected works on whole minibatches"):
        mixture(cheap="corrected", grain="sample")


def test_streams_of_one_seed_differ_from_one_another_and_from_other_seeds():
    numbers = {tuple(stream(seed, name).random(4)) for seed in (0, 1, 2**32, 2**64) for name in STREAMS}
    assert len(numbers) == 4 * len(STREAMS)


def test_streams_are_the_same_in_every_run():
    # Values noted once: a change here changes the result of every seed.
    known = {
        "initialisation": 2090395899,
        "order": 3727611847,
        "augmentation": 1129093539,
        "draws": 386004796,
        "signs": 2259934573,
        "samples": 689655742,
    }
    assert {name: int(stream(42, name).integers(2**32)) for name in STREAMS} == known
    program = "from hybridep.streams import stream; print(stream(7, 'order').random())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout
        for salt in ("1", "2")
    }
    assert seen == {f"{stream(7, 'order').random()}\n"}


def test_streams_fail_on_unknown_names_and_negative_seeds():
    with pytest.raises(ValueError, match="stream 'sings': must be one of"):
        stream(0, "sings")
    with pytest.raises(ValueError, match="seed -1"):
        stream(-1, "signs")


@pytest.mark.parametrize("grain", GRAINS)
def test_tables_of_an_estimator_in_another_precision_are_made_the_trainings_own(monkeypatch, grain):
    """As estimators of one's own may give them, made by NumPy's default."""
    standard = ESTIMATORS["standard"]
    own = standard.nudging
    monkeypatch.setattr(standard, "nudging", lambda self, *given: own(self, *given).in_dtype(np.float64))
    for _ in range(3):
        table, _ = mixture(grain=grain).nudging(0.5, Minibatch(4, 0.5, dtype=np.float32))
        assert {array.dtype for array in (table.beta, table.weight, table.free_weight) if array is not None} == {np.dtype(np.float32)}


def test_an_estimator_that_refines_need_not_say_so(monkeypatch):
    assert not mixture().refines
    monkeypatch.setattr(ESTIMATORS["standard"], "refine", lambda self, gradient: [2 * part for part in gradient])
    chosen = mixture()
    assert chosen.refines
    chosen.nudging(1.0, MINIBATCH)
    assert chosen.refine([torch.ones(1)])[0].item() == 2
