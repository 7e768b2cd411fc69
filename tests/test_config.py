"""`TrialConfig`: mistakes are told in one line, good values survive JSON and CSV unchanged, and shapes are those that torch makes."""

import json
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hybridep.config import DEFAULT_TOLERANCE, InvalidInput, TrialConfig, one_line
from hybridep.datasets import DATASETS
from hybridep.draws import DRAWS
from hybridep.estimators import ESTIMATORS
from hybridep.policies import FAMILIES

CONV = {"network": "conv", "channels": (4,), "sizes": (10,)}
NAN, INFINITE = float("nan"), float("inf")

# What is given, and what the line must hold besides: argument, value, what is allowed.
MISTAKES = [
    # Names
    ({"dataset": "svhn"}, ["dataset", "'svhn'", *DATASETS]),
    ({"dataset": "a\nb"}, ["dataset", "'a\\nb'", *DATASETS]),
    ({"family": "sine"}, ["family", "'sine'", *FAMILIES]),
    ({"cheap": "best"}, ["cheap", "'best'", *ESTIMATORS]),
    ({"accurate": "best"}, ["accurate", "'best'", *ESTIMATORS]),
    ({"draw": "coin"}, ["draw", "'coin'", *DRAWS]),
    ({"network": "rnn"}, ["network", "'rnn'", "mlp", "conv"]),
    ({"activation": "relu"}, ["activation", "'relu'", "tanh", "hard_sigmoid"]),
    ({"cost": "l1"}, ["cost", "'l1'", "mse", "cross_entropy"]),
    ({**CONV, "pooling": "sum"}, ["pooling", "'sum'", "max", "average", "none"]),
    ({"relaxation": "none"}, ["relaxation", "'none'", "fixed", "adaptive"]),
    ({"per": "step"}, ["per", "'step'", "epoch", "update"]),
    ({"dtype": "float16"}, ["dtype", "'float16'", "float32", "float64"]),
    ({"precision": "bfloat16"}, ["precision", "'bfloat16'", "float32", "tf32"]),
    ({"precision": "tf32", "dtype": "float64"}, ["precision tf32", "dtype float64", "must be float32"]),
    ({"learning_rate": 0.1}, ["learning_rate 0.1", "not permitted"]),
    # Schedule
    ({"skew": 1.2}, ["skew 1.2", "less than or equal to 1"]),
    ({"skew": -0.1}, ["skew -0.1", "greater than or equal to 0"]),
    ({"skew": NAN}, ["skew nan", "finite"]),
    ({"skew": "half"}, ["skew 'half'", "number"]),
    ({"family": "piecewise"}, ["knots None", "piecewise"]),
    ({"family": "piecewise", "knots": ((0, 1.5), (1, 0))}, ["knots", "1.5", "[0, 1]"]),
    ({"family": "piecewise", "knots": ((0.5, 1), (0.2, 0))}, ["knots", "0.5", "increasing"]),
    ({"family": "piecewise", "knots": ((0, 1),)}, ["knots", "two or more"]),
    ({"knots": ((0, 1), (1, 0))}, ["knots", "constant takes only skew"]),
    ({"rising": True}, ["rising True", "constant takes only skew"]),
    ({"cycles": 3}, ["cycles 3", "constant takes only skew"]),
    ({"family": "cyclic_cosine", "cycles": 0}, ["cycles 0", "greater than or equal to 1"]),
    ({"family": "agreement", "skew": 0.5}, ["skew 0.5", "family agreement takes only lowest, highest, memory, threshold"]),
    ({"family": "agreement", "accurate": "alternating"}, ["accurate alternating", "family agreement", "a phase at +β and others"]),
    ({"family": "agreement", "highest": 1}, ["highest 1", "less than 1"]),
    ({"family": "residual", "lowest": 0.5, "highest": 0.4}, ["lowest 0.5", "at most highest, 0.4"]),
    ({"family": "residual", "limit": 0}, ["limit 0", "greater than or equal to 0.0000"]),
    # Estimators and draws
    ({"cheap_part": 0.5}, ["cheap_part 0.5", "estimator standard takes no parameters"]),
    ({"part": 0.5}, ["part 0.5", "not permitted"]),
    ({"cheap": "part", "cheap_part": 0}, ["cheap_part 0", "greater than or equal to 0.0000"]),
    ({"cheap": "part", "cheap_part": 1.5}, ["cheap_part 1.5", "less than or equal to 1"]),
    ({"cheap": "part", "cheap_of": "centered"}, ["cheap_of 'centered'", "one nudged phase"]),
    ({"cheap": "part", "cheap_of": "best"}, ["cheap_", "'best'", *ESTIMATORS]),
    ({"cheap": "part", "cheap_by": "age"}, ["cheap_by 'age'", "uniform", "importance"]),
    ({"accurate": "part", "accurate_even": 2}, ["accurate_even 2", "less than or equal to 1"]),
    ({"cheap": "corrected", "cheap_memory": 0.5}, ["cheap_memory 0.5", "greater than or equal to 1"]),
    ({"cheap": "corrected", "grain": "sample"}, ["grain sample", "estimator corrected", "must be minibatch"]),
    ({"grain": "image"}, ["grain 'image'", "minibatch", "sample"]),
    # Nudge and relaxation
    ({"beta": 0}, ["beta 0", "greater than or equal to 0.0000"]),
    ({"beta": -1}, ["beta -1", "greater than or equal to 0.0000"]),
    ({"beta": NAN}, ["beta nan", "finite"]),
    ({"beta": INFINITE}, ["beta inf", "finite"]),
    ({"T1": 0}, ["T1 0", "greater than or equal to 1"]),
    ({"T2": 0}, ["T2 0", "greater than or equal to 1"]),
    ({"T1": 2.5}, ["T1 2.5", "integer"]),
    ({"T1": "many"}, ["T1 'many'", "integer"]),
    ({"relaxation": "adaptive", "tolerance": 0}, ["tolerance 0", "greater than or equal to 0.0000"]),
    ({"tolerance": 1e-3}, ["tolerance 0.001", "adaptive"]),
    ({"start": "first"}, ["start 'first'", "'zeros' or 'last'"]),
    ({"start": "last", "augment": True}, ["start last", "must be zeros with augment"]),
    # Optimizer
    ({"learning_rates": (-0.1,)}, ["learning_rates", "-0.1", "0 to 1e+38"]),
    ({"learning_rates": -1}, ["learning_rates", "-1", "0 to 1e+38"]),
    ({"learning_rates": ()}, ["learning_rates ()", "one for all layers or one per layer"]),
    ({"learning_rates": (NAN,)}, ["learning_rates", "nan", "finite"]),
    ({"learning_rates": (0.1, 0.2, 0.3)}, ["learning_rates 0.1-0.2-0.3", "3 entries", "1 or 2, one per layer"]),
    ({**CONV, "channels": (4, 5), "learning_rates": (0.1, 0.2)}, ["learning_rates 0.1-0.2", "2 entries", "1 or 3, one per layer"]),
    ({"momentum": 1}, ["momentum 1", "less than 1"]),
    ({"momentum": -0.1}, ["momentum -0.1", "greater than or equal to 0"]),
    ({"weight_decay": -1}, ["weight_decay -1", "greater than or equal to 0"]),
    ({"eta_min": -1}, ["eta_min -1", "greater than or equal to 0"]),
    ({"epochs": 0}, ["epochs 0", "greater than or equal to 1"]),
    ({"batch_size": 0}, ["batch_size 0", "greater than or equal to 1"]),
    ({"warmup_epochs": 15}, ["warmup_epochs 15", "less than epochs 15"]),
    ({"seed": -1}, ["seed -1", "greater than or equal to 0"]),
    # Data
    ({"train_samples": 0}, ["train_samples 0", "greater than or equal to 1"]),
    ({"test_samples": 0}, ["test_samples 0", "greater than or equal to 1"]),
    ({"validation": -1}, ["validation -1", "greater than or equal to 0"]),
    ({"std_factor": 0}, ["std_factor 0", "greater than or equal to 0.0000"]),
    # Networks that do not fit
    ({"sizes": (784, 128, 10)}, ["sizes 784-128-10", "digits has 64 pixels"]),
    ({"dataset": "cifar10", "sizes": (784, 256, 10)}, ["sizes 784-256-10", "cifar10 has 3072 pixels"]),
    ({"sizes": (64, 128, 9)}, ["sizes 64-128-9", "digits has 10 classes"]),
    ({"sizes": (64, 10)}, ["sizes 64-10", "hidden layer"]),
    ({"sizes": (64, 0, 10)}, ["sizes 64-0-10", "1 or more"]),
    ({"sizes": (64, 12.5, 10)}, ["sizes.1 12.5", "integer"]),
    ({"sizes": ()}, ["sizes ()", "output"]),
    ({"channels": (3,)}, ["channels 3", "network mlp takes only sizes, activation, init_gain, cost"]),
    ({**CONV, "channels": ()}, ["channels ()", "at least one convolution"]),
    ({**CONV, "channels": (4, 0)}, ["channels 4-0", "1 or more"]),
    ({**CONV, "sizes": ()}, ["sizes ()", "output"]),
    ({**CONV, "sizes": (64, 128, 11)}, ["sizes 64-128-11", "digits has 10 classes"]),
    ({**CONV, "channels": (4, 4, 4, 4)}, ["convolution 4", "1×1", "pools to nothing"]),
    ({**CONV, "kernel": 9, "padding": 0}, ["convolution 1", "kernel 9", "8×8", "padding 0"]),
    ({**CONV, "channels": (4, 4), "kernel": 5, "padding": 0}, ["convolution 2", "kernel 5", "2×2", "padding 0"]),
    ({**CONV, "kernel": 0}, ["kernel 0", "greater than or equal to 1"]),
    ({**CONV, "stride": 0}, ["stride 0", "greater than or equal to 1"]),
    ({**CONV, "padding": -1}, ["padding -1", "greater than or equal to 0"]),
    ({"init_gain": 0}, ["init_gain 0", "greater than or equal to 0.0000"]),
]


