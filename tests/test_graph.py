"""Networks as graphs: dynamics and gradients of random ones equal autograd on Φ or the energy; their chains are MLP and ConvNet."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DatasetInfo, load
from hybridep.estimators import stencil
from hybridep.graphs import Graph
from hybridep.networks import make_network
from hybridep.networks.graph import colouring
from hybridep.phases import estimate
from hybridep.relaxation import Adaptive, FixedSteps
from hybridep.streams import stream
from hybridep.trainer import Trainer
from tests.oracle import ACTIVATIONS, POOLS, STENCILS, assert_kept_move_as_alone, assert_same_gradient, furthest, rows, table, units

EXAMPLES = settings(max_examples=60, deadline=None)
FLOAT64 = torch.empty(0, dtype=torch.float64)
NUDGES = st.sampled_from([0.05, 0.35, -0.1])
# What puts the pre-activations inside the straight part of each activation: equal units would tie in pooling.
CENTRES = {"tanh": 0.0, "sigmoid": 0.0, "hard_sigmoid": 1.0, "unit_hard_sigmoid": 0.5, "centered_hard_sigmoid": 0.0}
# Within the bounds of the states, which the energy is defined on, these are straight; clamp's own derivative on the very bound is 0.
STRAIGHT = {"hard_sigmoid": lambda s: s / 2, "unit_hard_sigmoid": lambda s: s, "centered_hard_sigmoid": lambda s: s}


class Case:
    """A graph on a batch of small images, and its energy, written out here once more, for autograd."""

    def __init__(self, n=3, seed=0, image=(1, 8, 8), **fields):
        self.architecture = Graph.create(**fields)
        info = DatasetInfo("own", image, self.architecture.sizes[-1], 10, 10, (0.0,) * image[0], (1.0,) * image[0])
        generator = stream(seed, "initialisation")
        self.wiring = self.architecture.wiring(info)
        self.network = self.architecture.make(info, generator, FLOAT64)
        activation = self.architecture.activation
        for bias in self.network.parameters[1::2]:
            bias += CENTRES[activation]
        self.network.refresh()
        self.parameters = [parameter.detach().clone().requires_grad_() for parameter in self.network.parameters]
        self.activation = ACTIVATIONS[activation]
        self.energetic, self.step_size = self.architecture.dynamics == "energy", self.architecture.step_size
        self.names = [name for name in self.wiring.shapes if name != "x"]
        self.readout = self.architecture.cost == "cross_entropy"
        if self.readout:
            self.names.remove("y")
        self.x = torch.from_numpy(generator.normal(size=(n, *image)))
        labels = torch.from_numpy(generator.integers(0, info.classes, size=n))
        self.target = F.one_hot(labels, info.classes).double()
        self.drive = self.network.input_drive(self.x)
        self.low, self.high = self.network.lowest, self.network.highest
        inside = 0.05 * (self.high - self.low)
        self.state = [
            torch.from_numpy(generator.uniform(self.low + inside, self.high - inside, size=tuple(layer.shape))) for layer in self.zeros()
        ]

    def __repr__(self):
        return f"Case of {self.architecture!r}"

    def zeros(self) -> list[Tensor]:
        return self.network.zeros(self.drive)

    def bind(self, state, beta=None, at_rest=False):
        betas = None if beta is None else self.drive.new_full((len(self.x),), beta)
        return self.network.bind(self.drive, state, None if beta is None else self.target, betas, at_rest=at_rest)

    def pooled(self, felt):
        """For each convolution, what it makes before and after pooling."""
        for number, edge in enumerate(self.wiring.edges):
            if edge.kernel is not None:
                z = F.conv2d(felt[edge.below], self.parameters[2 * number], stride=edge.kernel.stride, padding=edge.kernel.padding)
                yield number, edge, z, POOLS[edge.kernel.pooling](z)

    def phi(self, layers, target=None, beta=0.0):
        """Φ − βℓ, or −E − βℓ, [n]."""
        felt = {"x": self.x, **dict(zip(self.names, layers, strict=True))}
        if self.energetic:
            felt |= {name: STRAIGHT.get(self.architecture.activation, self.activation)(felt[name]) for name in self.names}
        total = torch.zeros(len(self.x), dtype=torch.float64)
        convolved = {number: drive for number, _, _, drive in self.pooled(felt)}
        biased = set()
        for number, edge in enumerate(self.wiring.edges):
            weight, bias = self.parameters[2 * number : 2 * number + 2]
            if edge.above not in self.names:
                continue
            above = felt[edge.above]
            if edge.lateral:
                pairs = torch.triu(torch.ones_like(weight), diagonal=1) * weight
                total = total + torch.einsum("ni,ij,nj->n", above, pairs, above)
                continue
            drive = convolved[number] if edge.kernel else units(felt[edge.below]) @ weight.T
            if edge.above not in biased:
                drive = drive + bias.view(1, -1, *[1] * (drive.dim() - 2))
            biased.add(edge.above)
            total = total + (drive * above).flatten(1).sum(dim=1)
        if self.energetic:
            total = total - 0.5 * sum((s**2).flatten(1).sum(dim=1) for s in layers)
        return total if target is None else total - beta * self.loss(layers)

    def loss(self, layers):
        if not self.readout:
            return 0.5 * ((layers[-1] - self.target) ** 2).sum(dim=1)
        weight, bias = self.parameters[-2:]
        return -(self.target * torch.log_softmax(units(layers[-1]) @ weight.T + bias, dim=1)).sum(dim=1)

    def slopes(self, layers, beta):
        leaves = [layer.detach().clone().requires_grad_() for layer in layers]
        return torch.autograd.grad(self.phi(leaves, self.target, beta).sum(), leaves)

    def step(self, layers, beta=0.0):
        """All layers at once."""
        slopes = self.slopes(layers, beta)
        if self.energetic:
            return [torch.clamp(s + self.step_size * slope, self.low, self.high) for s, slope in zip(layers, slopes, strict=True)]
        return [self.activation(slope) for slope in slopes]

    def relax(self, layers, beta, steps):
        for _ in range(steps):
            layers = self.step(layers, beta)
        return list(layers)

    def estimate(self, estimator, beta, free, T2):
        """ĝ of a stencil, and for each parameter the size of the terms that cancel."""
        total = [torch.zeros_like(parameter) for parameter in self.parameters]
        size = [0.0] * len(total)
        for b, c in zip(estimator.nudges, estimator.coefficients, strict=True):
            nudge = float(b) * beta
            state = self.relax(free, nudge, T2) if b else free
            objective = self.phi([layer.detach() for layer in state], self.target, nudge).mean()
            slopes = torch.autograd.grad(objective, self.parameters, materialize_grads=True)
            for index, slope in enumerate(slopes):
                total[index] += float(c) / beta * slope
                size[index] += abs(float(c) / beta) * float(slope.norm())
        return total, size

    def untied(self, layers) -> bool:
        """Whether no two pre-activations of a pooling window are so close that rounding could choose between them."""
        felt = {"x": self.x, **dict(zip(self.names, layers, strict=True))}
        for _, edge, z, _ in self.pooled(felt):
            if edge.kernel.pooling == "max" and edge.above in self.names:
                top = F.unfold(z.detach().flatten(0, 1)[:, None], 2, stride=2).topk(2, dim=1).values
                if float((top[:, 0] - top[:, 1]).min()) < 1e-9:
                    return False
        return True


@st.composite
def cases(draw):
    channels = draw(st.sampled_from([(), (2,), (2, 3)]))
    sizes = (*draw(st.lists(st.integers(1, 5), min_size=not channels, max_size=3)), draw(st.integers(2, 4)))
    cost = draw(st.sampled_from(["mse", "cross_entropy"]))
    names = [f"c{number}" for number in range(1, len(channels) + 1)] + [f"h{number}" for number in range(1, len(sizes))]
    ends = [name for name in names if name[0] == "h"] + ["y"] * (cost == "mse")
    chain = ["x", *names, "y"]
    dense = [f"{a}:{b}" for i, a in enumerate(chain) for b in chain[i + 2 :] if b in ends]
    wide = ["x:c2:stride=2", "x:c2:kernel=5:stride=4:padding=2:pooling=none"] if len(channels) == 2 else []
    possible = dense + wide[: draw(st.integers(0, 2))][-1:]
    skip = tuple(draw(st.lists(st.sampled_from(possible), unique=True, max_size=4))) if possible else ()
    lateral = tuple(draw(st.lists(st.sampled_from(ends), unique=True, max_size=2))) if ends else ()
    return Case(
        sizes=sizes,
        channels=channels,
        skip=skip,
        lateral=lateral,
        pooling=draw(st.sampled_from(sorted(POOLS))) if not wide or not skip else "max",
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        cost=cost,
        init_gain=draw(st.sampled_from([0.5, 1.0])),
        dynamics=draw(st.sampled_from(["primitive", "energy"])),
        step_size=draw(st.sampled_from([0.2, 0.5, 1.0])),
        n=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**32)),
    )


@EXAMPLES
@given(cases(), NUDGES, st.integers(1, 6))
def test_every_step_of_a_trajectory_equals_autograd(case, beta, steps):
    expected = case.state
    for nudge in (None, beta):
        dynamics = case.bind(expected, nudge)
        for _ in range(steps):
            assume(case.untied(expected))
            before, expected = expected, case.step(expected, nudge or 0.0)
            dynamics.step()
            assert furthest(dynamics.state, expected) < 1e-10
            moved = torch.stack([(a - b).abs().flatten(1).amax(dim=1) for a, b in zip(expected, before, strict=True)]).amax(dim=0)
            torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-10)


@EXAMPLES
@given(cases(), st.sampled_from(STENCILS), NUDGES, st.integers(1, 5))
def test_the_gradient_of_every_stencil_equals_autograd(case, estimator, beta, T1):
    T2 = len(case.state) + 1
    relaxation = FixedSteps(T1, T2)
    free = relaxation.free(case.bind(case.state))
    found, nudged = estimate(case.network, relaxation, table(estimator, len(case.x), beta), case.x, case.drive, free, case.target)
    layers = case.relax(case.state, 0.0, T1)
    assume(case.untied(layers))
    for phase in range(stencil(estimator).nudged_phases):
        assume(case.untied(rows(nudged.state, slice(phase * len(case.x), (phase + 1) * len(case.x)))))
    expected, size = case.estimate(stencil(estimator), beta, layers, T2)
    assert_same_gradient(found, expected, size)


@EXAMPLES
@given(cases())
def test_phi_is_the_energy_written_out(case):
    torch.testing.assert_close(case.network.phi(case.x, case.state), case.phi(case.state).detach(), rtol=1e-12, atol=1e-12)


def swept(case, layers, group, beta, factor):
    """A group's layers moved as a sweep moves them, by autograd: the primitive's, or Newton steps along each unit's own axis."""
    new = list(layers)
    share = 1 / (1 + max(beta, 0.0)) if case.architecture.cost == "mse" else 1.0
    stepped = case.step(layers, beta)
    slopes = case.slopes(layers, beta)
    for place in group:
        s, lateral = layers[place], case.names[place] in case.architecture.lateral
        own = share if place == len(layers) - 1 else 1.0
        if not case.energetic:
            new[place] = s + (min(factor, 1.0) if lateral else factor) * own * (stepped[place] - s)
        elif lateral:
            new[place] = stepped[place]
        else:
            new[place] = torch.clamp(s + factor * slopes[place] / curvature(case, layers, place, own), case.low, case.high)
    return new


