#!/usr/bin/python3
"""Runs stages of the checks against a build and counts what passed.

    tests/run.py [--build DIR] [--sanitizer NAME] STAGE...

Stages: unit, purity, docs, normative, sim, integration, crash, soak, threads, fuzz, in the order given. Each prints its
duration. The last line is `N passed, N failed`; the exit status is 1 when something failed. `make check` and .ci/run are made of it.

A part of the tree that has no sources yet is told as such and counts nothing. Once it has, a missing program is a failure.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYTHON = "/usr/bin/python3"
JOBS = 2
TALLY = re.compile(r"(\d+) passed, (\d+) failed\s*$")


class Run:
    """The options and the running totals."""

    def __init__(self, options):
        self.options = options
        self.build = (ROOT / options.build).resolve()
        self.passed = 0
        self.failed = 0
        self.reports = self.build / "sanitizer-reports"
        self.environment = self._environment()

    def _environment(self):
        environment = dict(os.environ, SKERRY=str(self.build / "skerry"), SKERRY_BUILD=str(self.build))
        # What make was told for one stage reaches all of them: unit tests with seeds of their own would run these many instead.
        for name in ("SEED", "SEEDS", "STEPS", "ROUNDS", "SECONDS", "TIME"):
            environment.pop(name, None)
        if not self.options.sanitizer:
            return environment
        # Reports go to files, so that none is lost with the output of a process that a test has started.
        self.reports.mkdir(parents=True, exist_ok=True)
        for old in self.reports.iterdir():
            old.unlink()
        common = f"log_path={self.reports}/report:exitcode=99:handle_abort=0"
        environment["ASAN_OPTIONS"] = f"{common}:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
        environment["UBSAN_OPTIONS"] = f"{common}:print_stacktrace=1:halt_on_error=1"
        suppressions = ROOT / "tests/thread_sanitizer.txt"
        environment["TSAN_OPTIONS"] = f"{common}:halt_on_error=0:second_deadlock_stack=1:suppressions={suppressions}"
        environment["SKERRY_TEST_SLOW"] = "5"
        return environment

    def command(self, *words):
        """ThreadSanitizer's fixed memory layout does not survive strong address randomisation."""
        words = [str(word) for word in words]
        if self.options.sanitizer != "thread":
            return words
        calm = ["setarch", os.uname().machine, "-R"]
        works = subprocess.run([*calm, "true"], stderr=subprocess.DEVNULL).returncode == 0
        return [*calm, *words] if works else words

    def count(self, passed, failed):
        self.passed += passed
        self.failed += failed

    def fail(self, what):
        print(f"FAILED: {what}")
        self.count(0, 1)

    def absent(self, what):
        print(f"{what}: not in the tree yet")

    def check_reports(self, stage):
        if not self.options.sanitizer:
            return
        for report in sorted(self.reports.iterdir()):
            print(f"--- {stage}: {report.name}\n{report.read_text(errors='replace')[:6000]}")
            self.fail(f"{stage}: the sanitizer reported something")
            report.rename(self.build / f"sanitizer-{stage}-{report.name}")

    def script(self, name, *words, timeout_s=600):
        """A script that says itself how much passed in its last line, or just by its exit status."""
        print(f"{name}:")
        done = subprocess.run(
            [str(word) for word in words], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, errors="replace",
        )
        sys.stdout.write(done.stdout)
        self.count_output(name, done.stdout, done.returncode)

    def count_output(self, name, output, status):
        tally = TALLY.search(output)
        passed, failed = (int(tally[1]), int(tally[2])) if tally else (0 if status else 1, 0)
        if status != 0 and failed == 0:
            print(f"FAILED: {name} (exit status {status})")
            failed = 1
        self.count(passed, failed)


