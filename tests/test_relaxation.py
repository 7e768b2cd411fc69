"""Relaxation policies: what each sample gets, what is reported of it, and that steps and sweeps seek the same equilibria."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridep.networks import MLP, ConvNet, Dynamics, LayeredNetwork
from hybridep.phases import estimate
from hybridep.relaxation import Adaptive, FixedSteps
from hybridep.streams import stream
from tests.oracle import furthest, rows, table

EXAMPLES = settings(max_examples=60, deadline=None)
FLOAT64 = torch.empty(0, dtype=torch.float64)


class Approach(Dynamics):
    """Samples of one unit that do not know of each other: each nears 1 by a factor of its own, s ← rate · s + (1 − rate).

    A rate of −1 swings for ever, NaN is a sample that is lost. `swept` has the number of samples that each sweep moved.
    """

    def __init__(self, rates: list[float]) -> None:
        self.all_rates = torch.tensor(rates, dtype=torch.float64)
        self.swept: list[int] = []
        self.restart([torch.zeros(len(rates), 1, dtype=torch.float64)])

    def restart(self, state: list[Tensor]) -> None:
        self.rates, self.state, self.previous = self.all_rates, state, state[0]

    def step(self) -> None:
        self.sweep()

    def sweep(self, factor: float = 1.0) -> None:
        self.previous = self.state[0]
        target = self.rates[:, None] * self.previous + (1 - self.rates[:, None])
        self.state = [self.previous + factor * (target - self.previous)]
        self.swept.append(len(self.previous))

    def change(self) -> Tensor:
        return (self.state[0] - self.previous).abs().amax(dim=1)

    def keep(self, rows: Tensor) -> None:
        self.rates, self.state, self.previous = self.rates[rows], [self.state[0][rows]], self.previous[rows]


def alone(rate: float, policy: Adaptive, limit: int) -> tuple[list[float], list[float]]:
    """States and changes of one sample after 0, 1, …, limit sweeps."""
    states, changes = [0.0], [math.inf]
    for sweep in range(1, limit + 1):
        factor = 1.0 if sweep <= policy.plain_sweeps else policy.over_relaxation
        states.append(states[-1] + factor * (rate * states[-1] + (1 - rate) - states[-1]))
        changes.append(abs(states[-1] - states[-2]))
    return states, changes


RATES = st.lists(st.floats(0, 0.95) | st.sampled_from([0.0, -1.0, 0.5, math.nan]), min_size=1, max_size=70)


# Fixed steps


@pytest.mark.parametrize("phase", ["free", "nudged"])
def test_fixed_steps_takes_its_steps_whatever_they_reach(phase):
    dynamics = Approach([0.0, 0.5, 0.9, -1.0, math.nan])
    equilibrium = getattr(FixedSteps(T1=7, T2=3, tolerance=0.2), phase)(dynamics)
    steps = {"free": 7, "nudged": 3}[phase]
    assert dynamics.swept == [5] * steps
    assert equilibrium.steps.tolist() == [steps] * 5
    states, changes = zip(*(alone(rate, Adaptive(1, 1, 1, over_relaxation=1.0), steps) for rate in dynamics.rates.tolist()), strict=True)
    torch.testing.assert_close(equilibrium.state[0][:, 0], torch.tensor([s[-1] for s in states]).double(), equal_nan=True)
    torch.testing.assert_close(equilibrium.residual, torch.tensor([c[-1] for c in changes]).double(), equal_nan=True)
    assert equilibrium.converged.tolist() == [c[-1] < 0.2 for c in changes]


# Adaptive, on samples whose course is known


@EXAMPLES
@given(
    RATES,
    st.integers(1, 40),
    st.sampled_from([1e-1, 1e-3, 1e-6]),
    st.integers(1, 3),
    st.sampled_from([1.0, 1.25]),
    st.sampled_from(["free", "nudged"]),
)
def test_adaptive_reports_of_each_sample_what_happened_to_it(rates, limit, tolerance, check_every, over_relaxation, phase):
    limits = {"T1": limit, "T2": 1000} if phase == "free" else {"T1": 1000, "T2": limit}
    policy = Adaptive(tolerance, over_relaxation=over_relaxation, check_every=check_every, **limits)
    dynamics = Approach(rates)
    equilibrium = getattr(policy, phase)(dynamics)
    steps = [int(step) for step in equilibrium.steps.tolist()]
    assert sum(dynamics.swept) == sum(steps)
    looks = [sweep for sweep in range(1, limit + 1) if sweep % check_every == 0 or sweep == limit]
    grain = max(1, len(rates) // 32)
    courses = [alone(rate, policy, limit) for rate in rates]
    for number, ((states, changes), step) in enumerate(zip(courses, steps, strict=True)):
        assert step in looks
        assert float(equilibrium.state[0][number]) == pytest.approx(states[step], abs=1e-12, nan_ok=True)
        assert float(equilibrium.residual[number]) == pytest.approx(changes[step], abs=1e-12, nan_ok=True)
        assert bool(equilibrium.converged[number]) == bool(equilibrium.residual[number] < tolerance)
        # It is let go before the limit only where it has converged.
        assert step == limit or bool(equilibrium.converged[number])
    for look in looks[:-1]:
        going_on = [changes for (_, changes), step in zip(courses, steps, strict=True) if step > look]
        idle = sum(changes[look] < tolerance for changes in going_on)
        # Less than a sixteenth of the batch is swept along although it has converged.
        assert idle < grain or all(abs(changes[look] - tolerance) < 1e-12 for changes in going_on)


def test_a_lost_or_swinging_sample_ends_at_the_limit_and_the_others_do_not_wait_for_it():
    for lost in (math.nan, -1.0):
        dynamics = Approach([0.1] * 40 + [lost] + [0.1] * 39)
        equilibrium = Adaptive(1e-3, T1=1000, T2=5, over_relaxation=1.0).free(dynamics)
        assert equilibrium.steps[40] == 1000
        assert not equilibrium.converged[40]
        assert equilibrium.converged.sum() == 79
        # Those few that share its sixteenth of the batch are swept along with it.
        assert (equilibrium.steps == 4).sum() >= 75


def test_a_batch_that_is_lost_as_a_whole_ends_at_the_limit():
    equilibrium = Adaptive(1e-3, T1=50, T2=5).free(Approach([math.nan] * 33))
    assert equilibrium.steps.tolist() == [50] * 33
    assert not equilibrium.converged.any()
    assert equilibrium.residual.isnan().all()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_limits_hold_from_the_first_sweep(limit):
    dynamics = Approach([0.9] * 20)
    equilibrium = Adaptive(1e-9, T1=100, T2=limit).nudged(dynamics)
    assert dynamics.swept == [20] * limit
    assert equilibrium.steps.tolist() == [limit] * 20
    assert not equilibrium.converged.any()


@EXAMPLES
@example([0.9], 1, 1e-2)  # settled within ten tolerances, and not within one
@given(st.lists(st.floats(0, 0.9), min_size=1, max_size=70), st.integers(1, 60), st.sampled_from([1e-2, 1e-4]))
def test_where_layers_choose_steps_come_first_and_the_limit_holds_for_both_together(rates, limit, tolerance):
    dynamics = Approach(rates)
    dynamics.chooses = True
    taken: list[int] = []
    dynamics.step = lambda: (taken.append(len(dynamics.state[0])), Approach.step(dynamics))  # type: ignore[method-assign,func-returns-value]
    policy = Adaptive(tolerance, T1=limit, T2=5, over_relaxation=1.0, check_every=1)
    equilibrium = policy.free(dynamics)
    assert taken and dynamics.swept[: len(taken)] == taken
    assert sum(dynamics.swept) == equilibrium.steps.sum()
    assert equilibrium.steps.max() <= limit
    for number, rate in enumerate(rates):
        states, _ = alone(rate, policy, limit)
        assert float(equilibrium.state[0][number]) == pytest.approx(states[int(equilibrium.steps[number])], abs=1e-12)
    assert equilibrium.converged.tolist() == (equilibrium.residual < tolerance).tolist()


# Both policies, on networks


class Case:
    """A network, a batch and the two kinds of phase."""

    def __init__(self, kind="mlp", cost="mse", n=24, seed=0, gain=0.5, like=FLOAT64, activation=None):
        generator = stream(seed, "initialisation")
        if kind == "mlp":
            image: tuple[int, ...] = (1, 4, 5)
            self.network: LayeredNetwork = MLP((20, 12, 9, 8, 4), activation or "tanh", cost, gain, generator, like)
        else:
            image = (2, 9, 8)
            shapes = [image, (3, 4, 4), (4, 2, 2), (6,), (4,)]
            self.network = ConvNet(shapes, 3, 1, 1, "max", activation or "sigmoid", cost, gain, generator, like)
        self.x = torch.from_numpy(generator.normal(size=(n, *image))).to(like)
        self.target = torch.nn.functional.one_hot(torch.from_numpy(generator.integers(0, 4, size=n)), 4).to(like)

    def free(self, relaxation, selected=slice(None), at_rest=True):
        drive = self.network.input_drive(self.x[selected])
        return relaxation.free(self.network.bind(drive, self.network.zeros(drive), at_rest=at_rest))

    def nudged(self, relaxation, free, beta, selected=slice(None)):
        drive, target = self.network.input_drive(self.x[selected]), self.target[selected]
        betas = drive.new_full((len(drive),), beta)
        return relaxation.nudged(self.network.bind(drive, rows(free.state, selected), target, betas, at_rest=True))

    def bind(self, state, beta):
        drive = self.network.input_drive(self.x)
        if beta is None:
            return self.network.bind(drive, state)
        return self.network.bind(drive, state, self.target, drive.new_full((len(drive),), beta))


KINDS = pytest.mark.parametrize("kind", ["mlp", "conv"])
COSTS = pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
ACTIVATIONS = {
    "mlp": ("tanh", "sigmoid", "hard_sigmoid", "unit_hard_sigmoid", "centered_hard_sigmoid"),
    # Not below 0: there, a state lowers Φ through the very position that max-pooling chose to raise it, and may swing for ever.
    "conv": ("sigmoid", "hard_sigmoid", "unit_hard_sigmoid"),
}
CASES = st.sampled_from(sorted(ACTIVATIONS)).flatmap(
    lambda kind: st.builds(
        Case,
        kind=st.just(kind),
        cost=st.sampled_from(["mse", "cross_entropy"]),
        n=st.integers(1, 5),
        seed=st.integers(0, 2**32),
        activation=st.sampled_from(ACTIVATIONS[kind]),
    )
)


@settings(max_examples=20, deadline=None)
@given(CASES, st.sampled_from([None, 0.5, -0.5]), st.sampled_from([1.0, 1.25]))
def test_steps_and_sweeps_have_the_same_fixed_points(case, beta, over_relaxation):
    start = case.free(FixedSteps(1, 1)).state
    by_steps = FixedSteps(300, 300, tolerance=1e-13).free(case.bind(start, beta))
    by_sweeps = Adaptive(1e-13, 300, 300, over_relaxation=over_relaxation).free(case.bind(start, beta))
    for equilibrium, moves in ((by_steps, ("sweep",)), (by_sweeps, ("step", "sweep"))):
        for move in moves:
            dynamics = case.bind(equilibrium.state, beta)
            dynamics.step() if move == "step" else dynamics.sweep(over_relaxation)
            assert torch.all(dynamics.change() < 1e-11)
    assert by_steps.converged.all()
    assert by_sweeps.converged.all()


@KINDS
@COSTS
def test_adaptive_reaches_the_equilibrium_of_many_steps(kind, cost):
    case = Case(kind, cost)
    exact = case.free(FixedSteps(500, 500, tolerance=1e-13))
    tight = case.free(Adaptive(1e-9, 500, 500))
    assert exact.converged.all()
    assert tight.converged.all()
    assert furthest(exact.state, tight.state) < 1e-8


def test_sweeps_take_half_the_updates_of_steps_and_over_relaxed_ones_half_of_those_where_layers_are_strongly_coupled():
    case = Case("mlp", gain=1.0)
    dynamics = case.bind(case.network.zeros(case.network.input_drive(case.x)), None)
    needed = torch.zeros(len(case.x))
    for step in range(1, 500):
        dynamics.step()
        needed[dynamics.change() >= 1e-9] = step + 1
    plain = case.free(Adaptive(1e-9, 500, 500, over_relaxation=1.0)).steps.mean()
    over_relaxed = case.free(Adaptive(1e-9, 500, 500)).steps.mean()
    # Measured: 138, 64 and 34.
    assert plain < 0.55 * needed.mean()
    assert over_relaxed < 0.6 * plain


@KINDS
@COSTS
@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
def test_a_samples_result_does_not_depend_on_who_shares_its_batch(kind, cost, tolerance):
    case = Case(kind, cost, n=24)
    relaxation = Adaptive(tolerance, 500, 500)
    together = case.free(relaxation)
    nudged = case.nudged(relaxation, together, 0.5)
    assert together.converged.all()
    for sample in range(0, 24, 5):
        selected = torch.tensor([sample])
        # Each ends within a few tolerances of its equilibrium, wherever in its neighbourhood it is let go.
        single = case.free(relaxation, selected)
        assert furthest(rows(together.state, selected), single.state) < 10 * tolerance
        single_nudged = case.nudged(relaxation, together, 0.5, selected)
        assert furthest(rows(nudged.state, selected), single_nudged.state) < 10 * tolerance


@KINDS
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("policy", ["fixed", "adaptive"])
def test_a_sample_that_is_not_finite_neither_hangs_nor_touches_the_others(kind, bad, policy):
    case = Case(kind, n=40)
    case.x[7] = bad
    healthy = torch.tensor([sample for sample in range(40) if sample != 7])
    relaxation = FixedSteps(60, 60) if policy == "fixed" else Adaptive(1e-9, 60, 60)
    equilibrium, without = case.free(relaxation), case.free(relaxation, healthy)
    nudged = case.nudged(relaxation, equilibrium, 0.5)
    assert furthest(rows(equilibrium.state, healthy), without.state) < 1e-8
    assert all(bool(block[healthy].isfinite().all()) for block in nudged.state)
    if math.isnan(bad):
        assert equilibrium.steps[7] == 60
        assert not equilibrium.converged[7]
        assert nudged.steps[7] == 60


@KINDS
@COSTS
@pytest.mark.parametrize("estimator", ["standard", "centered", "second_order"])
def test_gradients_of_both_policies_agree_at_convergence(kind, cost, estimator):
    case = Case(kind, cost)
    drive = case.network.input_drive(case.x)
    gradients = []
    for relaxation in (FixedSteps(500, 500), Adaptive(1e-11, 500, 500)):
        free = case.free(relaxation)
        gradients.append(estimate(case.network, relaxation, table(estimator, len(case.x), 0.3), case.x, drive, free, case.target)[0])
    for one, other in zip(*gradients, strict=True):
        # A state that is a tolerance off leaves that ÷ β in the gradient.
        assert float((one - other).abs().max()) < 10 * 1e-11 / 0.3


@KINDS
def test_single_precision_converges_to_a_tolerance_above_its_rounding(kind):
    single = Case(kind, like=torch.empty(0, dtype=torch.float32))
    double = Case(kind)
    found, exact = single.free(Adaptive(1e-5, 500, 500)), double.free(Adaptive(1e-12, 500, 500))
    assert found.converged.all()
    assert furthest([block.double() for block in found.state], exact.state) < 1e-4


@pytest.mark.parametrize("beta", [0.3, 0.85, 1.5])
def test_strong_nudges_converge_in_sweeps_though_synchronous_steps_swing(beta):
    generator = stream(0, "initialisation")
    network = MLP((20, 16, 10), "tanh", "mse", 0.5, generator, torch.empty(0, dtype=torch.float64))
    x = torch.from_numpy(generator.normal(size=(12, 20)))
    target = torch.eye(10, dtype=torch.float64)[torch.arange(12) % 10]
    drive, betas = network.input_drive(x), torch.full((12,), beta, dtype=torch.float64)
    free = Adaptive(1e-12, 500, 500).free(network.bind(drive, network.zeros(drive), at_rest=True))
    nudged = Adaptive(1e-10, 500, 500).nudged(network.bind(drive, free.state, target, betas, at_rest=True))
    assert nudged.converged.all()
    # It is an equilibrium of the nudged dynamics, and where synchronous steps swing they do so around it.
    dynamics = network.bind(drive, nudged.state, target, betas)
    dynamics.step()
    assert dynamics.change().max() < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_a_max_pooling_network_comes_to_rest_where_the_thesis_steps_lead(seed):
    generator = stream(seed, "initialisation")
    network = ConvNet([(1, 12, 12), (6, 6, 6), (8, 3, 3), (4,)], 3, 1, 1, "max", "hard_sigmoid", "mse", 2.0, generator, FLOAT64)
    drive = network.input_drive(torch.from_numpy(2 * generator.random((32, 1, 12, 12))))
    policy = Adaptive(1e-8, T1=2000, T2=20)

    def elsewhere(equilibrium):
        distances = [(a - b).abs().flatten(1).amax(dim=1) for a, b in zip(equilibrium.state, rest.state, strict=True)]
        return int((torch.stack(distances).amax(dim=0) > 1e-4).sum())

    def start():
        return network.bind(drive, network.zeros(drive), at_rest=True)

    rest = FixedSteps(2000, 1, tolerance=1e-10).free(start())
    assert rest.converged.all()
    adaptive = policy.free(start())
    assert adaptive.converged.all()
    assert adaptive.steps.mean() < 100
    assert elsewhere(adaptive) == 0
    # Sweeps from zero would be faster, to other pooling choices: without that there were nothing to take care of.
    assert elsewhere(policy._until(policy._sweeps(2000, True), start())) > 3