def curvature(case, layers, place, share):
    """−∂²φ/∂s² of each unit of a layer along its own axis, the leak's at least, and the nudge's."""
    leaves = [layer.detach().clone().requires_grad_() for layer in layers]
    slope = torch.autograd.grad(case.phi(leaves).sum(), leaves[place], create_graph=True)[0]
    if not slope.requires_grad:
        return torch.ones_like(slope) / share
    # Units of such a layer do not see each other, so that the row sums of the Hessian are its diagonal.
    bend = torch.autograd.grad(slope.sum(), leaves[place], allow_unused=True, materialize_grads=True)[0]
    return (-bend).clamp(min=1.0) + (1 / share - 1)


@EXAMPLES
@given(cases(), NUDGES, st.sampled_from([1.0, 1.25, 0.5]))
def test_a_sweep_is_its_groups_one_after_the_other(case, beta, factor):
    for nudge in (None, beta):
        state, dynamics = case.state, case.bind(case.state, nudge)
        last = len(state) - 1
        groups = case.network.groups
        order = groups if nudge is None else sorted(groups, key=lambda group: last not in group)
        for _ in range(2):
            before = state
            for group in order:
                assume(case.untied(state))
                state = swept(case, state, group, nudge or 0.0, factor)
            dynamics.sweep(factor)
            assert furthest(dynamics.state, state) < 1e-10
            moved = torch.stack([(a - b).abs().flatten(1).amax(dim=1) for a, b in zip(state, before, strict=True)]).amax(dim=0)
            torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-10)


