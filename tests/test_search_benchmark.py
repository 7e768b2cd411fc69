"""The comparison of samplers: which searches it makes, what it says of them, and a small one that is stopped and continued."""

import csv
import re
from pathlib import Path

import pytest

from analysis.findings import sampler_verdicts
from analysis.progress import Sampler
from studies import schedule_sweep, search_benchmark
from studies.search_benchmark import Args, searches

TINY = ["--sizes", "64", "16", "10", "--T1", "8", "--T2", "4", "--train-samples", "300"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--samplers tpe", "--samplers tpe: must be two or more different ones of random, quasi-random, tpe, nsga2, gp"),
        ("--samplers tpe tpe", "--samplers tpe tpe: must be two or more different"),
        ("--samplers tpe luck", "--samplers tpe luck: must be two or more different"),
        ("--samplers tpe grid", "--samplers tpe grid: must be two or more different"),
        ("--samplers tpe none", "--samplers tpe none: must be two or more different"),
        ("--repetitions 0", "--repetitions 0: must be 1 to 1,000"),
        ("--seeds-each 0", "--seeds-each 0: must be 1 to 1,000"),
        ("--trials 0", "--trials 0: must be 1 to 100,000"),
        ("--epochs 0", "epochs 0:"),
        ("--space all", "space 'all': must be one of signs"),
        ("--dataset imagenet", "--dataset 'imagenet': must be one of digits"),
        ("--max-concurrent 0", "--max-concurrent 0: must be 1 to 100,000"),
        ("--resume nowhere", "--resume nowhere: is not a study"),
        ("--colour blue", "--colour"),
    ],
)
def test_bad_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert search_benchmark.main(argv.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", shown.err) and complaint in shown.err
    assert list(tmp_path.iterdir()) == []


def test_samplers_share_the_seeds_of_a_repetition_and_repetitions_share_none() -> None:
    sweeps = searches(Args(samplers=("random", "tpe"), repetitions=3, seeds_each=2))
    assert list(sweeps) == ["random-1", "tpe-1", "random-2", "tpe-2", "random-3", "tpe-3"]
    assert [sweep.seeds for sweep in sweeps.values()] == [(0, 1), (0, 1), (2, 3), (2, 3), (4, 5), (4, 5)]
    assert all(sweep.search == name.split("-")[0] for name, sweep in sweeps.items())
    plans = [schedule_sweep.plan(sweep) for sweep in sweeps.values()]
    assert all(plan.protocol == plans[0].protocol and plan.protocol.epochs == search_benchmark.EPOCHS for plan in plans)
    assert all(plan.trials == 5 + 2 + 60 for plan in plans)  # the thesis, its controls, the search


def sampler(name: str, hypervolume: float, gain: float) -> Sampler:
    return Sampler(name, 3, 60, hypervolume, hypervolume, hypervolume, gain)


@pytest.mark.parametrize(
    ("tpe", "said"),
    [(0.46, "tpe reaches 1.15 times"), (0.4599, "tpe does not reach 1.15 times"), (0.3, "tpe does not reach 1.15 times")],
)
def test_the_target_is_reached_or_it_is_said_that_it_is_not(tpe: float, said: str) -> None:
    (sentence,) = sampler_verdicts((sampler("tpe", tpe, 0.06), sampler("random", 0.4, 0.04)), "random", 1.15)
    assert sentence.startswith(f"{said} the hypervolume of random after 60 strategies: {tpe:.3f} and 0.400 ({tpe / 0.4:.2f} times)")
    assert "it adds 0.060, random 0.040 (1.50 times)" in sentence


def test_what_no_sampler_could_exceed_is_said() -> None:
    *_, last = sampler_verdicts((sampler("tpe", 0.5, 0.1), sampler("random", 0.4, 0.1)), "random", 1.15, ceiling=0.52)
    assert last == "Perfect accuracy at standard's cost would be 0.520 (1.30 times)."


def test_without_the_base_there_is_nothing_to_say() -> None:
    assert sampler_verdicts((sampler("tpe", 0.5, 0.1), sampler("gp", 0.4, 0.1)), "random", 1.15) == []


def test_a_benchmark_that_ran_out_of_time_goes_on_and_answers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench"
    argv = ["--trials", "3", "--repetitions", "1", "--seeds-each", "1", "--epochs", "2", *TINY, "--out", str(out)]
    assert search_benchmark.main([*argv, "--time-budget", "0.001"]) == 3
    assert f"--resume {out}" in capfd.readouterr().out.splitlines()[-1]
    assert search_benchmark.main(["--resume", str(out), "--time-budget", "600"]) == 0
    assert re.search(r"tpe (reaches|does not reach) 1\.15 times the hypervolume of random after 3 strategies", capfd.readouterr().out)
    with (out / "hypervolume.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["sampler"], int(row["trials"])) for row in rows] == [(name, tried) for name in ("random", "tpe") for tried in range(4)]
    assert float(rows[0]["hypervolume"]) == float(rows[4]["hypervolume"])  # both start from the thesis's strategies on the same seeds
    assert (out / "figures" / "hypervolume.png").exists()
    assert (out / "tables" / "samplers.md").read_text().count("\n") == 4
    before = {path: path.read_bytes() for path in out.glob("*/ray/*/result.json")}
    assert search_benchmark.main(["--resume", str(out)]) == 0
    assert {path: path.read_bytes() for path in out.glob("*/ray/*/result.json")} == before