@pytest.mark.parametrize(("values", "words"), MISTAKES, ids=[json.dumps(values) for values, _ in MISTAKES])
def test_a_mistake_is_one_line_that_names_argument_value_and_what_is_allowed(values, words):
    for attempt in (lambda: TrialConfig.create(**values), lambda: TrialConfig().replace(**values)):
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert isinstance(caught.value, ValueError)
        line = str(caught.value)
        assert "\n" not in line
        assert [word for word in words if word not in line] == []
    with pytest.raises(ValidationError):
        TrialConfig(**values)


def test_several_mistakes_are_counted_behind_the_first():
    with pytest.raises(InvalidInput, match=r"^beta -1: .* \(and 2 more\)$"):
        TrialConfig.create(beta=-1, epochs=0, colour="red")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"digits"', '{"beta": NaN}', '{"beta": {}}', '{"sizes": 10}', '{"T1": 1e400}']
)
def test_json_that_is_no_configuration_is_a_validation_error_of_one_line(text):
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate_json(text)
    assert "\n" not in one_line(caught.value)


@pytest.mark.parametrize(
    "values", [{}, {"skew": 0}, {"skew": 1}, {"learning_rates": 0.1}, {"learning_rates": (0.1, 0)}, {"validation": 200}]
)
def test_values_at_their_bounds_are_taken(values):
    assert isinstance(TrialConfig.create(**values), TrialConfig)