@EXAMPLES
@given(cases(), st.sampled_from(["step", "sweep"]), st.sampled_from([1.0, 1.25]))
def test_a_first_move_from_rest_leaves_out_no_more_than_what_is_superfluous(case, first, factor):
    plain, short = case.bind(case.zeros()), case.bind(case.zeros(), at_rest=True)
    for move in (first, "sweep", "step"):
        for dynamics in (plain, short):
            dynamics.step() if move == "step" else dynamics.sweep(factor)
        assume(case.untied(plain.state))
        assert furthest(plain.state, short.state) < 1e-13
        torch.testing.assert_close(short.change(), plain.change(), rtol=0, atol=1e-13)


DENSE = {"sizes": (6, 5, 4, 3), "skip": ("h1:h3", "x:y", "h2:y"), "lateral": ("h2",), "init_gain": 0.4}
IMAGES = {"channels": (2, 3), "sizes": (4, 3), "skip": ("c1:h1", "x:c2:stride=2"), "lateral": ("h1",), "pooling": "max"}


@pytest.mark.parametrize("beta", [0.35, -0.35])
@pytest.mark.parametrize("dynamics", ["primitive", "energy"])
@pytest.mark.parametrize("fields", [DENSE, IMAGES], ids=["dense", "images"])
def test_a_nudged_sweep_from_the_free_equilibrium_may_take_it_for_rest(fields, dynamics, beta):
    case = Case(**fields, dynamics=dynamics, activation="tanh")
    free = case.bind(case.zeros(), at_rest=True)
    for _ in range(600):
        free.step()
    assert float(free.change().max()) < 1e-13
    plain, short = case.bind(free.state, beta), case.bind(free.state, beta, at_rest=True)
    for _ in range(4):
        plain.sweep(1.25)
        short.sweep(1.25)
        assert furthest(plain.state, short.state) < 1e-11
    assert furthest(short.state, free.state) > 1e-3


