"""`TrialConfig`: everything that determines a trial, validated on construction; flat values in and out. Imports neither torch nor Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, ValidationError, field_validator, model_serializer, model_validator

from hybridep.architectures import ARCHITECTURES, Architecture
from hybridep.datasets import DATASETS
from hybridep.draws import DRAWS, Draw
from hybridep.estimators import ESTIMATORS, Estimator
from hybridep.nudging import Minibatch
from hybridep.policies import FAMILIES, Policy
from hybridep.registry import Entry, Registry, worded
from hybridep.streams import stream

# What a trial's flat configuration may hold beside the values of a TrialConfig: for whoever reads results.
LABELS: Final = ("trial", "strategy", "origin", "seeds", "description")
# Fields that earlier versions did not know, with what they did: study folders and checkpoints that they left hold no value of them.
ADDED: Final[Mapping[str, Any]] = {
    "inputs": "standardised",
    "crops": "black",
    "decay_epochs": None,
    "precision": "float32",
    "start": "zeros",
}
# Of adaptive relaxation, where a protocol has none of its own: tight enough for every network of the thesis but MNIST's, whose fixed steps
# converge to the last bits.
DEFAULT_TOLERANCE: Final = 1e-4

# Beyond these, something that a number is used for later could not hold it. A float, of which TensorBoard and the report's page make use,
# tells all seeds up to this one apart; updates and steps of the longest training are counted without loss, and memory holds its p_std.
MOST_SEED: Final = 2**53 - 1
MOST_EPOCHS: Final = 10_000
MOST_STEPS: Final = 10_000
MOST_IMAGES: Final = 10**9
BETA_RANGE: Final = (1e-12, 1e6)
TOLERANCE_RANGE: Final = (1e-15, 1e3)
LEAST: Final = 1e-12
LARGEST: Final = 1e6
MOST_RATE: Final = 1e38  # of float32


class InvalidInput(ValueError):
    """A user's mistake, told in one line that names the argument, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a value may hold line feeds


def require_gpu(precision: str, why: str) -> None:
    """InvalidInput where a precision is one of GPUs alone; `why` says that there is none."""
    if precision != "float32":
        raise InvalidInput(f"--precision {precision}: needs a GPU ({why})")


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error as `field value: what is allowed`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{field} {first['input']!r}: {message}" if field else message) + more


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values, perhaps of an earlier version, with what it did where it had no field."""
    return {**ADDED, **values}


@dataclass(frozen=True)
class Slot:
    """A place of TrialConfig that holds an entry: in a flat dictionary its name stands under `key`, its fields under their names behind
    `prefix`. What stands in a slot that is `searched` is a part of the strategy, elsewhere of the protocol."""

    key: str
    registry: Registry[Any]
    prefix: str = ""

    def fields_of(self, name: str) -> dict[str, str]:
        """The fields of an entry: their flat names, each with its own."""
        return {self.prefix + field: field for field in self.registry[name].model_fields}

    def known(self) -> set[str]:
        """The flat names of all entries' fields."""
        return {field for name in self.registry for field in self.fields_of(name)}


# By the name of TrialConfig's field.
SLOTS: Final[Mapping[str, Slot]] = {
    "network": Slot("network", ARCHITECTURES),
    "policy": Slot("family", FAMILIES),
    "cheap": Slot("cheap", ESTIMATORS, "cheap_"),
    "accurate": Slot("accurate", ESTIMATORS, "accurate_"),
    "draw": Slot("draw", DRAWS, "draw_"),
}
_STANDING: Final = {"network": "mlp", "family": "constant", "cheap": "standard", "accurate": "centered", "draw": "bernoulli"}