def test_one_learning_rate_may_be_a_plain_number():
    assert TrialConfig(learning_rates=0.3).learning_rates == (0.3,)
    assert TrialConfig.model_validate_json('{"learning_rates": 1}').learning_rates == (1.0,)


def test_adaptive_relaxation_always_has_a_tolerance_and_fixed_steps_never():
    assert TrialConfig(relaxation="adaptive").tolerance == DEFAULT_TOLERANCE
    assert TrialConfig(relaxation="adaptive", tolerance=1e-6).tolerance == 1e-6
    assert TrialConfig().replace(relaxation="adaptive").tolerance == DEFAULT_TOLERANCE
    assert TrialConfig().tolerance is None


def test_a_configuration_cannot_be_changed_but_replaced():
    config = TrialConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.beta = 0.5
    assert (config.replace(beta=0.5).beta, config.beta) == (0.5, 1.0)
    assert config.replace() == config
    with pytest.raises(InvalidInput, match="T3"):
        config.replace(T3=4)


def test_going_over_to_another_entry_drops_what_it_does_not_have_and_keeps_the_rest():
    config = TrialConfig(family="cyclic_cosine", skew=0.3, cycles=7, rising=True, cheap="part", cheap_part=0.25, beta=0.5)
    linear = config.replace(family="linear")
    assert linear == TrialConfig(family="linear", skew=0.3, rising=True, cheap="part", cheap_part=0.25, beta=0.5)
    assert config.replace(cheap="standard").flat() == {
        name: value for name, value in config.flat().items() if not name.startswith("cheap")
    } | {"cheap": "standard"}
    with pytest.raises(InvalidInput, match="cycles 3: family linear takes only skew, rising"):
        config.replace(family="linear", cycles=3)