def unit(run):
    """Counts the test functions, which cmocka prints, not the programs."""
    words = run.command("meson", "test", "-C", run.build, "--no-rebuild", "--suite", "unit", "--num-processes", JOBS)
    if run.options.sanitizer:
        words += ["--timeout-multiplier", "10"]
    done = subprocess.run(
        words, cwd=ROOT, env=run.environment, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, errors="replace",
    )
    log = run.build / "meson-logs" / "testlog.json"
    if done.returncode not in range(0, 125) or not log.exists() or "No suitable tests" in done.stdout:
        print(done.stdout)
        run.fail("meson test")
        return
    failed_before = run.failed
    for line in log.read_text(errors="replace").splitlines():
        count_unit(run, json.loads(line))
    if done.returncode != 0 and run.failed == failed_before:
        print(done.stdout)
        run.fail("meson test")


def count_unit(run, test):
    output = (test.get("stdout") or "") + (test.get("stderr") or "")
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", output))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", output))
    skipped = re.findall(r"\[  SKIPPED \] (\w+)\n", output)
    if test["result"] == "OK":
        if skipped:
            print(f"{test['name']}: skipped: {', '.join(sorted(set(skipped)))}")
        run.count(max(passed, 1), failed)
        return
    print(f"--- {test['name']}: {test['result']} (exit status {test.get('returncode')})\n{output[-6000:]}")
    run.count(passed, max(failed, 1))


def purity(run):
    run.script("purity", PYTHON, ROOT / "tests/purity.py", run.build)


def docs(run):
    checks = sorted(path for path in (ROOT / "tests").glob("docs_check*") if path.is_file())
    if not checks:
        run.absent("documentation checks")
    for check in checks:
        run.script(check.name, *([PYTHON] if check.suffix == ".py" else []), check)
    examples = sorted((ROOT / "examples").glob("*.yaml"))
    if not (ROOT / "src/cli/check.c").exists() or not examples:
        run.absent("example configurations")
        return
    for example in examples:
        command = ["acl", "check"] if example.name.startswith("acl") else ["check"]
        run.script(f"skerry {' '.join(command)} {example.name}", run.build / "skerry", *command, example)


def normative(run):
    check = ROOT / "tests/normative/check.py"
    if check.exists():
        run.script("normative statements", PYTHON, check)
    else:
        run.absent("normative statements")