@pytest.mark.parametrize("move", ["step", "sweep"])
@pytest.mark.parametrize("beta", [None, 0.35])
@pytest.mark.parametrize("fields", [DENSE, IMAGES, {**DENSE, "dynamics": "energy"}], ids=["dense", "images", "energy"])
def test_the_samples_that_go_on_move_as_if_they_had_always_been_alone(fields, beta, move):
    case = Case(n=5, **fields)
    selected = torch.tensor([3, 0, 4])
    betas = None if beta is None else torch.full((3,), beta, dtype=torch.float64)
    target = None if beta is None else case.target[selected]
    alone = case.network.bind(case.drive[selected], rows(case.state, selected), target, betas)
    assert_kept_move_as_alone(case.bind(case.state, beta), selected, alone, move)


@pytest.mark.parametrize("fields", [DENSE, IMAGES, {**DENSE, "dynamics": "energy"}], ids=["dense", "images", "energy"])
def test_relaxing_leaves_the_state_and_the_drive_that_it_starts_from_as_they_are(fields):
    case = Case(**fields)
    state, drive = [layer.clone() for layer in case.state], case.drive.clone()
    for beta in (None, 0.5):
        dynamics = case.bind(state, beta)
        for _ in range(2):
            dynamics.step()
            dynamics.sweep(1.25)
    assert furthest([*state, drive], [*case.state, case.drive]) == 0


