"""`Trainer`: one trial on one seed, epoch by epoch: draws, relaxation, updates, evaluation, cost ledger and a complete state."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridep.captured import CapturedPhases, PlainPhases
from hybridep.collapse import collapsed
from hybridep.config import TrialConfig, require_gpu
from hybridep.datasets import Dataset, split
from hybridep.descent import rising_share
from hybridep.diagnostics import agreement
from hybridep.images import Crops, Images
from hybridep.kernels import numpy_on_one_thread
from hybridep.mixture import Mixture, exactly
from hybridep.networks import make_network
from hybridep.nudging import Floats, Minibatch, Nudging, Rows
from hybridep.phases import States, weigh, with_free
from hybridep.policies import Seen
from hybridep.relaxation import Adaptive, FixedSteps, Relaxation
from hybridep.starts import make_starts
from hybridep.streams import stream

# Where the energy of more than this share of the samples does not fall, the step size is too large, and nothing can be learned.
MOST_RISING = 0.5
EVALUATION_BATCH = 256
HISTOGRAM_BINS = 32

Row = dict[str, float | int | bool]
# The classes that a network names for some images, and their labels, [N] each.
Predictions = tuple[NDArray[np.int64], NDArray[np.int64]]


def _mean(values: list[float]) -> float:
    """Of those that were measured; NaN where none was."""
    measured = [value for value in values if not math.isnan(value)]
    return math.fsum(measured) / len(measured) if measured else math.nan


def make_relaxation(config: TrialConfig) -> Relaxation:
    """The policy that a configuration names."""
    if config.relaxation == "fixed":
        return FixedSteps(config.T1, config.T2, tensor_cores=config.precision == "tf32")
    assert config.tolerance is not None
    return Adaptive(config.tolerance, config.T1, config.T2, tensor_cores=config.precision == "tf32")


def learning_rate(base: float, epoch: int, config: TrialConfig) -> float:
    """The rate of epoch 0, 1, …: linear warm-up, then cosine decay from `base` towards eta_min, where it stays."""
    if epoch < config.warmup_epochs:
        return base * (epoch + 1) / (config.warmup_epochs + 1)
    decay = config.epochs - config.warmup_epochs if config.decay_epochs is None else config.decay_epochs
    progress = min(1.0, (epoch - config.warmup_epochs) / decay)
    low = min(config.eta_min, base)
    return low + (base - low) * 0.5 * (1 + math.cos(math.pi * progress))


def accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Fraction of the samples that are named rightly; NaN where there are none."""
    return float(np.mean(predicted == labels)) if len(labels) else math.nan


def _with_nudged(seen: Tensor, steps: Tensor, n: int) -> Tensor:
    """What an update returns: what was seen of its free phase, and after the first number the mean steps of the nudged rows."""
    return torch.cat([seen[:1], (steps.sum() / n)[None], seen[1:]])


def _with_plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """The same whichever device it comes from."""
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
    return state


