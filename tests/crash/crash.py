#!/usr/bin/python3
"""Kills brokers under load and looks for what they have lost.

    tests/crash/crash.py [--mode kill|power|all] [--rounds N] [--seed N] [--jobs N]

kill: SIGKILL at random moments. power: the same, and the disk loses what was not synced. One world is one broker with its
clients, its configuration and its troubles; each of its rounds ends with a death. The seed makes the world, not the moment
at which something happens in it: repeat a seed that failed a few times.

--prove: that the harness notices: brokers whose syncs do nothing, and one that keeps everything in memory, must fail.

The binary is $SKERRY (build/skerry), the library that watches the disk is in $SKERRY_BUILD (its directory). What failed
keeps its directory: the journal, the broker's log, harness.log. SKERRY_CRASH_KEEP=1 keeps all.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from powercut import PowerCut  # noqa: E402
from world import World  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def library():
    binary = Path(os.environ.get("SKERRY", ROOT / "build/skerry")).resolve()
    build = Path(os.environ.get("SKERRY_BUILD", binary.parent)).resolve()
    return build / "tests/crash/powercut.so"


def run_world(seed, mode, rounds, data=True, lie=None):
    return World(seed, mode, rounds, library(), data, lie).run()


class Totals:
    def __init__(self):
        self.passed = self.failed = 0
        self.results = []

    def take(self, result, mode):
        self.results.append(result)
        if not result.failures:
            self.passed += result.rounds
            return
        self.failed += 1
        print(f"FAILED: world {result.seed} ({mode}); directory: {result.directory}")
        for failure in result.failures:
            print(f"  {failure}")
        print(f"  repeat: tests/crash/crash.py --mode {mode} --seed {result.seed} --rounds {result.rounds}", flush=True)

    def sum_up(self, mode):
        total = {name: sum(getattr(one, name) for one in self.results) for name in
                 ("rounds", "sent", "acked", "delivered", "repeated", "refused", "segments", "lost")}
        print(
            f"{mode}: {len(self.results)} worlds, {total['rounds']} deaths, {total['sent']} messages sent, {total['acked']} "
            f"acknowledged, {total['delivered']} deliveries ({total['repeated']} repeated), {total['refused']} refused, "
            f"{total['segments']} segments" + (f", {total['lost']} writes taken back" if mode == "power" else "")
        )


def crash(options, mode):
    """Worlds until there were enough rounds, some at a time."""
    totals = Totals()
    seed, rounds = options.seed, 0
    with concurrent.futures.ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        running = set()
        while True:
            while len(running) < options.jobs and rounds < options.rounds:
                planned = min(options.rounds - rounds, 5 + seed % 5)
                running.add(pool.submit(run_world, seed, mode, planned))
                seed, rounds = seed + 1, rounds + planned
            if not running:
                break
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for one in done:
                totals.take(one.result(), mode)
    totals.sum_up(mode)
    return totals.passed, totals.failed


def rolls_back(seed):
    """Whether a cut that takes all brings back what was there at the last sync."""
    with tempfile.TemporaryDirectory(prefix="skerry-scribble-") as top:
        data, snapshot = Path(top, "data"), Path(top, "snapshot")
        data.mkdir()
        power = PowerCut(library(), data, Path(top, "undo"))
        words = [sys.executable, Path(__file__).with_name("scribble.py"), str(seed), snapshot]
        subprocess.run(words, cwd=data, env=dict(os.environ, **power.environment), check=True)
        power.cut("all", random.Random(seed))
        return contents(data) == contents(snapshot)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def prove():
    """A harness that never fails shows nothing."""
    wrong = [seed for seed in range(1, 21) if not rolls_back(seed)]
    if wrong:
        print(f"FAILED: not rolled back to what was synced: seeds {wrong} of scribble.py")
    passed, failed = int(not wrong), int(bool(wrong))
    for what, arguments in {
        "syncs of files do nothing": {"mode": "power", "lie": "data"},
        "syncs of directories do nothing": {"mode": "power", "lie": "directory"},
        "everything in memory": {"mode": "kill", "data": False},
    }.items():
        found = None
        for seed in range(1, 9):
            result = run_world(seed, rounds=3, **arguments)
            if result.failures:
                found = result
                break
        if found:
            passed += 1
            print(f"noticed: {what}: {found.failures[0][:200]}")
        else:
            failed += 1
            print(f"FAILED: not noticed: {what}")
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mode", choices=["kill", "power", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=20, help="deaths, of each mode (default: %(default)s)")
    parser.add_argument("--power-rounds", type=int, help="the same for power cuts, if others")
    parser.add_argument("--seed", type=int, default=1, help="of the first world (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="worlds at a time (default: %(default)s)")
    parser.add_argument("--prove", action="store_true", help="that the harness notices what it is there for")
    options = parser.parse_args()
    passed, failed = prove() if options.prove else (0, 0)
    for mode in ["kill", "power"] if options.mode == "all" else [options.mode]:
        if mode == "power" and options.power_rounds is not None:
            options.rounds = options.power_rounds
        good, bad = crash(options, mode) if options.rounds else (0, 0)
        passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
