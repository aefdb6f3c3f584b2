#!/usr/bin/python3
"""Side by side: the bare forwarder, Skerry, Debian's mosquitto and what other brokers there are on the PATH, under the same
load in the same run. Prints a table; see docs/benchmarks.md for what each row means. Exit code 1 when a run of Skerry's
lost, repeated or reordered messages, or, with --strict, when a figure misses its mark.
"""
import argparse
import fnmatch
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import brokers

FORWARDER = "forwarder"


@dataclass(frozen=True)
class Row:
    name: str  # for --only
    title: str
    unit: str
    figure: str  # in the result of one run
    arguments: list = field(default_factory=list)  # of skerry bench
    reach: float = None  # Skerry's mark
    times_forwarder: float = None  # or as a multiple of the forwarder's
    qos: int = 0
    kind: str = "load"
    forwarder: bool = True
    secure: bool = False  # over TLS 1.3


def load(name, title, arguments, ahead, reach, qos=0, figure="broker_us_per_message", forwarder=True, secure=False):
    words = arguments.split() + (["--ahead", str(ahead)] if ahead else [])
    if qos:
        words += ["-q", str(qos), "--window", "100"]
    return Row(name, title, "us", figure, words, reach, qos=qos, forwarder=forwarder and not secure, secure=secure)


PAIRS = "--publishers 4 --subscribers 4 --topics 4"
DELIVERY = "broker_us_per_delivery"

# How far publishers may be ahead sets the size of the bursts, and the bursts set what everybody's system calls cost per
# message. A wide fan-out gets small bursts, as one turn of a broker can only pass on so much.
ROWS = [
    load("q0-1-1", "QoS 0 1→1", "", 1000, 0.25),
    load("q0-1-1-1k", "QoS 0 1→1, 1 KiB", "--payload 1024", 128, 0.55),
    load("q0-4-4", "QoS 0 4→4", PAIRS, 500, 0.12),
    load("q0-50-1", "QoS 0 50→1", "--publishers 50", 20, 0.25),
    load("q0-1-50", "QoS 0 1→50, per delivery", "--subscribers 50", 80, 0.25, figure=DELIVERY),
    load("q0-1-500", "QoS 0 1→500, per delivery", "--subscribers 500", 50, 0.35, figure=DELIVERY),
    load("q1-1-1", "QoS 1 1→1, window 100", "", 0, 0.45, qos=1),
    load("q1-4-4", "QoS 1 4→4, window 100", PAIRS, 0, 0.22, qos=1),
    load("q2-1-1", "QoS 2 1→1, window 100", "", 0, 0.8, qos=2),
    load("q2-4-4", "QoS 2 4→4, window 100", PAIRS, 0, 0.4, qos=2),
    load("tls-q0-1-1", "QoS 0 1→1, TLS 1.3", "", 1000, 0.45, secure=True),
    load("tls-q1-1-1", "QoS 1 1→1, window 100, TLS 1.3", "", 0, 0.55, qos=1, secure=True),
    load("wildcard", "4→100 × 20 wildcards, per delivery", "--publishers 4 --subscribers 100 --filters 20", 400, 0.3,
         figure=DELIVERY, forwarder=False),
    Row("latency-p50", "latency at 1,000/s, p50", "us", "p50", times_forwarder=1.5, kind="latency"),
    Row("latency-p99", "latency at 1,000/s, p99", "us", "p99", times_forwarder=2, kind="latency"),
    Row("idle-bytes", "idle connection, of 15,000", "bytes", "broker_bytes_per_connection", reach=600, kind="connections",
        forwarder=False),
    Row("idle-bytes-sub", "… with one subscription", "bytes", "broker_bytes_per_connection", ["--subscribe"], reach=1200,
        kind="connections", forwarder=False),
    Row("connect", "connecting, CPU each", "us", "broker_us_per_connect", reach=20, kind="connections", forwarder=False),
    Row("start", "start to first accepted CONNECT", "ms", "start_ms", reach=5, kind="start"),
    Row("idle-rss", "idle RSS", "MiB", "rss_mib", reach=4, kind="idle"),
    Row("idle-pss", "idle PSS", "MiB", "pss_mib", reach=2, kind="idle"),
    Row("idle-cpu", "idle CPU", "%", "cpu_percent", reach=0.01, kind="idle"),
    Row("size", "stripped binary", "MB", "megabytes", reach=1, kind="size", forwarder=False),
]


class Failed(Exception):
    pass