class Trainer:
    """Trains one configuration on a dataset.

    `epoch` counts the finished epochs. `diverged` tells that a weight is no longer finite: such a trial has collapsed and its remaining
    epochs change nothing. ValueError where the splits that the configuration asks for do not fit the dataset, InvalidInput where the device
    does not have its precision. `beside` is a trainer of the same data and device: both then hold one copy of the images.
    """

    def __init__(self, config: TrialConfig, dataset: Dataset, device: str = "cpu", beside: "Trainer | None" = None) -> None:
        if not device.startswith("cuda"):
            require_gpu(config.precision, f"the trainer is on {device}")
        self.config = config
        like = torch.empty(0, dtype=getattr(torch, config.dtype), device=device)
        self._take_images(dataset, like, beside)
        self.updates_per_epoch = math.ceil(len(self.train_rows) / config.batch_size)
        self.network = make_network(config, stream(config.seed, "initialisation"), like)
        self.mixture = Mixture(config.cheap, config.accurate, config.draw, config.grain, config.seed)
        self.policy = config.policy.fresh()
        self.policy.begin(config.epochs, self.updates_per_epoch, config.per)
        self.order = stream(config.seed, "order")
        self.augmentation = stream(config.seed, "augmentation")
        rates = config.learning_rates
        self.base_rates = rates * self.network.layers if len(rates) == 1 else rates
        self.optimizer = torch.optim.SGD(
            [{"params": self.network.parameters[2 * layer : 2 * layer + 2], "lr": rate} for layer, rate in enumerate(self.base_rates)],
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._lay_out_gradients()
        example, _ = self.images.batch(self.train_rows[:1])
        self.starts = make_starts(config, self.network, len(self.train_rows), self.network.input_drive(example))
        self.phases: PlainPhases | CapturedPhases = PlainPhases(self.network, make_relaxation(config), self.starts)
        if like.is_cuda and config.start == "zeros":
            self.phases = CapturedPhases(self.network, self.relaxation, example)
            self._let_be_captured()
        self._measured: list[Seen] = []
        self._probabilities: list[float] = []
        self.epoch = 0
        self.free_steps = 0.0
        self.nudged_steps = 0.0

    def _take_images(self, dataset: Dataset, like: Tensor, beside: "Trainer | None") -> None:
        self.images: Images
        self.test_images: Images
        self.train_rows: Tensor
        self.validation_rows: Tensor
        self.test_rows: Tensor
        if beside is not None:
            self.images, self.test_images = beside.images, beside.test_images
            self.train_rows, self.validation_rows, self.test_rows = beside.train_rows, beside.validation_rows, beside.test_rows
            return
        config = self.config
        splits = split(dataset, config.validation, config.train_samples, config.test_samples)

        def images(pixels: np.ndarray, labels: np.ndarray) -> Images:
            return Images(pixels, labels, dataset.info, config, like)

        self.images = images(dataset.train_images, dataset.train_labels)
        self.test_images = images(dataset.test_images, dataset.test_labels)
        self.train_rows, self.validation_rows, self.test_rows = (
            torch.from_numpy(np.array(rows)).to(like.device) for rows in (splits.train, splits.validation, splits.test)
        )

    def _lay_out_gradients(self) -> None:
        for parameter in self.network.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lay_out_gradients()  # pickled tensors leave theirs behind, and an optimizer passes over parameters without

    @property
    def relaxation(self) -> Relaxation:
        return self.phases.relaxation

    @property
    def diverged(self) -> bool:
        return not all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters)

    @numpy_on_one_thread
    @torch.no_grad()
    def train_epoch(self) -> Row:
        """Train one epoch, evaluate, and report the columns of a result file; costs are cumulative, residual and loss are this epoch's."""
        started = time.perf_counter()
        order, rates = self.begin_epoch()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        rows = torch.from_numpy(order).to(self.train_rows.device)
        sums = torch.stack([self._update(batch) for batch in rows.split(self.config.batch_size)]).double().sum(dim=0).tolist()
        held_out = self._predictions(self.images, self.validation_rows)
        tested = self._predictions(self.test_images, self.test_rows)
        return {**self.end_epoch(sums, held_out, tested), "epoch_seconds": time.perf_counter() - started}

    def begin_epoch(self) -> tuple[NDArray[np.int64], list[float]]:
        """The order of the training images in the next epoch, as places in `train_rows`, and the learning rate of each layer."""
        if self.epoch >= self.config.epochs:
            raise RuntimeError(f"all {self.config.epochs} epochs are trained")
        self._measured, self._probabilities = [], []
        rates = [learning_rate(base, self.epoch, self.config) for base in self.base_rates]
        return self.order.permutation(len(self.train_rows)), rates

    def end_epoch(self, sums: list[float], held_out: Predictions, tested: Predictions) -> Row:
        """Count an epoch of which all updates are made; its columns but the seconds.

        `sums` over its updates are what `_update` returns; what the network now predicts comes with the labels.
        """
        free_steps, nudged_steps, correct, loss, residual, saturation = sums
        rising = rising_share(self.network, self.relaxation, self.test_images.batch(self.test_rows[:EVALUATION_BATCH])[0])
        self.free_steps += free_steps
        self.nudged_steps += nudged_steps
        self.epoch += 1
        n = len(self.train_rows)
        return {
            "epoch": self.epoch,
            "updates": self.mixture.updates,
            "p_std": float(np.mean(self._probabilities)),
            "cheap_updates": exactly(self.mixture.cheap_updates),
            "nudged_phases": exactly(self.mixture.nudged_phases),
            "free_steps": self.free_steps,
            "nudged_steps": self.nudged_steps,
            "longest_cheap_run": self.mixture.longest_cheap_run,
            "train_acc": correct / n,
            "val_acc": accuracy(*held_out),
            "test_acc": accuracy(*tested),
            "train_loss": loss / n,
            "free_residual": residual / n,
            "saturation": saturation / n,
            "agreement": _mean([seen.agreement for seen in self._measured]),
            "relative_bias": _mean([seen.relative_bias for seen in self._measured]),
            "collapsed": self.diverged or rising > MOST_RISING or collapsed(*(held_out if len(self.validation_rows) else tested)),
            "learning_rate": learning_rate(self.base_rates[0], self.epoch - 1, self.config),
            **({"energy_rises": rising} if self.network.descends else {}),
        }

    def _update(self, batch: Tensor) -> Tensor:
        """One minibatch, in pieces that a GPU replays.

        Returns free and nudged steps (means over the batch), then sums: correct, loss, free residual, saturation.
        """
        phases, n = self.phases, len(batch)
        crops = Crops(n, self.augmentation, torch.device("cpu"), self.config.crops) if self.config.augment else None

        def begin(batch: Tensor, *drawn: Tensor) -> list[Tensor]:
            chosen = self.train_rows[batch]
            x, labels = self.images.batch(chosen, None if crops is None else crops.at(*drawn))
            return [chosen, x, labels, self.images.one_hot(labels), self.network.input_drive(x)]

        def look(labels: Tensor, target: Tensor, steps: Tensor, residual: Tensor, *state: Tensor) -> list[Tensor]:
            losses = self.network.loss(list(state), target)
            correct = (self.network.scores(list(state)).argmax(dim=1) == labels).sum()
            saturation = self.network.saturation(list(state)) * n
            return [losses, torch.stack([steps.sum() / n, correct, losses.sum(), residual.sum(), saturation])]

        drawn = [] if crops is None else [crops.offsets, crops.flipped]
        chosen, x, labels, target, drive = phases.replays(("begin", n), begin, batch, *drawn)
        free = phases.free(drive, batch)
        losses, seen = phases.replays(("look", n), look, labels, target, free.steps, free.residual, *free.state)
        nudging, accurate = self.draw(n, lambda: losses.cpu().numpy(), lambda: chosen.cpu().numpy())
        states = States(free, phases.nudged(nudging, drive, target, free))
        if nudging.phases is None or self.policy.listens_to or self.mixture.listens or self.mixture.refines:
            gradient = weigh(self.network, nudging, x, states, target)
            self._listen(nudging, accurate, gradient, x, states, target)
            self._descend(self.mixture.refine(gradient))
            return _with_nudged(seen, states.nudged.steps, n)

        def learn(table: Tensor, x: Tensor, target: Tensor, seen: Tensor, steps: Tensor, *states: Tensor) -> list[Tensor]:
            blocks = len(free.state)
            state = list(states[:blocks])
            if nudging.free_weight is not None:
                state = [torch.cat([own, others]) for own, others in zip(states[blocks:], state, strict=True)]
            self._descend(self.network.gradient(x, state, target, *table))
            return [_with_nudged(seen, steps, n)]

        table = torch.from_numpy(np.stack(with_free(nudging)))
        key = ("learn", n, nudging.phases, nudging.free_weight is not None)
        found = states.nudged
        inputs = (x, target, seen, found.steps, *found.state, *free.state)
        return phases.replays(key, learn, table, *inputs, writes=self._written)[0].clone()

    def _descend(self, gradient: list[Tensor]) -> None:
        for parameter, direction in zip(self.network.parameters, gradient, strict=True):
            # Into a gradient laid out like its parameter: the fused optimizer reads both as flat memory.
            torch.neg(direction, out=parameter.grad)
        self.optimizer.step()
        self.network.refresh()

    def _written(self) -> list[Tensor]:
        """All that an update changes."""
        momenta = [state["momentum_buffer"] for state in self.optimizer.state.values() if state.get("momentum_buffer") is not None]
        gradients = [parameter.grad for parameter in self.network.parameters if parameter.grad is not None]
        return [*self.network.parameters, *momenta, *gradients, *self.network.derived()]

    def _let_be_captured(self) -> None:
        """Rates as tensors, and momenta from the beginning: a graph reads and writes what stays at its place."""
        self.phases.forget()
        for group in self.optimizer.param_groups:
            parameters = group["params"]
            # PyTorch's fused kernels for GPUs read a float32, whatever the network's precision.
            kind = torch.float32 if parameters[0].is_cuda else parameters[0].dtype
            group["lr"] = torch.tensor(float(group["lr"]), dtype=kind, device=parameters[0].device)
            for parameter in parameters if group["momentum"] else []:
                if self.optimizer.state[parameter].get("momentum_buffer") is None:
                    self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def draw(self, n: int, losses: Callable[[], Floats], samples: Callable[[], Rows]) -> tuple[Nudging, Nudging | None]:
        """The table of the next update, on n samples, and what of it is the accurate estimate.

        `losses` gives ℓ of their free states, [n], and `samples` which training images they are, [n], to estimators that ask.
        """
        p_std = self.policy.p_std(self.mixture.updates)
        self._probabilities.append(p_std)
        dtype = np.float32 if self.config.dtype == "float32" else np.float64
        return self.mixture.nudging(p_std, Minibatch(n, self.config.beta, losses=losses, samples=samples, dtype=dtype))

    def _listen(
        self, nudging: Nudging, accurate: Nudging | None, gradient: list[Tensor], x: Tensor, states: States, target: Tensor
    ) -> None:
        """Tell the policy and the estimators what they want to hear of this update; measuring costs nothing where none does."""
        listens_to = self.policy.listens_to
        if not (listens_to or self.mixture.listens):
            return
        seen = Seen(residual=float(states.free.residual.mean()) if "residual" in listens_to else math.nan)
        one_sided = accurate.one_sided(self.config.beta) if accurate is not None else None
        if accurate is not None and one_sided is not None and ("agreement" in listens_to or self.mixture.listens):
            exact = gradient if accurate is nudging else weigh(self.network, accurate, x, states, target)
            cheap = weigh(self.network, one_sided, x, states, target)
            found = agreement(cheap, exact)
            seen = replace(seen, agreement=found.cosine, relative_bias=found.relative_error)
            if accurate is nudging:
                self.mixture.hear(cheap, exact)
        self._measured.append(seen)
        self.policy.hear(seen)

    @property
    def nudged_phases_ahead(self) -> float:
        """The nudged phases that the rest of training can be expected to take."""
        done = self.epoch * self.updates_per_epoch
        cheap = self.policy.expected(done)
        accurate = self.config.epochs * self.updates_per_epoch - done - cheap
        return cheap * self.mixture.cheap.nudged_phases + accurate * self.mixture.accurate.nudged_phases

    def _predictions(self, images: Images, rows: Tensor) -> Predictions:
        named = [self._named(images, batch) for batch in rows.split(EVALUATION_BATCH) if len(batch)]
        labels = images.labels[rows].cpu().numpy()
        return torch.cat(named).cpu().numpy() if named else labels, labels

    def _named(self, images: Images, rows: Tensor) -> Tensor:
        phases = self.phases
        key = ("predict", images is self.images, len(rows))
        drive = phases.replays(key, lambda rows: [self.network.input_drive(images.batch(rows)[0])], rows)[0]
        return self.network.scores(phases.free(drive).state).argmax(dim=1)

    @torch.no_grad()
    def activations(self) -> list[list[int]]:
        """Histogram of each layer's units at the free equilibria of the first test images, [layers, HISTOGRAM_BINS].

        Counts over equal parts of what the activation can reach, from `network.lowest` to `network.highest`; units lost to NaN are in none.
        """
        x, _ = self.test_images.batch(self.test_rows[:EVALUATION_BATCH])
        drive = self.network.input_drive(x)
        free = self.relaxation.free(self.network.bind(drive, self.network.zeros(drive), at_rest=True))
        bounds = self.network.lowest, self.network.highest
        layers = self.network.layer_states(free.state)
        return [torch.histc(layer.float(), HISTOGRAM_BINS, *bounds).int().tolist() for layer in layers]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of training depends on, as it is now: plain numbers, strings, lists, dicts and tensors."""
        return {
            "epoch": self.epoch,
            "free_steps": self.free_steps,
            "nudged_steps": self.nudged_steps,
            "parameters": [parameter.clone() for parameter in self.network.parameters],
            # The optimizer gives, and takes, its very buffers: training on would change a state that was kept.
            "optimizer": _with_plain_rates(copy.deepcopy(self.optimizer.state_dict())),
            "mixture": self.mixture.state_dict(),
            "policy": self.policy.state_dict(),
            "starts": self.starts.state_dict(),
            "order": self.order.bit_generator.state,
            "augmentation": self.augmentation.bit_generator.state,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave, under the same configuration; bit for bit as if never stopped."""
        self.epoch, self.free_steps, self.nudged_steps = state["epoch"], state["free_steps"], state["nudged_steps"]
        for parameter, saved in zip(self.network.parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
        self.network.refresh()
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if isinstance(self.phases, CapturedPhases):
            self._let_be_captured()
        self.mixture.load_state_dict(state["mixture"])
        self.policy.load_state_dict(state["policy"])
        self.starts.load_state_dict(state.get("starts", {}))
        self.order.bit_generator.state = state["order"]
        self.augmentation.bit_generator.state = state["augmentation"]
