"""`StackTrainer`: many trials whose networks have one shape, trained together, as a GPU does nearly as fast as one of them."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridep.captured import CapturedPhases
from hybridep.config import TrialConfig
from hybridep.images import Images
from hybridep.kernels import numpy_on_one_thread
from hybridep.networks import Dynamics
from hybridep.nudging import Floats, Nudging
from hybridep.nudging import Rows as Places
from hybridep.trainer import EVALUATION_BATCH, Row, Trainer

# What networks of one stack have in common; all else, their seeds, strategies, rates and lengths, is each one's own.
SHARED: Final = ("dataset", "train_samples", "test_samples", "validation", "inputs", "std_factor", "network", "relaxation", "T1", "T2")
SHARED_TOO: Final = ("tolerance", "batch_size", "dtype", "precision")


def stackable(configs: Sequence[TrialConfig]) -> bool:
    """Whether these trials can be trained as one stack.

    Not stacked are networks without batched products, starts from the last equilibria, augmented images, and strategies that hear of each
    update, for that waits for the device.
    """
    return len({shape_of(config) for config in configs}) == 1 and all(map(_alone_in_its_update, configs))


def shape_of(config: TrialConfig) -> str:
    """All that networks of one stack have in common, in words that are equal where it is."""
    values = {name: getattr(config, name) for name in (*SHARED, *SHARED_TOO)}
    network = {name: value for name, value in config.network if name != "init_gain"}
    return repr({**values, "network": (config.network.name, network)})


def _alone_in_its_update(config: TrialConfig) -> bool:
    estimators = (config.cheap, config.accurate)
    hears = bool(config.policy.listens_to) or any(estimator.listens or estimator.refines for estimator in estimators)
    return config.network.stacks and config.start == "zeros" and not config.augment and not hears


def grouped(configs: Sequence[TrialConfig], most: int) -> list[list[int]]:
    """The places of these trials in stacks of at most `most`, as even as they come; those that cannot be stacked are alone."""
    shapes: dict[str, list[int]] = {}
    alone = []
    for place, config in enumerate(configs):
        if _alone_in_its_update(config):
            shapes.setdefault(shape_of(config), []).append(place)
        else:
            alone.append([place])
    stacks = []
    for places in shapes.values():
        count = -(-len(places) // most)
        stacks += [list(map(int, part)) for part in np.array_split(places, count)]
    return stacks + alone


class StackTrainer:
    """Trains one epoch after the other of several trainers, whose configurations are `stackable`, on their device.

    Between epochs the trainers are what they would be if each had trained alone, to rounding: their states can be saved, loaded and
    changed. An epoch that fails leaves weights as they were, but not the trainers' draws. Adaptive relaxation goes by blocks on every
    device: samples that have converged are held, whichever network is theirs, until the last one has.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        configs = [trainer.config for trainer in trainers]
        if not stackable(configs):
            raise ValueError("these trials cannot be trained as one stack: their networks, data or relaxation differ, or something listens")
        self.trainers = trainers
        first = trainers[0]
        self.batch_size = first.config.batch_size
        self.device = first.train_rows.device
        like = torch.empty(0, dtype=getattr(torch, first.config.dtype), device=self.device)
        self.network = first.config.network.make_stack(len(trainers), like)
        self.momenta = [torch.zeros_like(parameter) for parameter in self.network.parameters]
        self.rates = like.new_zeros(self.network.layers, len(trainers))
        self.momentum = like.new_tensor([config.momentum for config in configs])
        self.weight_decay = like.new_tensor([config.weight_decay for config in configs])
        example, _ = first.images.batch(first.train_rows[:1].repeat(len(trainers)))
        self.phases = CapturedPhases(self.network, first.relaxation, example)
        self.replays = self.phases.replays
        self._pinned = self.device.type == "cuda"

    @numpy_on_one_thread
    @torch.no_grad()
    def train_epoch(self) -> list[Row]:
        """Train an epoch of each trial; the rows that their trainers would give alone, but for the seconds.

        Each network is charged an equal part of the stack's seconds, so that the sum over trials is the time that passed.
        """
        started = time.perf_counter()
        self._collect()
        begun = [trainer.begin_epoch() for trainer in self.trainers]
        self.rates.copy_(torch.tensor([rates for _, rates in begun], dtype=torch.float64).T)
        first = self.trainers[0]
        chosen = first.train_rows[torch.from_numpy(np.stack([order for order, _ in begun])).to(self.device)]
        sums = torch.zeros(len(self.trainers), 6, dtype=torch.float64, device=self.device)
        for rows in chosen.split(self.batch_size, dim=1):
            sums += self._update(rows.flatten())
        held_out = self._predictions(first.images, first.validation_rows)
        tested = self._predictions(first.test_images, first.test_rows)
        self._hand_back()
        found = [
            trainer.end_epoch(own, (held_out[0][place], held_out[1]), (tested[0][place], tested[1]))
            for place, (trainer, own) in enumerate(zip(self.trainers, sums.tolist(), strict=True))
        ]
        seconds = (time.perf_counter() - started) / len(self.trainers)
        return [{**row, "epoch_seconds": seconds} for row in found]

    def _collect(self) -> None:
        """Take the weights and momenta from the trainers, whatever they were last made."""
        self.network.take([trainer.network for trainer in self.trainers])
        for number, stacked in enumerate(self.momenta):
            for place, trainer in enumerate(self.trainers):
                found = trainer.optimizer.state.get(trainer.network.parameters[number], {}).get("momentum_buffer")
                stacked[place] = 0 if found is None else found

    def _hand_back(self) -> None:
        self.network.give([trainer.network for trainer in self.trainers])
        for place, trainer in enumerate(self.trainers):
            if trainer.config.momentum:
                for parameter, stacked in zip(trainer.network.parameters, self.momenta, strict=True):
                    own = trainer.optimizer.state[parameter]
                    if own.get("momentum_buffer") is None:
                        own["momentum_buffer"] = stacked[place].clone()
                    else:
                        own["momentum_buffer"].copy_(stacked[place])  # at its place, where graphs of the trainer write it

    def _update(self, rows: Tensor) -> Tensor:
        """One minibatch of each network, rows [networks · n]. What `Trainer._update` sums, [networks, 6]."""
        n = len(rows) // len(self.trainers)
        x, labels, target, drive = self.replays(("begin", n), self._begin, rows)
        free = self.phases.free(drive)
        losses, sums = self.replays(("look", n), self._look, labels, target, free.steps, free.residual, *free.state)
        table = Table([trainer.draw(n, *self._asked(place, n, losses, rows))[0] for place, trainer in enumerate(self.trainers)], n)
        given = [self._sent(array) for array in table.arrays(losses.dtype)]
        shape = (n, table.width, len(given))

        def begin(*inputs: Tensor) -> Dynamics:
            return self._bind(n, table.width, *inputs)

        def learn(*inputs: Tensor) -> list[Tensor]:
            return self._learn(n, table.width, *inputs)

        nudged = self.phases.nudged_from(shape, begin, *given, drive, target, *free.state)
        inputs = (*given, x, sums, nudged.steps, *free.state, *nudged.state)
        return self.replays(("learn", *shape), learn, *inputs, writes=self._written)[0]

    def _written(self) -> list[Tensor]:
        """All that an update changes."""
        network = self.network
        return [*network.parameters, *self.momenta, network.to_even, network.to_odd, *network.biases]

    def _asked(self, place: int, n: int, losses: Tensor, rows: Tensor) -> tuple[Callable[[], Floats], Callable[[], Places]]:
        own = slice(place * n, (place + 1) * n)
        return lambda: losses[own].cpu().numpy(), lambda: rows[own].cpu().numpy()

    def _sent(self, array: NDArray[Any]) -> Tensor:
        """An array where the device can fetch it while the host goes on."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._pinned else tensor

    def _begin(self, rows: Tensor) -> list[Tensor]:
        """x, labels, target and drive, [networks · n, ...] each."""
        images = self.trainers[0].images
        x, labels = images.batch(rows)
        return [x, labels, images.one_hot(labels), self.network.input_drive(x)]

    def _look(self, labels: Tensor, target: Tensor, steps: Tensor, residual: Tensor, *state: Tensor) -> list[Tensor]:
        """Losses of the free states, [networks · n], and sums, [networks, 5].

        These are of steps (the mean over n), right answers, losses, residuals and saturation.
        """
        network, free = self.network, list(state)
        losses = network.loss(free, target)
        n = len(labels) // network.count
        correct = network.scores(free).argmax(dim=1) == labels
        by_network = [network.apart(column).sum(dim=1).double() for column in (steps, correct, losses, residual)]
        by_network[0] /= n
        return [losses, torch.stack([*by_network, network.saturation(free).double() * n], dim=1)]

    def _bind(self, n: int, width: int, table: Tensor, *rest: Tensor) -> Dynamics:
        """Dynamics of the nudged rows of all tables, from the free states.

        table and, where tables are not of whole minibatches, the rows' samples are `Table.arrays`. Then come drive, target and free states.
        """
        samples, (drive, target, odd, even) = _samples_first(rest)
        network, count = self.network, self.network.count

        def nudged(block: Tensor) -> Tensor:
            if samples is not None:
                return block.index_select(0, samples)
            repeated = network.apart(block)[:, None].expand(-1, width // n, -1, -1)
            return repeated.reshape(count * width, -1)

        return network.bind(nudged(drive), [nudged(odd), nudged(even)], nudged(target), table[: count * width], at_rest=True)

    def _learn(self, n: int, width: int, table: Tensor, *rest: Tensor) -> list[Tensor]:
        """Update all networks; the sums of an update. After the tables come x, what `_look` summed, and what relaxation found."""
        samples, (x, sums, steps, *blocks) = _samples_first(rest)
        network, count = self.network, self.network.count
        _, weights, present, free_weights = table.split([count * width] * 3 + [count * n])
        state = [self._joined(free, nudged) for free, nudged in zip(blocks[:2], blocks[2:], strict=True)]
        places = None
        if samples is not None:
            places = self._joined(torch.arange(count * n, device=samples.device), samples)
        self._descend(network.parameter_gradient(x, state, self._joined(free_weights, weights), places))
        nudged_steps = network.apart(steps * present).sum(dim=1).double() / n
        return [torch.cat([sums[:, :1], nudged_steps[:, None], sums[:, 1:]], dim=1)]

    def _joined(self, free: Tensor, nudged: Tensor) -> Tensor:
        """Rows of free and of nudged states as one table, network by network."""
        return torch.cat([self.network.apart(free), self.network.apart(nudged)], dim=1).flatten(0, 1)

    def _descend(self, directions: list[Tensor]) -> None:
        """A step of SGD as PyTorch defines it, each network at its own rates."""
        for number, (parameter, momentum, direction) in enumerate(zip(self.network.parameters, self.momenta, directions, strict=True)):
            axes = (-1, *[1] * (parameter.dim() - 1))
            gradient = (parameter * self.weight_decay.view(axes)).sub_(direction)
            momentum.mul_(self.momentum.view(axes)).add_(gradient)
            parameter.addcmul_(momentum, self.rates[number // 2].view(axes), value=-1)
        self.network.refresh()

    def _predictions(self, images: Images, rows: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The classes that each network names, [networks, N], and the labels, [N]."""
        count = self.network.count
        labels = images.labels[rows].cpu().numpy()
        if not len(rows):
            return np.empty((count, 0), dtype=np.int64), labels

        def begin(batch: Tensor) -> list[Tensor]:
            return [self.network.input_drive(images.batch(batch.repeat(count))[0])]

        named = []
        for batch in rows.split(EVALUATION_BATCH):
            drive = self.replays(("predict", images is self.trainers[0].images, len(batch)), begin, batch)[0]
            scores = self.network.scores(self.phases.free(drive).state)
            named.append(self.network.apart(scores.argmax(dim=1)))
        return torch.cat(named, dim=1).cpu().numpy(), labels


