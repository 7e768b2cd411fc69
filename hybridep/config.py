"""`TrialConfig`: everything that determines a trial, validated on construction; JSON in and out. Imports neither torch nor Ray."""

from math import prod
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hybridep.datasets import DATASETS
from hybridep.estimators import ESTIMATORS
from hybridep.schedules import FAMILIES, Schedule, make_schedule
from hybridep.strategy import DRAWS

Activation = Literal["tanh", "sigmoid", "hard_sigmoid", "unit_hard_sigmoid", "centered_hard_sigmoid"]


# Of adaptive relaxation, where a protocol has none of its own: tight enough for every network of the thesis but MNIST's, whose fixed steps
# converge to the last bits.
DEFAULT_TOLERANCE: Final = 1e-4


class InvalidInput(ValueError):
    """A user's mistake, told in one line that names the argument, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a value may hold line feeds


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error as `field value: what is allowed`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{field} {first['input']!r}: {message}" if field else message) + more


def _one_of(value: str, names: Any) -> str:
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return value


class TrialConfig(BaseModel):
    """One strategy under one protocol (the rows of thesis Tables 4 and 5), on one seed.

    Accuracies, costs and learning curves are functions of this object alone, on one machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Data
    dataset: str = "digits"
    train_samples: int | None = Field(
        None, ge=1, description="training images to keep (of data of your own: of every class); all where not given"
    )
    test_samples: int | None = Field(None, ge=1, description="test images to keep, likewise; all where not given")
    validation: int = Field(0, ge=0, description="training images held out for validation, drawn once for all seeds")
    std_factor: float = Field(1.0, gt=0, description="inputs are divided by this many standard deviations")
    augment: bool = Field(False, description="random crop with 4 pixels of padding and horizontal flip (thesis section 3.4)")

    # Network
    network: Literal["mlp", "conv"] = "mlp"
    sizes: tuple[int, ...] = Field(
        (64, 128, 10), description="mlp: input, hidden and output units; conv: the fully connected layers on top, output last"
    )
    channels: tuple[int, ...] = Field((), description="conv: feature maps of each convolution")
    kernel: int = Field(3, ge=1)
    stride: int = Field(1, ge=1)
    padding: int = Field(1, ge=0)
    pooling: Literal["max", "average", "none"] = "max"
    activation: Activation = "tanh"
    init_gain: float = Field(0.5, gt=0, description="factor on PyTorch's default initial weights and biases")
    cost: Literal["mse", "cross_entropy"] = "mse"

    # Strategy
    family: str = "constant"
    skew: float | None = Field(0.5, ge=0, le=1, description="mean of p_std over training; None only for piecewise knots as they are")
    rising: bool | None = Field(None, description="linear, step, exponential, cyclic_cosine: p_std grows over training instead of falling")
    cycles: int | None = Field(None, ge=1, description="cyclic_cosine: number of restarts")
    knots: tuple[tuple[float, float], ...] | None = Field(None, description="piecewise: (progress, p_std) pairs")
    per: Literal["epoch", "update"] = Field("epoch", description="p_std is held constant within an epoch (thesis) or an update")
    cheap: str = "standard"
    accurate: str = "centered"
    draw: str = "bernoulli"

    # Nudge and relaxation
    beta: float = Field(1.0, gt=0, description="nudge strength β")
    relaxation: Literal["fixed", "adaptive"] = "fixed"
    T1: int = Field(30, ge=1, description="free-phase steps; the most allowed where relaxation is adaptive")
    T2: int = Field(10, ge=1, description="nudged-phase steps; the most allowed where relaxation is adaptive")
    tolerance: float | None = Field(None, gt=0, description="adaptive: a sample has converged when no unit moves by more in a step")

    # Optimizer
    epochs: int = Field(15, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rates: tuple[float, ...] = Field((0.05,), description="one for all layers, or one per layer, input side first")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    eta_min: float = Field(1e-5, ge=0, description="learning rate that the cosine decay ends on")
    warmup_epochs: int = Field(0, ge=0)

    seed: int = Field(0, ge=0)
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, values: Any) -> Any:
        """One learning rate may be given as a plain number; adaptive relaxation has a tolerance even if none is given."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("learning_rates"), (int, float)):
            values = {**values, "learning_rates": (values["learning_rates"],)}
        if values.get("relaxation") == "adaptive" and values.get("tolerance") is None:
            values = {**values, "tolerance": DEFAULT_TOLERANCE}
        return values

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        return _one_of(value, DATASETS)

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        return _one_of(value, FAMILIES)

    @field_validator("cheap", "accurate")
    @classmethod
    def _known_estimator(cls, value: str) -> str:
        return _one_of(value, ESTIMATORS)

    @field_validator("draw")
    @classmethod
    def _known_draw(cls, value: str) -> str:
        return _one_of(value, DRAWS)

    @field_validator("learning_rates")
    @classmethod
    def _no_negative_rate(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(rate < 0 for rate in value):
            raise ValueError("learning rates must be 0 or more, one for all layers or one per layer")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.schedule()
        info = DATASETS[self.dataset]
        shapes = self.layer_shapes()
        layers = len(shapes) - 1
        if len(self.learning_rates) not in (1, layers):
            rates = _dashed(self.learning_rates)
            raise ValueError(f"learning_rates {rates} has {len(self.learning_rates)} entries, must have 1 or {layers}, one per layer")
        if self.sizes[-1] != info.classes:
            raise ValueError(f"sizes {_dashed(self.sizes)} ends in {self.sizes[-1]}, but {self.dataset} has {info.classes} classes")
        if self.relaxation == "fixed" and self.tolerance is not None:
            raise ValueError(f"tolerance {self.tolerance} applies to relaxation=adaptive only")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be less than epochs {self.epochs}")
        return self

    def schedule(self) -> Schedule:
        """p_std as a function of progress."""
        return make_schedule(self.family, skew=self.skew, rising=self.rising, cycles=self.cycles, knots=self.knots)

    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the input and of every layer after it, (channels, height, width) or (units,).

        ValueError names a layer that does not fit.
        """
        info = DATASETS[self.dataset]
        if not self.sizes:
            raise ValueError("sizes () must name the output at least")
        for name, counts in (("sizes", self.sizes), ("channels", self.channels)):
            if any(count < 1 for count in counts):
                raise ValueError(f"{name} {_dashed(counts)} must be 1 or more each")
        if self.network == "mlp":
            pixels = prod(info.shape)
            if self.channels:
                raise ValueError(f"channels {_dashed(self.channels)} applies to network=conv only")
            if len(self.sizes) < 3:
                raise ValueError(f"sizes {_dashed(self.sizes)} must name the input, at least one hidden layer and the output")
            if self.sizes[0] != pixels:
                raise ValueError(f"sizes {_dashed(self.sizes)} starts with {self.sizes[0]}, but {self.dataset} has {pixels} pixels")
            return [(size,) for size in self.sizes]
        if not self.channels:
            raise ValueError("channels () must name the feature maps of at least one convolution when network=conv")
        shapes: list[tuple[int, ...]] = [info.shape]
        for number, maps in enumerate(self.channels, start=1):
            _, *sides = shapes[-1]
            layer = f"convolution {number}"
            if any(side + 2 * self.padding < self.kernel for side in sides):
                raise ValueError(f"{layer}: kernel {self.kernel} is larger than its input {_by(sides)} with padding {self.padding}")
            convolved = [(side + 2 * self.padding - self.kernel) // self.stride + 1 for side in sides]
            pooled = convolved if self.pooling == "none" else [side // 2 for side in convolved]
            if any(side < 1 for side in pooled):
                raise ValueError(f"{layer}: its {_by(convolved)} feature map pools to nothing")
            shapes.append((maps, *pooled))
        return shapes + [(size,) for size in self.sizes]

    @classmethod
    def create(cls, **values: Any) -> "TrialConfig":
        """Like the constructor, but a mistake raises InvalidInput with one line."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidInput(one_line(error)) from None

    def replace(self, **values: Any) -> "TrialConfig":
        """A copy with other values, validated anew; raises InvalidInput with one line. Going over to fixed steps drops the tolerance."""
        if values.get("relaxation") == "fixed":
            values = {"tolerance": None, **values}
        return self.create(**{**self.model_dump(), **values})

    def columns(self) -> dict[str, str | int | float | bool | None]:
        """The fields as they stand in trials.csv: sequences as `784-256-10`, knots as `0:1-0.5:0.2`."""
        return {name: _dashed(value) if isinstance(value, tuple) else value for name, value in self.model_dump().items()}


def _dashed(values: tuple[Any, ...]) -> str:
    return "-".join(":".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)


def _by(sides: list[int]) -> str:
    return "×".join(map(str, sides))