# The special cases


@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
@pytest.mark.parametrize(
    ("special", "graph"),
    [
        ({"sizes": (64, 9, 8, 7, 10)}, {"sizes": (9, 8, 7, 10)}),
        ({"network": "conv", "channels": (2, 3), "sizes": (6, 10), "pooling": "max"}, {"channels": (2, 3), "sizes": (6, 10)}),
    ],
    ids=["mlp", "conv"],
)
def test_a_chain_is_the_packed_network_of_the_same_seed(special, graph, cost):
    configs = [TrialConfig(**special, cost=cost), TrialConfig(network="graph", **graph, cost=cost)]
    networks = [make_network(config, stream(4, "initialisation"), FLOAT64) for config in configs]
    for one, other in zip(*(network.parameters for network in networks), strict=True):
        assert torch.equal(one, other)
    x = torch.from_numpy(stream(1, "order").normal(size=(5, 1, 8, 8)))
    target = F.one_hot(torch.arange(5), 10).double()
    for relaxation in (FixedSteps(12, 6), Adaptive(1e-6, 60, 60)):
        found = []
        for network in networks:
            drive = network.input_drive(x)
            free = relaxation.free(network.bind(drive, network.zeros(drive), at_rest=True))
            found.append((free, *estimate(network, relaxation, table("centered", 5, 0.3), x, drive, free, target)))
        (free, gradient, nudged), (graph_free, graph_gradient, graph_nudged) = found
        assert torch.equal(free.steps, graph_free.steps) and torch.equal(nudged.steps, graph_nudged.steps)
        assert furthest(networks[0].layer_states(nudged.state), networks[1].layer_states(graph_nudged.state)) < 1e-12
        assert furthest(gradient, graph_gradient) < 1e-11


def test_clipped_steps_of_size_1_are_the_thesis_s_dynamics_of_the_same_activation():
    fields = {"sizes": (9, 8, 4), "activation": "unit_hard_sigmoid"}
    energy, primitive = (Case(**fields, dynamics=dynamics, step_size=1.0) for dynamics in ("energy", "primitive"))
    states = [case.bind(case.zeros(), 0.3) for case in (energy, primitive)]
    for _ in range(5):
        for dynamics in states:
            dynamics.step()
        assert furthest(states[0].state, states[1].state) < 1e-14


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_steps_and_sweeps_come_to_the_same_minimum_of_the_energy(activation):
    case = Case(**DENSE, dynamics="energy", activation=activation)
    stepped, swept = case.bind(case.zeros()), case.bind(case.zeros(), at_rest=True)
    energies = [-case.phi(stepped.state).detach()]
    for _ in range(300):
        stepped.step()
        energies.append(-case.phi(stepped.state).detach())
    for _ in range(100):
        swept.sweep(1.25)
    assert furthest(stepped.state, swept.state) < 1e-12
    assert bool((torch.stack(energies).diff(dim=0) < 1e-12).all())