def _samples_first(rest: Sequence[Tensor]) -> tuple[Tensor | None, Sequence[Tensor]]:
    """The rows' samples, where they come first, and the rest."""
    return (None, rest) if rest[0].is_floating_point() else (rest[0], rest[1:])


class Table:
    """The nudging tables of one update of all networks, rows [networks, width]: of whole minibatches, as many as the longest has.

    What a network's own table does not fill has a β and a weight of 0.
    """

    def __init__(self, tables: Sequence[Nudging], n: int) -> None:
        self._tables = tables
        self._n = n
        self.whole = all(table.phases is not None for table in tables)
        self.width = max(1, *(-(-len(table.rows) // n) for table in tables)) * n

    def arrays(self, dtype: torch.dtype) -> list[NDArray[Any]]:
        """Their β, weights, presence (1 or 0) and the weights of free states, one after the other in one array; where not all tables are
        of whole minibatches also the samples of the rows, counted through all networks.
        """
        count, kind = len(self._tables), np.float32 if dtype == torch.float32 else np.float64
        packed = np.zeros(count * (3 * self.width + self._n), dtype=kind)
        betas, weights, present = packed[: 3 * count * self.width].reshape(3, count, self.width)
        free = packed[3 * count * self.width :].reshape(count, self._n)
        for place, table in enumerate(self._tables):
            rows = len(table.rows)
            betas[place, :rows], weights[place, :rows], present[place, :rows] = table.beta, table.weight, 1
            if table.free_weight is not None:
                free[place] = table.free_weight
        if self.whole:
            return [packed]
        samples = np.zeros((count, self.width), dtype=np.int64)
        for place, table in enumerate(self._tables):
            samples[place, : len(table.rows)] = table.rows
        samples += self._n * np.arange(count)[:, None]
        return [packed, samples.reshape(-1)]


class Stacks:
    """Trains trainers, in stacks as large as `most` and the device's memory allow; what cannot be stacked is trained alone.

    `say` is told where a stack does not fit, and is trained as smaller ones from then on.
    """

    def __init__(self, most: int, say: Callable[[str], None]) -> None:
        self.most = most
        self._say = say
        self._stacks: list[StackTrainer] = []

    def train_epoch(self, trainers: Sequence[Trainer]) -> list[Row]:
        """An epoch of each; their rows, in order."""
        rows: dict[int, Row] = {}
        left = [[trainers[place] for place in group] for group in grouped([trainer.config for trainer in trainers], self.most)]
        known = {tuple(map(id, stack.trainers)): stack for stack in self._stacks}
        self._stacks = []
        while left:
            group = left.pop(0)
            if len(group) == 1:
                rows[id(group[0])] = group[0].train_epoch()
                continue
            before = [trainer.state_dict() for trainer in group]
            try:
                key = tuple(map(id, group))
                self._stacks.append(known[key] if key in known else StackTrainer(group))
                rows |= {id(trainer): row for trainer, row in zip(group, self._stacks[-1].train_epoch(), strict=True)}
                continue
            except torch.OutOfMemoryError:
                self._stacks = [stack for stack in self._stacks if stack.trainers != group]
            # Here, where no exception holds the tensors any more.
            gc.collect()
            torch.cuda.empty_cache()
            for trainer, state in zip(group, before, strict=True):
                trainer.load_state_dict(state)
            half = -(-len(group) // 2)
            self.most = min(self.most, half)
            self._say(f"a stack of {len(group)} networks does not fit the device's memory; goes on with stacks of {half}")
            left[:0] = [group[:half], group[half:]]
        return [rows[id(trainer)] for trainer in trainers]