def test_none_is_a_value_that_was_not_given():
    assert TrialConfig(skew=None, cycles=None, cheap_part=None, family="cosine") == TrialConfig(family="cosine")
    assert TrialConfig(family="piecewise", skew=None, knots=((0, 1), (1, 0))).policy.skew is None


def test_the_same_values_are_the_same_configuration_whatever_was_asked_of_one():
    one, other = (TrialConfig(family="exponential", skew=0.3, draw="spread") for _ in range(2))
    one.policy.probabilities(3, 2)
    one.policy.begin(3, 2, "epoch")
    one.draw.cheap(0.3, 0.5)
    assert one == other
    assert (hash(one), one.flat(), one.policy.fresh()) == (hash(other), other.flat(), other.policy)
    assert one != other.replace(skew=0.4)


POSITIVE = st.floats(1e-12, 1e6)
KNOTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=5, unique_by=lambda knot: knot[0]).map(
    lambda knots: tuple(sorted(knots))
)
POLICIES = st.one_of(
    st.fixed_dictionaries({"family": st.sampled_from(["constant", "cosine", "inverse_cosine"]), "skew": st.floats(0, 1)}),
    st.fixed_dictionaries(
        {"family": st.just("cyclic_cosine"), "skew": st.floats(0, 1), "cycles": st.integers(1, 9), "rising": st.booleans()}
    ),
    st.fixed_dictionaries({"family": st.just("piecewise"), "skew": st.none() | st.floats(0, 1), "knots": KNOTS}),
    st.fixed_dictionaries(
        {
            "family": st.just("agreement"),
            "threshold": st.floats(-1, 0.99),
            "memory": st.floats(1, 1e6),
            "accurate": st.sampled_from(["centered", "second_order", "fourth_order"]),
        }
    ),
    st.fixed_dictionaries({"family": st.just("residual"), "limit": POSITIVE, "lowest": st.floats(0, 0.9)}),
)
CHEAP = st.one_of(
    st.fixed_dictionaries({"cheap": st.sampled_from(sorted(ESTIMATORS))}),
    st.fixed_dictionaries(
        {"cheap": st.just("part"), "cheap_part": st.floats(1e-9, 1), "cheap_by": st.sampled_from(["uniform", "importance"])}
    ),
    st.fixed_dictionaries({"cheap": st.just("corrected"), "cheap_memory": st.floats(1, 1e6)}),
)
VALUES = st.fixed_dictionaries(
    {
        "beta": POSITIVE,
        "T1": st.integers(1, 1000),
        "learning_rates": st.lists(st.floats(0, 10), min_size=2, max_size=2).map(tuple),
        "weight_decay": st.floats(0, 1),
        "init_gain": POSITIVE,
        "seed": st.integers(0, 2**53 - 1),
        "accurate": st.sampled_from(sorted(ESTIMATORS)),
        "draw": st.sampled_from(sorted(DRAWS)),
        "augment": st.booleans(),
        "inputs": st.sampled_from(["standardised", "unit"]),
        "crops": st.sampled_from(["black", "edge"]),
        "decay_epochs": st.none() | st.integers(1, 1000),
        "train_samples": st.none() | st.integers(1, 1000),
    }
)