def sim(run):
    """The seeds in two halves, one for each core; each with those that once failed in front."""
    if not list((ROOT / "sim").glob("*.c")):
        run.absent("simulation")
        return

    def simulate(program, file, count, number):
        half = -(-count // JOBS)
        seeds = f"{1 + number * half}..{(number + 1) * half}"
        words = run.command(run.build / "sim" / program, "--file", ROOT / "sim" / file, "--seeds", seeds)
        return subprocess.run(
            words, cwd=ROOT, env=run.environment, stdin=subprocess.DEVNULL, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    seeds = run.options.seeds
    for worlds in (("skerry-sim", "seeds.txt", seeds), ("journal/skerry-sim-journal", "seeds_journal.txt", seeds)):
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for done in pool.map(lambda number, worlds=worlds: simulate(*worlds, number), range(JOBS)):
                print(done.stdout[-6000:], end="")
                run.count_output("simulation", done.stdout, done.returncode)


def node_modules(run):
    """Installs what the lock file names, once per lock file."""
    folder = ROOT / "tests/integration/node"
    lock = folder / "package-lock.json"
    if not lock.exists():
        return
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = folder / "node_modules/.installed-lock"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        stamp.write_text(wanted)
    else:
        run.fail("npm ci in tests/integration/node")


def integration(run, marker=None):
    if not list((ROOT / "tests/integration").glob("test_*.py")):
        run.absent("integration tests")
        return
    if not marker:
        node_modules(run)
    result = run.build / "integration.xml"
    result.unlink(missing_ok=True)
    words = [PYTHON, "-m", "pytest", ROOT / "tests/integration", "-q", "-n", JOBS, "--dist", "loadfile", "-rs", "--tb=short"]
    # Not in the build directory: the paths of Unix sockets must be short.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="skerry-tests-"))
    words += [f"--junitxml={result}", f"--basetemp={scratch}"]
    if run.options.sanitizer:
        words += ["--timeout=180"]
    if marker:
        # What one shard and the store's thread do with each other, two shards do as well.
        words += ["-m", marker, "-k", "not shards1"]
    done = subprocess.run(run.command(*words), cwd=ROOT, env=run.environment, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        shutil.rmtree(scratch)
    else:
        print(f"configurations and logs of the brokers: {scratch}")
    if not result.exists():
        run.fail("pytest")
        return
    passed, failed = count_junit(result)
    if done.returncode != 0 and failed == 0:
        print(f"FAILED: pytest (exit status {done.returncode})")
        failed = 1
    run.count(passed, failed)


def count_junit(path):
    passed = failed = 0
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        wrong = int(suite.get("failures")) + int(suite.get("errors"))
        failed += wrong
        passed += int(suite.get("tests")) - wrong - int(suite.get("skipped"))
    return passed, failed


def crash(run):
    """Brokers that are killed, and half as many whose power is cut; and that the harness would notice a loss."""
    rounds = run.options.rounds
    words = [PYTHON, ROOT / "tests/crash/crash.py", "--prove", "--rounds", rounds, "--power-rounds", -(-rounds // 2)]
    run.script("crash", *words, "--jobs", JOBS, timeout_s=120 + 20 * rounds)


def soak(run):
    words = [PYTHON, ROOT / "tests/crash/soak.py", "--seconds", run.options.seconds]
    run.script("soak", *words, timeout_s=120 + 2 * run.options.seconds)


def threads(run):
    integration(run, "threads")


def fuzz(run):
    """Every fuzzer for the given time, two at a time. What they find new stays in the build directory."""
    names = sorted(path.stem for path in (ROOT / "fuzz").glob("*_fuzz.c"))
    if not names:
        run.absent("fuzzers")
        return

    def fuzz_one(name):
        corpus = run.build / "corpus" / name
        artifacts = run.build / "artifacts"
        corpus.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(exist_ok=True)
        seeds = ROOT / "fuzz/corpus" / name.removesuffix("_fuzz")
        words = [run.build / "fuzz" / name, f"-max_total_time={run.options.seconds}", "-timeout=10", "-rss_limit_mb=2048"]
        words += ["-print_final_stats=1", f"-artifact_prefix={artifacts}/{name}-", corpus]
        words += [seeds] if seeds.is_dir() else []
        if not words[0].exists():
            return name, 127, f"{words[0]} was not built\n", words
        done = subprocess.run(
            [str(word) for word in words], cwd=ROOT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        return name, done.returncode, done.stdout, words

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for name, status, output, words in pool.map(fuzz_one, names):
            executed = re.search(r"number_of_executed_units:\s*(\d+)", output)
            if status == 0:
                print(f"{name}: {executed[1] if executed else '?'} runs")
                run.count(1, 0)
                continue
            print(output[-6000:])
            found = re.search(r"Test unit written to (\S+)", output)
            replay = f"; replay: {words[0]} {found[1]}" if found else ""
            run.fail(f"{name} (exit status {status}){replay}")


STAGES = {stage.__name__: stage for stage in (unit, purity, docs, normative, sim, integration, crash, soak, threads, fuzz)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build-check", help="build directory (default: %(default)s)")
    parser.add_argument("--sanitizer", choices=["address", "thread"], help="what the build was instrumented with")
    parser.add_argument("--seeds", type=int, default=10000, help="worlds to simulate (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="for each fuzzer, for the soak (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="kills, and half as many power cuts (default: %(default)s)")
    parser.add_argument("stages", nargs="+", choices=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    run = Run(parser.parse_args())

    for name in run.options.stages:
        print(f"=== {name}", flush=True)
        before, began = (run.passed, run.failed), time.monotonic()
        try:
            STAGES[name](run)
        except (OSError, subprocess.SubprocessError) as error:
            run.fail(f"{name}: {error}")
        run.check_reports(name)
        took = time.monotonic() - began
        print(f"=== {name}: {run.passed - before[0]} passed, {run.failed - before[1]} failed in {took:.0f} s", flush=True)

    if os.environ.get("SKERRY_TALLY"):
        with open(os.environ["SKERRY_TALLY"], "a", encoding="ascii") as tally:
            tally.write(f"{run.passed} {run.failed}\n")
    print(f"{run.passed} passed, {run.failed} failed")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
