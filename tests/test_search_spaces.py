"""Search spaces: what they may draw, what lies in them, and what they refuse."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial

from hybridep.config import SLOTS, InvalidInput, TrialConfig
from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.registry import REGISTRIES, Entry
from hybridep.schedules import KNOTS, Schedule
from search_spaces import SPACES, Limits, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)
DIGITS = PROTOCOLS["digits"]
# All but the one whose estimators are both of one phase.
WITH_CENTERED = [name for name in SPACES if name != "cheap"]
FIELDS = {name for slot in SLOTS.values() for name in (slot.key, *slot.known())} | set(TrialConfig.model_fields)
ENTRIES = {f"{registry.kind} {name}": entry for registry in REGISTRIES for name, entry in registry.items() if issubclass(entry, Entry)}


def drawn(space: Space, seed: int) -> tuple[dict[str, object], dict[str, object]]:
    """A strategy that the space gives, and the parameters that it was asked for."""
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    trial = study.ask()
    return space(trial), trial.params


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_drawn_strategy_is_valid_under_every_protocol(name: str, seed: int) -> None:
    for protocol in PROTOCOLS.values():
        strategy, _ = drawn(Space.named(name, Limits.around(protocol)), seed)
        protocol.replace(**strategy)


@pytest.mark.parametrize("name", WITH_CENTERED)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_thesis_strategies_lie_in_every_space_that_has_centered(name: str, protocol: str) -> None:
    space = Space.named(name, Limits.around(PROTOCOLS[protocol]))
    for strategy in STRATEGIES.values():
        point = space.point(PROTOCOLS[protocol], strategy)
        assert point is not None
        assert PROTOCOLS[protocol].replace(**space(FixedTrial(point))) == PROTOCOLS[protocol].replace(**strategy)


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_drawn_strategy_is_found_again_at_its_parameters(name: str, seed: int) -> None:
    space = Space.named(name, Limits.around(DIGITS))
    strategy, parameters = drawn(space, seed)
    if strategy["family"] != "piecewise":  # its knots are asked for one by one, under names that no field has
        assert space.point(DIGITS, strategy) == parameters


def test_parameters_are_named_after_the_fields_that_they_set() -> None:
    knots = {f"knot_{number}" for number in range(KNOTS)}
    seen = set()
    for name in SPACES:
        for seed in range(50):
            strategy, parameters = drawn(Space.named(name, Limits.around(DIGITS)), seed)
            assert set(strategy) <= FIELDS
            assert set(parameters) <= FIELDS | knots
            seen |= set(parameters)
    assert {"skew", "threshold", "limit", "cycles", "beta", "cheap_part", "cheap_memory", "accurate_of", "grain", *knots} <= seen


@pytest.mark.parametrize("name", ENTRIES)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_searched_of_an_entry_are_fields_of_it_in_their_ranges(name: str, seed: int) -> None:
    entry = ENTRIES[name]
    found = entry.suggest(optuna.create_study(sampler=RandomSampler(seed=seed)).ask())
    assert set(found) <= set(entry.model_fields)
    entry.create(**found)
    if issubclass(entry, Schedule):
        assert set(found) == set(entry.model_fields) - {"skew"}


@given(seed=st.integers(0, 2**32 - 1))
def test_limits_are_kept(seed: int) -> None:
    limits = Limits.around(DIGITS, families=("cosine", "linear"), skew=(0.3, 0.4), beta=(0.1, 0.2))
    strategy, _ = drawn(Space.named("schedule+nudge", limits), seed)
    assert strategy["family"] in ("cosine", "linear")
    assert 0.3 <= strategy["skew"] <= 0.4
    assert 0.1 <= strategy["beta"] <= 0.2


def test_where_free_phases_start_is_searched_with_relaxation_unless_images_are_augmented() -> None:
    def starts(protocol: TrialConfig) -> set[object]:
        space = Space.named("schedule+nudge+relaxation", Limits.around(protocol))
        return {protocol.replace(**drawn(space, seed)[0]).start for seed in range(30)}

    assert starts(DIGITS) == {"zeros", "last"}
    assert starts(PROTOCOLS["cifar10"]) == {"zeros"}


def test_a_strategy_outside_the_limits_has_no_point() -> None:
    space = Space.named("schedule", Limits.around(DIGITS, skew=(0.2, 0.6)))
    assert space.point(DIGITS, STRATEGIES["standard"]) is None
    assert space.point(DIGITS, STRATEGIES["cosine"]) is not None
    assert Space.named("schedule", Limits.around(DIGITS, families=("cosine",))).point(DIGITS, STRATEGIES["stochastic"]) is None


def test_a_strategy_with_what_the_space_does_not_set_has_no_point() -> None:
    space = Space.named("schedule", Limits.around(DIGITS))
    assert space.point(DIGITS, {**STRATEGIES["standard"], "cheap": "random_sign"}) is None
    assert Space.named("estimators", Limits.around(DIGITS)).point(DIGITS, {**STRATEGIES["standard"], "cheap": "random_sign"}) is not None


def test_the_cheap_estimator_is_the_one_with_fewer_phases() -> None:
    for seed in range(30):
        strategy, _ = drawn(Space.named("estimators", Limits.around(DIGITS)), seed)
        config = DIGITS.replace(**strategy)
        assert config.cheap.nudged_phases <= 1 < config.accurate.nudged_phases


def test_no_update_of_the_cheap_space_takes_more_than_one_phase() -> None:
    for seed in range(30):
        strategy, _ = drawn(Space.named("cheap", Limits.around(DIGITS)), seed)
        config = DIGITS.replace(**strategy)
        assert max(config.cheap.nudged_phases, config.accurate.nudged_phases) <= 1


def test_a_grid_covers_its_limits_evenly() -> None:
    limits = Limits.around(DIGITS, families=("constant",), skew=(0.0, 1.0), beta=(0.1, 1.6))
    grid = Space.named("schedule+nudge", limits).grid((3, 5))
    assert len(grid) == 15
    assert sorted({strategy["skew"] for strategy in grid}) == [0, 0.5, 1]
    assert sorted({strategy["beta"] for strategy in grid}) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert all(DIGITS.replace(**strategy) for strategy in grid)


def test_a_grid_over_a_space_without_beta_is_one_of_skews() -> None:
    grid = Space.named("schedule", Limits.around(DIGITS, families=("constant", "cosine"))).grid((4, 9))
    assert len(grid) == 8
    assert all(set(strategy) == {"family", "skew"} for strategy in grid)


def test_a_policy_without_a_skew_has_no_grid() -> None:
    space = Space.named("schedule", Limits.around(DIGITS, families=("constant", "residual")))
    with pytest.raises(InvalidInput, match=r"^families residual: [^\n]*no skew[^\n]*$"):
        space.grid((3, 1))


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"families": ("constant", "cosin")}, "families 'cosin'"),
        ({"families": ("cosine", "cosine")}, "families cosine cosine"),
        ({"skew": (0.0, 1.1)}, "skew_range 0.0 1.1"),
        ({"skew": (-0.1, 1.0)}, "skew_range -0.1 1.0"),
        ({"skew": (0.6, 0.4)}, "skew_range 0.6 0.4"),
        ({"skew": (float("nan"), 1.0)}, "skew_range nan 1.0"),
        ({"beta": (0.0, 1.0)}, "beta_range 0.0 1.0"),
        ({"beta": (0.5, 0.4)}, "beta_range 0.5 0.4"),
        ({"beta": (0.5, float("inf"))}, "beta_range 0.5 inf"),
    ],
)
def test_limits_that_make_no_sense_are_refused_in_one_line(limits: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{named}: must [^\n]*$"):
        Limits.around(DIGITS, **limits)


def test_an_unknown_space_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidInput, match=r"^space 'nudge': must be one of signs, [^\n]*$"):
        Space.named("nudge", Limits.around(DIGITS))
