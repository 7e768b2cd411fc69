"""The overhead benchmark's arithmetic, on a study of which every second is known."""

import pytest

from hybridep.config import InvalidInput
from studies.overhead_benchmark import Args, DriverState, Timeline, measured, plan, projected

DESCRIPTION = {"kind": "overhead_benchmark", "arguments": {}, "protocol": {}, "seeds": [], "dataset": {}, "trials_planned": 6}


def test_time_is_shared_out_between_the_start_the_trials_and_what_lies_between_them() -> None:
    """Two workers; each imports for its first trial, then trains two more of 2 s of work with 0.5 s of Tune before each."""
    numbers = range(6)
    rows = [{"trial_id": n, "pid": n % 2, "timestamp": 10 + n, "epoch_seconds_by_seed": [1.5, 0.5]} for n in numbers]
    marks = {"arguments and data": 1.0, "Ray started": 5.0, "first epoch reported": 10.0, "last trial ended": 15.0, "Ray stopped": 16.0}
    states = {100 * hundred: DriverState(mebibytes, 0, 0) for hundred, mebibytes in ((1, 200.0), (2, 201.0), (3, 204.0))}
    timeline = Timeline(marks, states, ended=6, slots=2)
    table = {quantity: value for quantity, value, _ in measured(rows, timeline)}
    assert table["until: Ray started"] == 4.0
    assert table["inside Trainer, all trials"] == 12.0
    assert table["workers' time outside Trainer, whole run"] == pytest.approx(1 - 12 / 32)
    assert table["workers' time outside Trainer, first to last report"] == pytest.approx(1 - 8 / 10)
    assert table["overhead of a trial, first to last report"] == pytest.approx(0.5)
    assert table["driver's growth a 100 trials, after the first 100"] == 2.0


def test_what_was_measured_is_carried_on_in_a_straight_line() -> None:
    """A report costs 10 ms, choosing the n-th strategy n / 10 ms, and 100 trials keep 0.5 MiB."""
    states = {n: DriverState(200 + n / 200, 5 + 0.01 * n + 5e-5 * n**2, 5e-5 * n**2) for n in (100, 200, 300, 400, 500)}
    projection = projected(Timeline(states=states), disk=0.01, trials=10_000, slices=200)
    assert projection is not None
    assert projection.choosing == pytest.approx(1.0)
    assert projection.reporting == pytest.approx(0.01)
    assert projection.shortest_trial == pytest.approx(202)
    assert projection.memory == pytest.approx(250)
    assert projection.disk == pytest.approx(100)
    assert "saturates first, with choosing strategies (1.000 of 1.010 s" in str(projection)
    assert "as long as a trial takes 202 s or more" in str(projection)


def test_costs_that_seem_to_fall_are_not_carried_on_below_what_they_are() -> None:
    states = {n: DriverState(200, 2 * n - 1e-3 * n**2, 0) for n in (100, 200, 300)}
    projection = projected(Timeline(states=states), disk=0.01)
    assert projection is not None
    assert projection.reporting == pytest.approx(1.6)


def test_two_states_are_no_line() -> None:
    assert projected(Timeline(states={100: DriverState(200, 1, 1), 200: DriverState(200, 2, 2)}), disk=1) is None


def test_only_the_strategies_differ_between_its_trials() -> None:
    work = plan(Args(trials=5, search="fixed"))
    assert len(work.fixed) == 5
    assert len({trial.name for trial in work.fixed}) == 5
    assert work.protocol.epochs == 1


@pytest.mark.parametrize("args", [Args(trials=0), Args(search="luck"), Args(seeds=()), Args(seeds=(1, 1)), Args(dataset="imagenet")])
def test_bad_arguments_are_refused_in_one_line(args: Args) -> None:
    with pytest.raises(InvalidInput, match=r"^--[^\n]*$"):
        plan(args)
