"""CPUs or GPUs: what is worked out from measured times, how many trials share a GPU, and the sentence that says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridep.presets import PROTOCOLS
from hybridep.study.devices import Choice, Gpu, Run, Timing, best_sharing, choose, duration, estimate, gpus_called, work
from studies.schedule_sweep import Args, plan

TEN = [[Run(10, 1)] * 16]
NAMES = ("16 CPU cores", "GPU 0 (H200)")
GIB = 2**30
CONTEXT = GIB // 2


def slots(most: int, devices: int = 1) -> dict[int, int]:
    """Trials at a time by how many share a GPU."""
    return {workers: workers * devices for workers in range(1, most + 1)}


def chosen(cpu: Timing | None, gpu: Gpu | None, forced: str = "", reason: str = "", most: int = 1) -> Choice:
    return choose(TEN, cpu, gpu, 16, slots(most), NAMES, forced, reason)


# What a study is


def test_the_work_of_a_study_is_its_trials_and_those_that_confirm_the_thesis_the_controls_and_a_few_found() -> None:
    phases = work(plan(Args()))
    epochs = PROTOCOLS["digits"].epochs
    assert phases[0] == [Run(epochs, 3)] * 5 + [Run(8, 3), Run(12, 3)] + [Run(epochs, 3)] * 12
    assert phases[1] == [Run(epochs, 5)] * 5 + [Run(8, 5), Run(12, 5)] + [Run(epochs, 5)] * 3


def test_strategies_that_are_decided_between_are_work_too() -> None:
    decided = plan(Args(search="none", contenders=("alternating",), decide=True))
    assert decided.deciding is not None
    assert len(work(decided)[1]) == len(decided.deciding.overrides)
    assert {run.seeds for run in work(decided)[1]} == {len(decided.deciding.seeds)}


def test_without_a_search_nothing_is_confirmed() -> None:
    assert work(plan(Args(search="thesis")))[1] == []


# What it takes


@pytest.mark.parametrize(
    ("runs", "at_a_time", "seconds"),
    [
        ([Run(10, 1)] * 4, 1, 40),
        ([Run(10, 1)] * 4, 2, 20),
        ([Run(10, 1)] * 5, 4, 20),
        ([Run(10, 1)] * 2, 16, 10),
        ([Run(10, 3)] * 2, 16, 30),
        ([Run(1, 1), Run(1, 1), Run(9, 1)], 2, 10),  # the long one begins when the first short one has ended
        ([], 4, 0),
    ],
)
def test_trials_take_turns_on_the_workers_that_there_are(runs: list[Run], at_a_time: int, seconds: float) -> None:
    assert estimate([runs], Timing(epoch=1.0), at_a_time) == seconds


def test_phases_follow_one_another_and_workers_start_once() -> None:
    assert estimate([[Run(2, 1)], [Run(3, 1)]], Timing(epoch=1.0, trial=0.5, start=4.0), 8) == 4 + 2.5 + 3.5


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 20))
def test_an_estimate_lies_between_perfect_packing_and_one_after_another(epochs: list[int], at_a_time: int) -> None:
    seconds = estimate([[Run(count, 1) for count in epochs]], Timing(epoch=1.0), at_a_time)
    assert max(max(epochs), sum(epochs) / at_a_time) - 1e-9 <= seconds <= sum(epochs)
    assert seconds <= sum(epochs) / at_a_time + max(epochs)


# Sharing a GPU


@pytest.mark.parametrize(
    ("shared_epoch", "workers", "seconds"),
    [
        (1.0, 4, 40),  # four are as fast as one: 16 trials of ten epochs in four rounds
        (2.0, 2, 80),  # the GPU is busy for half of an epoch: two fill it
        (4.0, 1, 160),  # it is busy all the time
        (6.0, 1, 160),  # they are in one another's way
    ],
)
def test_as_many_trials_share_a_gpu_as_end_the_study_sooner(shared_epoch: float, workers: int, seconds: float) -> None:
    gpu = Gpu(Timing(epoch=1.0), at_once=4, shared_epoch=shared_epoch)
    assert best_sharing(TEN, gpu, slots(4)) == (workers, pytest.approx(seconds))


def test_a_little_gain_is_not_worth_another_worker() -> None:
    gpu = Gpu(Timing(epoch=1.0), at_once=4, shared_epoch=3.9)  # two workers would be 2.5 % faster
    assert best_sharing(TEN, gpu, slots(4))[0] == 1


def test_no_more_trials_share_a_gpu_than_there_are() -> None:
    gpu = Gpu(Timing(epoch=1.0), at_once=4, shared_epoch=1.0)
    assert best_sharing([[Run(10, 1)] * 2], gpu, slots(4))[0] == 2


def test_what_a_trial_takes_beside_its_epochs_is_slowed_too() -> None:
    gpu = Gpu(Timing(epoch=1.0, trial=3.0, start=5.0), at_once=4, shared_epoch=2.0)
    assert gpu.sharing(4) == Timing(2.0, 6.0, 5.0)
    assert gpu.sharing(2) == gpu.timing


@pytest.mark.parametrize(("memory", "needed", "workers"), [(5, 1, 2), (5, 4, 1), (2, 8, 1), (141, 1, 56)])
def test_no_more_trials_share_a_gpu_than_fit_into_its_memory(memory: int, needed: int, workers: int) -> None:
    assert Gpu(Timing(1.0), memory=memory * GIB, needed=needed * GIB).room(CONTEXT) == workers


def test_where_memory_is_not_known_as_many_fit_as_were_tried() -> None:
    assert Gpu(Timing(1.0), at_once=3, shared_epoch=1.0).room(CONTEXT) == 3


# The choice


def test_the_device_that_ends_the_study_sooner_is_taken_and_told_with_both_estimates() -> None:
    choice = chosen(Timing(epoch=4.0), Gpu(Timing(epoch=1.8, start=3.0)))
    told = "GPU 0 (H200): about 5 min; 16 CPU cores: about 40 s; running on the CPUs (--device gpu to change)"
    assert choice == Choice("cpu", 0, told, 40.0, pytest.approx(291.0))
    choice = chosen(Timing(epoch=400.0), Gpu(Timing(epoch=1.8, start=3.0)))
    told = "GPU 0 (H200): about 5 min; 16 CPU cores: about 67 min; running on the GPU (--device cpu to change)"
    assert choice == Choice("gpu", 1, told, 4000.0, pytest.approx(291.0))


def test_trials_that_share_a_gpu_are_told() -> None:
    choice = chosen(Timing(epoch=400.0), Gpu(Timing(epoch=1.0), at_once=4, shared_epoch=1.0), most=4)
    told = (
        "GPU 0 (H200): about 40 s with 4 trials on each at a time; 16 CPU cores: about 67 min; running on the GPU (--device cpu to change)"
    )
    assert (choice.workers, choice.sentence) == (4, told)


def test_several_gpus_are_told_as_several() -> None:
    choice = choose(TEN, Timing(400.0), Gpu(Timing(1.0)), 16, slots(1, devices=4), ("16 CPU cores", "4 GPUs (H200)"))
    assert choice.gpu_seconds == 40
    assert choice.sentence.endswith("running on the GPUs (--device cpu to change)")


def test_time_to_start_counts_for_a_short_study() -> None:
    assert chosen(Timing(epoch=4.0, start=3.0), Gpu(Timing(epoch=0.25, start=8.0))).device == "cpu"
    assert chosen(Timing(epoch=4.0, start=3.0), Gpu(Timing(epoch=0.2, start=8.0))).device == "gpu"


def test_a_gpu_that_cannot_be_measured_is_told_and_left() -> None:
    choice = chosen(Timing(epoch=4.0), None, reason="PyTorch 2.11 is built for CPUs alone and finds none")
    told = "GPU 0 (H200): not measured (PyTorch 2.11 is built for CPUs alone and finds none); 16 CPU cores: about 40 s; running on the CPUs"
    assert choice.sentence == f"{told} (--device gpu to change)"
    assert (choice.device, choice.workers) == ("cpu", 0)


def test_cpus_on_which_not_even_a_part_of_a_minibatch_ends_are_left() -> None:
    choice = chosen(None, Gpu(Timing(epoch=1.0)))
    assert choice.device == "gpu"
    assert "16 CPU cores: not measured; running on the GPU" in choice.sentence


def test_a_gpu_that_is_asked_for_is_taken_with_the_best_sharing() -> None:
    choice = chosen(None, Gpu(Timing(epoch=1.0), at_once=4, shared_epoch=2.0), forced="--device gpu", most=4)
    assert (choice.device, choice.workers) == ("gpu", 2)
    assert choice.sentence == "GPU 0 (H200): about 80 s with 2 trials on each at a time; running on the GPU for --device gpu"


@given(st.floats(1e-6, 1e5), st.floats(1e-6, 1e5), st.floats(0.1, 10), st.integers(1, 4), st.integers(1, 128))
def test_what_is_taken_is_never_estimated_to_be_slower(cpu: float, gpu: float, together: float, at_once: int, cores: int) -> None:
    measured = Gpu(Timing(gpu), at_once, together * gpu)
    choice = choose(TEN, Timing(cpu), measured, cores, slots(at_once), NAMES)
    assert choice.cpu_seconds is not None
    assert choice.gpu_seconds is not None
    assert (choice.device == "gpu") == (choice.gpu_seconds < choice.cpu_seconds)
    assert (choice.workers > 0) == (choice.device == "gpu")
    assert "\n" not in choice.sentence


# Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (40, "40 s"), (89, "89 s"), (100, "2 min"), (4000, "67 min"), (9000, "2.5 h"), (50_000, "14 h"), (260_000, "3 days")],
)
def test_a_time_is_told_as_roughly_as_it_is_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "name", "number", "words"),
    [
        (1, "NVIDIA H200", 0, "GPU 0 (H200)"),
        (1, "NVIDIA H200", None, "GPU (H200)"),
        (4, "NVIDIA H200", 2, "4 GPUs (H200)"),
        (7, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, "7 MIG slices (A100-SXM4-40GB 1g.5gb)"),
        (1, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, "MIG slice (A100-SXM4-40GB 1g.5gb)"),
        (2, "", None, "2 GPUs"),
    ],
)
def test_devices_are_called_what_their_user_knows_them_by(count: int, name: str, number: int | None, words: str) -> None:
    assert gpus_called(count, name, number) == words