def test_lateral_weights_are_symmetric_without_a_diagonal_and_stay_so_in_training():
    case = Case(sizes=(5, 3), lateral=("h1",))
    network = case.network
    lateral, number = network.laterals[0]
    upper = network.parameters[2 * number]
    optimizer = torch.optim.SGD(network.parameters, lr=0.3, momentum=0.9, weight_decay=0.01, fused=True)
    before = lateral.weight.clone()
    for _ in range(3):
        for parameter, direction in zip(network.parameters, network.parameter_gradient(case.x, case.state, case.drive[:, 0]), strict=True):
            parameter.grad = -direction
        optimizer.step()
        network.refresh()
    assert torch.equal(lateral.weight, lateral.weight.T) and not torch.equal(lateral.weight, before)
    assert float(lateral.weight.diagonal().abs().max()) == 0 and float(upper.tril().abs().max()) == 0


def test_layers_that_an_edge_joins_are_never_in_one_group():
    generator = stream(0, "order")
    for _ in range(50):
        layers = int(generator.integers(1, 9))
        edges = [(a, b) for a in range(layers) for b in range(a + 1, layers) if generator.random() < 0.4]
        groups = colouring(layers, edges)
        assert sorted(layer for group in groups for layer in group) == list(range(layers))
        assert not any({a, b} <= set(group) for a, b in edges for group in groups)
    assert colouring(6, [(layer, layer + 1) for layer in range(5)]) == [[0, 2, 4], [1, 3, 5]]


# Step sizes


@pytest.mark.parametrize("step_size", [0.5, 3.0])
def test_a_step_size_at_which_the_energy_does_not_fall_is_told_as_collapse(step_size):
    config = TrialConfig.create(**{**ENERGETIC, "step_size": step_size})
    row = Trainer(config, load("digits")).train_epoch()
    assert row["collapsed"] == (step_size == 3.0)
    assert (row["energy_rises"] > 0.5) == (step_size == 3.0)


def test_a_network_whose_steps_are_no_descent_has_no_energy_that_could_rise():
    assert "energy_rises" not in Trainer(TrialConfig.create(**{**ENERGETIC, "dynamics": "primitive"}), load("digits")).train_epoch()


# Training


def test_a_graph_goes_on_from_its_state_as_if_never_stopped():
    config = TrialConfig.create(**ENERGETIC, cheap="alternating", skip=("x:y",), lateral=("h1",), epochs=3, relaxation="adaptive")
    one, other = (Trainer(config, load("digits")) for _ in range(2))
    one.train_epoch()
    other.load_state_dict(one.state_dict())
    rows = [{**trainer.train_epoch(), "epoch_seconds": 0, "agreement": 0, "relative_bias": 0} for trainer in (one, other)]
    assert rows[0] == rows[1]
    assert rows[0]["test_acc"] > 0.5


# Words on the command line


def test_edges_are_read_from_words():
    case = Case(
        sizes=(4, 3, 2),
        channels=(2,),
        edges=("x:c1", "x:h1", "c1:h2", "h1:y", "h2:y"),
        skip=("x:y",),
        lateral=("h1",),
    )
    assert [(edge.below, edge.above, edge.lateral) for edge in case.wiring.edges] == [
        ("x", "c1", False),
        ("x", "h1", False),
        ("c1", "h2", False),
        ("h1", "y", False),
        ("h2", "y", False),
        ("x", "y", False),
        ("h1", "h1", True),
    ]
    assert case.network.groups == [[0, 1], [2], [3]] or case.network.groups == [[0, 1, 3], [2]]
    # Of the edges that lead to a layer, the first has its bias.
    assert [len(bias) for bias in case.network.parameters[1::2]] == [2, 4, 3, 2, 0, 0, 0]