class TrialConfig(BaseModel):
    """One strategy under one protocol (the rows of thesis Tables 4 and 5), on one seed.

    It is made from flat values, `TrialConfig.create(family="cosine", skew=0.5, cheap="part", cheap_part=0.5, ...)`, and gives them back
    (`flat`): what Ray, result files and command lines hold. Accuracies, costs and learning curves are functions of this object alone, on
    one machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Data
    dataset: str = "digits"
    train_samples: int | None = Field(
        None, ge=1, le=MOST_IMAGES, description="training images to keep (of data of your own: of every class); all where not given"
    )
    test_samples: int | None = Field(None, ge=1, le=MOST_IMAGES, description="test images to keep, likewise; all where not given")
    validation: int = Field(0, ge=0, le=MOST_IMAGES, description="training images held out for validation, drawn once for all seeds")
    inputs: Literal["standardised", "unit"] = Field(
        "standardised", description="what pixels become: less the data's mean, by its standard deviation; or numbers in [0, 1] as they are"
    )
    std_factor: float = Field(1.0, ge=LEAST, le=LARGEST, description="inputs are divided by this many standard deviations")
    augment: bool = Field(False, description="random crop with 4 pixels of padding and horizontal flip (thesis section 3.4)")
    crops: Literal["black", "edge"] = Field("black", description="what augment pads with: black, or the pixels at the edge of the image")

    network: Architecture

    # Strategy
    policy: Policy
    per: Literal["epoch", "update"] = Field("epoch", description="p_std is held constant within an epoch (thesis) or an update")
    cheap: Estimator
    accurate: Estimator
    draw: Draw
    grain: Literal["minibatch", "sample"] = Field("minibatch", description="what is drawn: whole minibatches (thesis) or single samples")

    # Nudge and relaxation
    beta: float = Field(1.0, ge=BETA_RANGE[0], le=BETA_RANGE[1], description="nudge strength β")
    relaxation: Literal["fixed", "adaptive"] = Field("fixed", description="T1 and T2 steps (thesis), or until each sample is at rest")
    T1: int = Field(30, ge=1, le=MOST_STEPS, description="free-phase steps; the most allowed where relaxation is adaptive")
    T2: int = Field(10, ge=1, le=MOST_STEPS, description="nudged-phase steps; the most allowed where relaxation is adaptive")
    tolerance: float | None = Field(
        None,
        ge=TOLERANCE_RANGE[0],
        le=TOLERANCE_RANGE[1],
        description="adaptive: a sample has converged when no unit moves by more in a step",
    )
    start: Literal["zeros", "last"] = Field(
        "zeros", description="where free phases start: zeros (thesis), or the last epoch's equilibrium of the same image"
    )

    # Optimizer
    epochs: int = Field(15, ge=1, le=MOST_EPOCHS, description="passes over the training images")
    batch_size: int = Field(32, ge=1, le=MOST_IMAGES, description="training images of an update")
    learning_rates: tuple[float, ...] = Field((0.05,), description="one for all layers, or one per layer, input side first")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, le=LARGEST, description="of SGD")
    eta_min: float = Field(1e-5, ge=0, le=MOST_RATE, description="learning rate that the cosine decay ends on")
    decay_epochs: int | None = Field(
        None, ge=1, le=MOST_EPOCHS, description="epochs from full learning rates to eta_min; as many as there are where not given"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs over which learning rates rise to their full values")

    seed: int = Field(0, ge=0, le=MOST_SEED)
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of training")
    precision: Literal["float32", "tf32"] = Field(
        "float32", description="of products on a GPU: tf32 rounds their factors for tensor cores, but in a phase's last steps"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, values: Any) -> Any:
        """Entries from their names and fields; one learning rate may be a plain number; adaptive relaxation has a tolerance anyway."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("learning_rates"), (int, float)):
            values["learning_rates"] = (values["learning_rates"],)
        if values.get("relaxation") == "adaptive" and values.get("tolerance") is None:
            values["tolerance"] = DEFAULT_TOLERANCE
        made: dict[str, Entry] = {}
        for field, slot in SLOTS.items():
            given = values.pop(field, None) if field != slot.key and isinstance(values.get(field), Entry) else values.pop(slot.key, None)
            made[field] = given if isinstance(given, Entry) else _entry(slot, given, values)
        for name in [name for name in values if values[name] is None and any(name in slot.known() for slot in SLOTS.values())]:
            del values[name]  # not given, of an entry that was not chosen
        for field, slot in SLOTS.items():
            for name in values.keys() & slot.known():
                entry = made[field]
                own = ", ".join(slot.prefix + own for own in type(entry).model_fields)
                raise ValueError(
                    f"{name} {worded(values[name])}: {slot.registry.kind} {entry.name} takes {f'only {own}' if own else 'no parameters'}"
                )
        return {**values, **made}

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value not in DATASETS:
            raise ValueError(f"must be one of {', '.join(DATASETS)}")
        return value

    @field_validator("learning_rates")
    @classmethod
    def _no_negative_rate(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 <= rate <= MOST_RATE for rate in value):
            raise ValueError(f"learning rates must be 0 to {MOST_RATE:g}, one for all layers or one per layer")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        layers = self.network.connections(DATASETS[self.dataset])
        if len(self.learning_rates) not in (1, layers):
            rates = worded_exactly(self.learning_rates)
            raise ValueError(f"learning_rates {rates} has {len(self.learning_rates)} entries, must have 1 or {layers}, one per layer")
        if self.relaxation == "fixed" and self.tolerance is not None:
            raise ValueError(f"tolerance {self.tolerance} applies to relaxation=adaptive only")
        if self.start == "last" and self.augment:
            raise ValueError("start last: must be zeros with augment, under which an image is another one in every epoch")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be less than epochs {self.epochs}")
        if self.precision == "tf32" and self.dtype != "float32":
            raise ValueError(f"precision tf32: rounds the factors of products in float32, dtype {self.dtype} must be float32")
        if self.grain not in self.draw.grains:
            raise ValueError(f"grain {self.grain}: draw {self.draw.name} has only {', '.join(self.draw.grains)}")
        if "agreement" in self.policy.listens_to and not _measures_agreement(self.accurate):
            raise ValueError(
                f"accurate {self.accurate.name}: family {self.policy.name} compares standard with it, must have a phase at +β and others"
            )
        for estimator in (self.cheap, self.accurate):
            if self.grain == "sample" and estimator.refines:
                raise ValueError(f"grain sample: estimator {estimator.name} works on whole minibatches, must be minibatch")
        return self

    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the input and of every layer after it, (channels, height, width) or (units,).

        ValueError names a layer that does not fit.
        """
        return self.network.layer_shapes(DATASETS[self.dataset])

    @classmethod
    def create(cls, **values: Any) -> "TrialConfig":
        """From flat values; a mistake raises InvalidInput with one line."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidInput(one_line(error)) from None

    def replace(self, **values: Any) -> "TrialConfig":
        """A copy with other flat values, validated anew; raises InvalidInput with one line.

        Going over to fixed steps drops the tolerance, going over to another entry the fields that it does not have.
        """
        if values.get("relaxation") == "fixed":
            values = {"tolerance": None, **values}
        own = self.flat()
        for slot in SLOTS.values():
            name = values.get(slot.key, own[slot.key])
            if name != own[slot.key] and name in slot.registry:
                for field in slot.fields_of(own[slot.key]).keys() - slot.fields_of(name).keys():
                    del own[field]
        return self.create(**{**own, **values})

    def flat(self, mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """The values that make it up, by their flat names; with mode json in JSON's types."""
        values: dict[str, Any] = {}
        for name, value in self:
            if name in SLOTS:
                slot = SLOTS[name]
                values[slot.key] = value.name
                values |= {slot.prefix + field: own for field, own in value.model_dump(mode=mode).items()}
            else:
                values[name] = list(value) if mode == "json" and isinstance(value, tuple) else value
        return values

    @model_serializer(mode="plain")
    def _serialised(self, info: SerializationInfo) -> dict[str, Any]:
        """What `model_dump` and `model_dump_json` give: the flat values, which make it up again."""
        return self.flat("json" if info.mode_is_json() else "python")

    def columns(self) -> dict[str, str | int | float | bool | None]:
        """The flat values as they stand in trials.csv: sequences as `784-256-10`, knots as `0:1-0.5:0.2`."""
        return {name: worded_exactly(value) if isinstance(value, tuple) else value for name, value in self.flat().items()}

    def describe(self, protocol: "TrialConfig") -> str:
        """The strategy in words: its policy, and whatever differs from the protocol and from the thesis's pair of estimators."""
        words = [self.policy.describe()]
        if self.per == "update":
            words.append("per update")
        if (self.cheap.name, self.accurate.name) != ("standard", "centered"):
            words.append(f"{self.cheap.describe()} / {self.accurate.describe()}")
        if self.draw.name != "bernoulli":
            words.append(f"{self.draw.describe()} draws")
        if self.grain == "sample":
            words.append("by sample")
        for name, symbol in (("beta", "β"), ("T1", "T1"), ("T2", "T2"), ("tolerance", "tolerance"), ("epochs", "epochs")):
            value = getattr(self, name)
            if value is not None and value != getattr(protocol, name):
                words.append(f"{symbol} = {value:.3g}")
        if self.relaxation != protocol.relaxation:
            words.append(f"{self.relaxation} relaxation")
        if self.start != protocol.start:
            words.append(f"starts from {'the last equilibria' if self.start == 'last' else self.start}")
        return ", ".join(words)


def _measures_agreement(estimator: Estimator) -> bool:
    """Whether standard's estimate can be had from this estimator's states, and is not the same."""
    table = estimator.fresh().nudging(Minibatch(4, 1.0, 0.75, lambda: np.ones(4), lambda: np.arange(4)), stream(0, "samples"))
    return table.one_sided(1.0) is not None and len(set(table.beta.tolist())) > 1


def _entry(slot: Slot, name: Any, values: dict[str, Any]) -> Entry:
    """The entry of that name with its fields taken out of `values`; ValueError in one line that names the flat field."""
    name = _STANDING[slot.key] if name is None else name
    try:
        slot.registry.find(name)
    except ValueError as error:
        raise ValueError(f"{slot.key}{str(error).removeprefix(slot.registry.kind)}") from None
    own_fields = slot.registry[name].model_fields
    given = {own: values.pop(flat) for flat, own in slot.fields_of(name).items() if flat in values}
    fields = {own: value for own, value in given.items() if value is not None or type(None) in get_args(own_fields[own].annotation)}
    if missing := [own for own, info in own_fields.items() if info.is_required() and own not in fields]:
        raise ValueError(f"{slot.prefix}{missing[0]} None: must be given for {slot.registry.kind} {name}")
    try:
        made: Entry = slot.registry[name].create(**fields)
    except ValueError as error:
        raise ValueError(f"{slot.prefix}{error}") from None
    return made


def worded_exactly(values: tuple[Any, ...]) -> str:
    """A sequence in one word, every digit kept: `784-256-10`, `0:1.0-0.5:0.25`."""
    return "-".join(":".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)