class Bench:
    def __init__(self, options):
        self.options = options
        self.shared = {}  # results that several rows read, by repetition

    def run_generator(self, mode, arguments, server, subject):
        argv = [str(brokers.BUILD), "bench", mode, "--port", str(server.port), "--broker-pid", str(server.pid), "--quiet",
                *arguments]
        if server.secure:
            argv += ["-h", "localhost", "--cafile", server.authority, "--tls-version", "1.3"]
        argv += ["--raw"] if subject == FORWARDER else ["-V", self.options.version]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise Failed(done.stderr.strip() or "no result") from None
        result.update(result.pop("latency_us", {}))
        return result

    def start(self, subject, qos=0, secure=False):
        try:
            return brokers.start_forwarder(qos) if subject == FORWARDER else brokers.start_broker(subject, secure)
        except RuntimeError as error:
            raise Failed(str(error)) from None

    def once(self, row, subject, repetition):
        """One figure's run: a dictionary that holds row.figure."""
        key = (row.kind, tuple(row.arguments), row.qos, row.secure, subject, repetition)
        if key not in self.shared:
            try:
                self.shared[key] = getattr(self, "run_" + row.kind)(row, subject)
            except Failed as error:
                self.shared[key] = {"error": str(error)}
        return self.shared[key]

    def run_load(self, row, subject):
        with self.start(subject, row.qos, row.secure) as server:
            arguments = [*row.arguments, "--seconds", str(self.options.seconds)]
            return self.run_generator("throughput", arguments, server, subject)

    def run_latency(self, row, subject):
        with self.start(subject) as server:
            arguments = ["--rate", "1000", "--seconds", str(self.options.seconds * 2)]
            return self.run_generator("latency", arguments, server, subject)

    def run_connections(self, row, subject):
        with self.start(subject) as server:
            arguments = ["--connections", "15000", *row.arguments]
            return self.run_generator("connections", arguments, server, subject)

    def run_start(self, row, subject):
        times = []
        for _ in range(self.options.starts):
            with self.start(subject) as server:
                times.append(server.start_ms)
        return {"start_ms": statistics.median(times)}

    def run_idle(self, row, subject):
        with self.start(subject) as server:
            time.sleep(1)
            memory = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
            kib = {name: int(value) for name, value in re.findall(r"^(Rss|Pss): +(\d+) kB", memory, re.M)}
            before, began = cpu_seconds(server.pid), time.monotonic()
            time.sleep(self.options.idle)
            used, passed = cpu_seconds(server.pid) - before, time.monotonic() - began
        return {"rss_mib": kib["Rss"] / 1024, "pss_mib": kib["Pss"] / 1024, "cpu_percent": 100 * used / passed}

    def run_size(self, row, subject):
        path = Path(brokers.BROKERS[subject].path()).resolve()
        with tempfile.TemporaryDirectory() as directory:
            stripped = Path(directory) / "stripped"
            done = subprocess.run(["strip", "-o", str(stripped), str(path)], capture_output=True, text=True)
            if done.returncode:
                raise Failed(done.stderr.strip())
            return {"megabytes": stripped.stat().st_size / 1e6}


