"""Train 20 small trials twice, undisturbed and under SIGKILLs of workers, of a joined node and of the driver, and compare every number."""

import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from hybridep.cluster import node
from hybridep.cluster.access import LOOPBACK, Address
from hybridep.cluster.node import NodePlan, StartedNode, StartFailed
from hybridep.cluster.processes import Process
from hybridep.command import as_command
from hybridep.config import MOST_SEED, InvalidInput
from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.storage import is_url, write_json
from hybridep.study.arguments import FolderArgs, refuse
from hybridep.study.checks import MOST_REPETITIONS, require
from hybridep.study.plan import Plan, PlannedTrial
from hybridep.study.recorded import COMPLETE, STOPPED, Job, run_here, told
from hybridep.study.study import main as run_study

KIND: Final = "chaos_benchmark"
SEEDS: Final = (0, 1, 2, 3)
WORKER: Final = re.compile("ray::(DurableTrial|ResourceTrainable)")
# What differs between two runs of the same training.
PASSING: Final = ("epoch_seconds", "time_total_s", "timestamp", "load", "hostname", "pid")
# Rows between one kill and the next, at most, and seconds on top, so that kills fall anywhere within an epoch.
MOST_ROWS: Final = 8
MOST_SECONDS: Final = 0.4
PATIENCE_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Args(FolderArgs):
    kills: int = 20
    """SIGKILLs: half of them to workers, a quarter to the joined node, a quarter to the driver, in random order."""
    moments: int = 0
    """Seed of what is killed when."""
    epochs: int = 12
    """Epochs of each trial."""
    study: bool = False
    """Train the trials and nothing more: what is run here in processes that are killed."""


def plan(args: Args) -> Plan:
    """The thesis's strategies on four seeds each, a trial for every one."""
    protocol = PROTOCOLS["digits"].replace(epochs=args.epochs)
    trials = [PlannedTrial(f"{name}-{seed}", name, "thesis", (seed,), strategy) for name, strategy in STRATEGIES.items() for seed in SEEDS]
    return Plan(protocol, SEEDS, trials)


def rows_of(study: Path) -> dict[str, list[dict[str, Any]]]:
    """Each trial's rows as they stand on file, repeated ones too, without what differs between two runs of the same training."""
    found = {}
    for file in study.glob("ray/*/result.json"):
        lines = file.read_bytes().split(b"\n")[:-1]
        rows = [{name: value for name, value in json.loads(line).items() if not name.startswith(PASSING)} for line in lines]
        found[file.parent.name] = rows
    return found