ENERGETIC = {
    "network": "graph",
    "sizes": (32, 10),
    "dynamics": "energy",
    "activation": "unit_hard_sigmoid",
    "beta": 0.5,
    "T1": 20,
    "T2": 10,
    "train_samples": 600,
    "std_factor": 2.0,
}
GRAPH = {"network": "graph", "channels": (3,), "sizes": (6, 5, 10)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"skip": ("x:z",)}, "skip x:z: layer 'z' must be one of x, c1, h1, h2, y"),
        ({"skip": ("x",)}, "skip x: layer '' must be one of x, c1, h1, h2, y"),
        ({"skip": ("h1:x",)}, "skip h1:x: is a cycle through the input, which is given; must lead to one of c1, h1, h2, y"),
        ({"skip": ("x:x",)}, "skip x:x: is a cycle through the input"),
        ({"skip": ("h1:h1",)}, "skip h1:h1: joins a layer with itself; must be given as --lateral h1"),
        ({"skip": ("y:h1",)}, "skip y:h1: must lead from a layer to a later one, h1:y, and acts both ways"),
        ({"skip": ("x:c1",)}, "skip x:c1: joins x and c1, which an edge joins already"),
        ({"skip": ("x:y:stride=2",)}, "skip x:y:stride=2: y is fully connected, must have no stride"),
        ({"channels": (3, 4), "skip": ("x:c2",)}, "skip x:c2: makes maps of 4×4, must make 2×2, as c2 is"),
        ({"channels": (3, 4), "skip": ("x:c2:kernel=11",)}, "skip x:c2:kernel=11: kernel 11 is larger than its input 8×8"),
        ({"channels": (3, 4), "skip": ("x:c2:size=2",)}, "'size' must be one of kernel, stride, padding, pooling"),
        ({"channels": (3, 4), "skip": ("x:c2:stride=0",)}, "stride '0' must be 1 to 1000"),
        ({"channels": (3, 4), "skip": ("x:c2:pooling=min",)}, "pooling 'min' must be one of max, average, none"),
        ({"edges": ("x:c1", "c1:h1", "h1:y")}, "edges x:c1 c1:h1 h1:y: layer h2 has no path from the input; must be reached from one of"),
        ({"edges": ("x:h1", "h1:h2", "h2:y")}, "layer c1 has no path from the input; must be reached from one of x"),
        ({"lateral": ("c1",)}, "lateral c1: c1 is 3×4×4, of feature maps; must be a fully connected layer, one of h1, h2, y"),
        ({"lateral": ("h9",)}, "lateral h9: layer 'h9' must be one of h1, h2, y"),
        ({"lateral": ("x",)}, "lateral x: layer 'x' must be one of h1, h2, y"),
        ({"lateral": ("h1", "h1")}, "lateral h1 h1: must be different layers"),
        (
            {"cost": "cross_entropy", "skip": ("x:y",)},
            "cost cross_entropy: its readout y stands beside the dynamics, must read h2 alone, not x",
        ),
        (
            {"cost": "cross_entropy", "lateral": ("y",)},
            "lateral y: y is a readout beside the dynamics; must be a fully connected layer, one of h1, h2",
        ),
        ({"cost": "cross_entropy", "channels": (), "sizes": (10,)}, "sizes 10 must name a layer below the readout when cost=cross_entropy"),
        ({"step_size": 0.0}, "step_size 0.0: Input should be greater than or equal to 0.000001"),
        ({"dynamics": "spikes"}, "dynamics 'spikes': Input should be 'primitive' or 'energy'"),
        ({"sizes": (6, 5, 9)}, "sizes 6-5-9 ends in 9, but digits has 10 classes"),
        ({"learning_rates": (0.1, 0.1)}, "learning_rates 0.1-0.1 has 2 entries, must have 1 or 4"),
        ({"sizes": (10**5, 10), "lateral": ("h1",)}, "weights, must have at most 1,000,000,000"),
    ],
)
def test_a_graph_that_cannot_be_is_told_in_one_line(fields, words):
    with pytest.raises(InvalidInput) as told:
        TrialConfig.create(**{**GRAPH, **fields})
    assert words in str(told.value), str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_a_graph_survives_its_flat_values():
    config = TrialConfig.create(
        **GRAPH, skip=("x:y", "c1:h2"), lateral=("h1",), dynamics="energy", step_size=0.25, learning_rates=(0.1,) * 7
    )
    assert TrialConfig.create(**config.flat("json")) == config
    assert config.columns()["skip"] == "x:y-c1:h2"
    assert config.network.layout == "3-6-5-10, skip x:y c1:h2, lateral h1"