def cpu_seconds(pid):
    """Of all threads, in ns resolution."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def subjects_of(row, names):
    wanted = [FORWARDER] if row.forwarder else []
    for name in names:
        if row.kind == "load" and row.qos not in brokers.BROKERS[name].qos:
            continue
        if row.secure and not brokers.BROKERS[name].secure:
            continue
        wanted.append(name)
    return wanted


def measure(bench, rows, names, repeat):
    """{row name: {subject: [result of each repetition]}}. The repetitions go round, so that a slow spell hits everybody."""
    results = {row.name: {subject: [] for subject in subjects_of(row, names)} for row in rows}
    total = repeat * sum(len(by_subject) for by_subject in results.values())
    done = 0
    for repetition in range(repeat):
        for row in rows:
            for subject in results[row.name]:
                result = bench.once(row, subject, repetition)
                results[row.name][subject].append(result)
                done += 1
                said = result.get("error") or f"{result.get(row.figure, float('nan')):.4g} {row.unit}"
                if result.get("verified") is False:
                    said += "  NOT VERIFIED: " + problems(result)
                print(f"[{done}/{total}] {row.title}: {subject} {said}", file=sys.stderr, flush=True)
    return results


def problems(result):
    keys = ("lost", "duplicates", "disordered", "unexpected", "corrupt", "refused", "stalled")
    return ", ".join(f"{key} {result[key]}" for key in keys if result.get(key))


def median(row, runs):
    values = [run[row.figure] for run in runs if "error" not in run and run.get(row.figure) is not None]
    return statistics.median(values) if values else None


def mark_of(row, figures):
    if row.times_forwarder is not None:
        return figures.get(FORWARDER) and figures[FORWARDER] * row.times_forwarder
    return row.reach


def show(value):
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 20 else f"{value:.0f}"


def table(rows, results, names):
    header = ["work", "unit", FORWARDER, *names]
    compared = "skerry" in names and "mosquitto" in names
    header += (["mosquitto ÷ skerry"] if compared else []) + (["reach", ""] if "skerry" in names else [])
    lines = [header]
    misses = []
    for row in rows:
        figures = {subject: median(row, runs) for subject, runs in results[row.name].items()}
        line = [row.title, row.unit, *(show(figures.get(subject)) for subject in [FORWARDER, *names])]
        ours, theirs = figures.get("skerry"), figures.get("mosquitto")
        if compared:
            line.append(f"{theirs / ours:.1f}×" if ours and theirs else "–")
        if "skerry" in names:
            mark = mark_of(row, figures)
            verdict = "" if mark is None else "miss" if ours is None or ours > mark else "ok"
            line += [f"≤ {show(mark)}", verdict]
            if verdict == "miss":
                misses.append(row.name)
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))]
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            rules = ["-" * (width + 2) if i < 2 else "-" * (width + 1) + ":" for i, width in enumerate(widths)]
            print("|" + "|".join(rules) + "|")
    return misses


def host():
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {"cpu": model.group(1) if model else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()}


def parse():
    parser = argparse.ArgumentParser(description="Compare brokers side by side.",
                                     epilog="Rows: " + ", ".join(row.name for row in ROWS))
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--only", metavar="PATTERN", action="append", help="rows to run, 'q0-*'; may be repeated")
    parser.add_argument("--brokers", metavar="NAMES", help="comma-separated; default: all that are installed")
    parser.add_argument("--repeat", metavar="N", type=int, help="runs of each, of which the median counts (3)")
    parser.add_argument("--seconds", metavar="S", type=float, help="length of a run (3)")
    parser.add_argument("--version", metavar="V", default="3.1.1", help="of MQTT: 3.1.1, which all brokers speak, or 5")
    parser.add_argument("--json", metavar="FILE", help="write every run's result")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure misses its mark")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick else 3)
    options.seconds = options.seconds or (1 if options.quick else 3)
    options.idle = 2 if options.quick else 10
    options.starts = 5 if options.quick else 15
    options.rows = [row for row in ROWS if not options.only or any(fnmatch.fnmatch(row.name, p) for p in options.only)]
    if not options.rows:
        parser.error("no row matches --only")
    known = list(brokers.BROKERS)
    asked = options.brokers.split(",") if options.brokers else known
    for name in asked:
        if name not in known:
            parser.error(f"unknown broker {name}; known are {', '.join(known)}")
    options.names = [name for name in asked if brokers.BROKERS[name].path()]
    for name in set(asked) - set(options.names):
        if options.brokers:
            parser.error(f"{name} is not installed")
    if options.version != "3.1.1" and "nats" in options.names:
        options.names.remove("nats")
    for program in (brokers.BUILD, brokers.FORWARDER):
        if not program.exists():
            parser.error(f"{program} is not built; run `make bench`")
    return options


def main():
    options = parse()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    versions = {name: brokers.version_of(name) for name in options.names}
    about = host()
    print(f"{about['cpus']} × {about['cpu']}, Linux {about['kernel']}, MQTT {options.version}, "
          f"median of {options.repeat} × {options.seconds:g} s")
    print("; ".join(f"{name}: {version}" for name, version in versions.items()) + "\n", flush=True)
    results = measure(Bench(options), options.rows, options.names, options.repeat)
    misses = table(options.rows, results, options.names)
    if options.json:
        report = {"host": about, "versions": versions, "mqtt": options.version, "rows": results}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    wrong = sorted({name for name, by_subject in results.items() for run in by_subject.get("skerry", [])
                    if "error" in run or run.get("verified") is False})
    if misses:
        print(f"\nMissed: {', '.join(misses)}")
    if wrong:
        print(f"\nFailed: {', '.join(wrong)}")
    return 1 if wrong or (options.strict and misses) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