@settings(max_examples=60, deadline=None)
@given(VALUES, POLICIES, CHEAP)
def test_a_configuration_survives_json_exactly(values, policy, cheap):
    values = {**values, **policy, **cheap}
    config = TrialConfig.create(**values)
    assert TrialConfig.model_validate_json(json.dumps(config.flat("json"))) == config
    assert TrialConfig.create(**json.loads(json.dumps(config.flat("json")))) == config
    assert TrialConfig.create(**config.flat()) == config
    assert config.replace(**values) == config


@settings(max_examples=30, deadline=None)
@given(VALUES, POLICIES, CHEAP)
def test_columns_are_the_fields_as_plain_values(values, policy, cheap):
    values = {**values, **policy, **cheap}
    config = TrialConfig.create(**values)
    columns = config.columns()
    assert list(columns) == list(config.flat())
    for name, value in columns.items():
        field = config.flat()[name]
        if isinstance(field, tuple):
            assert isinstance(value, str)
        else:
            assert value == field
            assert value is None or isinstance(value, (str, int, float, bool))


def test_sequences_stand_in_a_column_joined_by_dashes():
    columns = TrialConfig(family="piecewise", knots=((0, 1), (0.5, 0.2)), learning_rates=(0.1, 0.05)).columns()
    assert columns["sizes"] == "64-128-10"
    assert TrialConfig(**CONV).columns()["channels"] == "4"
    assert columns["learning_rates"] == "0.1-0.05"
    assert columns["knots"] == "0.0:1.0-0.5:0.2"


# Shapes


@settings(max_examples=80, deadline=None)
@given(
    dataset=st.sampled_from(sorted(DATASETS)),
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    pooling=st.sampled_from(["max", "average", "none"]),
)
def test_layer_shapes_are_those_that_torch_makes_and_only_those_are_taken(dataset, channels, kernel, stride, padding, pooling):
    values = {"kernel": kernel, "stride": stride, "padding": padding, "pooling": pooling}
    probe, shapes = torch.zeros(1, *DATASETS[dataset].shape), [DATASETS[dataset].shape]
    try:
        for maps in channels:
            probe = F.conv2d(probe, torch.zeros(maps, probe.shape[1], kernel, kernel), stride=stride, padding=padding)
            pools = {"max": F.max_pool2d, "average": F.avg_pool2d}
            probe = pools[pooling](probe, 2) if pooling != "none" else probe
            shapes.append(tuple(probe.shape[1:]))
    except RuntimeError:
        with pytest.raises(InvalidInput, match=r"^convolution \d"):
            TrialConfig.create(dataset=dataset, network="conv", channels=channels, sizes=(7, 10), **values)
        return
    assume(math.prod(shapes[-1]) > 0)
    config = TrialConfig.create(dataset=dataset, network="conv", channels=channels, sizes=(7, 10), **values)
    assert config.layer_shapes() == [*shapes, (7,), (10,)]


def test_layers_of_an_mlp_are_its_sizes():
    assert TrialConfig(sizes=(64, 32, 16, 10)).layer_shapes() == [(64,), (32,), (16,), (10,)]


def test_neither_torch_nor_ray_is_imported_to_check_a_configuration():
    program = "import sys; import hybridep.config, hybridep.presets; assert not {'torch', 'ray', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_configuration_that_is_dumped_keeps_the_names_of_its_entries():
    for name in ("cosine", "inverse_cosine"):
        config = TrialConfig.create(family=name, skew=0.5, cheap="part", cheap_part=0.25)
        assert config.model_dump()["family"] == name
        assert TrialConfig.model_validate_json(config.model_dump_json()) == config