class Disturbed:
    """A study on a cluster of two nodes, and what is killed of it."""

    def __init__(self, study: Path, args: Args) -> None:
        self.kills: Counter[str] = Counter()
        self._study = study
        self._random = random.Random(args.moments)
        self._epochs = args.epochs
        self._log = open(study.with_suffix(".log"), "w", encoding="utf-8")  # noqa: SIM115 (closed in `end`)
        self._head = node.start(NodePlan("head", Address(LOOPBACK, 0), LOOPBACK, 1, ()))
        try:
            self._joined = self._join()
        except BaseException:
            node.stop(self._head)
            raise
        self.driver = self._drive("--out")

    def _join(self) -> StartedNode:
        return node.start(NodePlan("join", self._head.plan.head, LOOPBACK, 1, ()))

    def _drive(self, where: str) -> subprocess.Popen[bytes]:
        begun = ("--epochs", str(self._epochs)) if where == "--out" else ()
        command = [sys.executable, __file__, "--study", where, str(self._study), "--ray-address", str(self._head.plan.head), *begun]
        return subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def rows(self) -> int:
        return sum(file.read_bytes().count(b"\n") for file in self._study.glob("ray/*/result.json"))

    def wait_for_a_moment(self) -> bool:
        """Let some rows pass; False where the study ended meanwhile."""
        goal = self.rows() + self._random.randint(0, MOST_ROWS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.rows() < goal or not self._processes(WORKER):
            if self.driver.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise StartFailed(f"nothing was trained for {PATIENCE_SECONDS:.0f} seconds; {self._log.name} has the study's own account")
            time.sleep(0.05)
        time.sleep(self._random.uniform(0, MOST_SECONDS))
        return self.driver.poll() is None

    def _processes(self, pattern: re.Pattern[str]) -> list[Process]:
        family = [*self._head.process.descendants(), *self._joined.process.descendants()]
        return [process for process in family if pattern.search(process.command)]

    def kill(self, victim: str) -> None:
        if victim == "driver":
            self.driver.kill()
            self.driver.wait()
            self.driver = self._drive("--resume")
        elif victim == "node":
            for process in self._joined.process.descendants():
                if "/raylet " in process.command:
                    process.signal(signal.SIGKILL)
            node.stop(self._joined)
            self._joined = self._join()
        else:
            workers = self._processes(WORKER)
            if not workers:
                return
            self._random.choice(workers).signal(signal.SIGKILL)
        self.kills[victim] += 1

    def end(self) -> None:
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        for started in (self._joined, self._head):
            node.stop(started)
        self._log.close()


def disturb(study: Path, args: Args) -> Counter[str]:
    """Run the study under kills; how many of each there were."""
    victims = ["worker"] * (args.kills - 2 * (args.kills // 4)) + ["node", "driver"] * (args.kills // 4)
    random.Random(args.moments).shuffle(victims)
    disturbed = Disturbed(study, args)
    try:
        for victim in victims:
            if not disturbed.wait_for_a_moment():
                break
            disturbed.kill(victim)
            print(f"{sum(disturbed.kills.values())} kills, the last of a {victim}; {disturbed.rows()} epochs on file", flush=True)
        code = disturbed.driver.wait()
        if code != COMPLETE:
            raise StartFailed(f"the disturbed study ended with code {code}; its account is in {study.with_suffix('.log')}")
        return disturbed.kills
    finally:
        disturbed.end()


def compared(calm: Path, disturbed: Path, kills: Counter[str]) -> dict[str, Any]:
    """What came of it: trials whose last row of every epoch is the undisturbed one, and how often finished epochs were trained again."""
    undisturbed, found = rows_of(calm), rows_of(disturbed)
    equal = [name for name, rows in undisturbed.items() if list({row["epoch"]: row for row in found.get(name, [])}.values()) == rows]
    times = Counter((name, row["epoch"]) for name, rows in found.items() for row in rows)
    return {
        "kills": dict(kills),
        "trials": len(undisturbed),
        "trials_equal": len(equal),
        "epochs": sum(map(len, undisturbed.values())),
        "epochs_trained_again": sum(times.values()) - len(times),
        "most_often_again": max(times.values(), default=1) - 1,
    }


def job(args: Args) -> Job:
    require("kills", args.kills, 4, MOST_REPETITIONS, "to have every kind among them")
    require("moments", args.moments, 0, MOST_SEED)
    refuse(args, "resume", "repeat", "data_dir", *(option.name for option in fields(args.resources)))
    if args.out and is_url(args.out):
        raise InvalidInput(f"--out {args.out}: must be a folder, for two studies and their comparison")
    plan(args)
    args.resources.prepare()
    return Job(partial(benchmark, args))


def benchmark(args: Args, path: Path) -> int:
    """Write chaos.json; the exit code."""
    folder = tempfile.mkdtemp(prefix="h", dir="/tmp")  # short: Ray puts sockets there
    os.environ.update(RAY_TMPDIR=folder, RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_AUTH_MODE="token")
    try:
        began = time.monotonic()
        calm = [sys.executable, __file__, "--study", "--out", str(path / "calm"), "--epochs", str(args.epochs)]
        subprocess.run(calm, check=True, stdout=subprocess.DEVNULL)
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        began = time.monotonic()
        outcome = compared(path / "calm", path / "disturbed", disturb(path / "disturbed", args))
        print(f"disturbed: {time.monotonic() - began:.0f} s", flush=True)
    except (StartFailed, subprocess.CalledProcessError) as error:
        return told(error, STOPPED)  # Ray's logs stay, for the message names them
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    write_json(path / "chaos.json", outcome)
    killed = ", ".join(f"{count} {victim}s" for victim, count in outcome["kills"].items())
    print(f"killed: {killed}")
    print(f"trials with every number as if undisturbed: {outcome['trials_equal']} of {outcome['trials']}")
    again, most = outcome["epochs_trained_again"], outcome["most_often_again"]
    print(f"finished epochs that were trained again: {again} of {outcome['epochs']}, none more than {most} times")
    complete = outcome["trials_equal"] == outcome["trials"] and sum(outcome["kills"].values()) >= args.kills
    return COMPLETE if complete else STOPPED


def main(argv: Sequence[str] | None = None) -> int:
    """The benchmark, or with --study what it runs in processes that are killed; the exit code."""
    if "--study" in (sys.argv if argv is None else argv):
        return run_study(KIND, Args, plan, argv, write_report=lambda folder: None)
    return run_here(KIND, Args, job, argv)


if __name__ == "__main__":
    as_command(main)
