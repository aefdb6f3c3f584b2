#!/usr/bin/python3
"""What keeping messages costs: the journal beside a bare loop of append and fdatasync that is fed the same batches on the same disk in the
same run, and beside Debian's mosquitto, which acknowledges before anything is on disk. Prints a table; docs/benchmarks.md says what
each row means. Exit code 1 when a run failed or, with --strict, when a figure misses its mark.
"""
import argparse
import fnmatch
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import brokers

APPENDER = Path(os.environ.get("APPENDER", brokers.BUILD.parent / "bench" / "appender")).resolve()
PAYLOAD = 256

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {data}/
log_dest none
max_inflight_messages 100
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""


class Failed(Exception):
    pass


class Broker:
    """A broker over a data directory that outlives it."""

    def __init__(self, data, name="skerry", durability="commit"):
        self.data, self.name, self.durability = data, name, durability
        self.start()

    def start(self):
        self.port, self.metrics_port = brokers.free_port(), None
        directory = tempfile.mkdtemp(prefix="skerry-bench-")
        if self.name == "mosquitto":
            configuration = Path(directory) / "mosquitto.conf"
            configuration.write_text(MOSQUITTO.format(port=self.port, data=self.data))
            os.chmod(directory, 0o755)
            argv = [brokers.BROKERS["mosquitto"].path(), "-c", str(configuration)]
        else:
            self.metrics_port = self.port + 1
            settings = {
                "metrics.listen": f"127.0.0.1:{self.metrics_port}", "journal.durability": self.durability,
                "limits.in_flight": 100, "limits.queue_messages": 0, "limits.queue_bytes": "16GiB", "log.level": "error",
                "sys.interval": 0}
            argv = [str(brokers.BUILD), "broker", "--listen", f"mqtt://127.0.0.1:{self.port}", "--data", str(self.data)]
            for key, value in settings.items():
                argv += ["--set", f"{key}={value}"]
        self.server = brokers.Server(argv, self.port, brokers.CONNECT, brokers.CONNACK, directory)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in re.findall(r"^(skerry_\S+) (\S+)$", text, re.M)}

    def rss(self, name="VmRSS"):
        return int(re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{self.server.pid}/status").read_text(), re.M)[1]) / 1024

    def backlog(self, *arguments):
        argv = [str(brokers.BUILD), "bench", "backlog", "--port", str(self.port), "--broker-pid", str(self.server.pid), "--quiet",
                "-V", "3.1.1", "-q", "1", "--payload", str(PAYLOAD), "--timeout", "60", *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise Failed(done.stderr.strip() or done.stdout.strip()[-300:] or "no result")
        return json.loads(done.stdout)

    def kill(self):
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.process.wait()
        self.server.stop()

    def stop(self):
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(timeout=60)
        self.server.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()


def appender(data, batch_bytes, seconds):
    done = subprocess.run([str(APPENDER), str(data), str(max(1, int(batch_bytes))), str(seconds)], capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip())
    return json.loads(done.stdout)


def drop_caches():
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return "warm cache"  # only root may
    return "cold cache"


class Bench:
    def __init__(self, options):
        self.options = options
        self.base = Path(options.directory)
        self.rows = []  # (name, title, unit, skerry, bare, mosquitto, reach text, met or None)

    def scratch(self):
        return Path(tempfile.mkdtemp(prefix="skerry-journal-", dir=self.base))

    def add(self, name, title, unit, figure, bare=None, mosquitto=None, reach="", met=None):
        self.rows.append((name, title, unit, figure, bare, mosquitto, reach, met))
        print(f"{title}: {show(figure)} {unit}", file=sys.stderr, flush=True)

    def commits(self, publishers, window, messages):
        """One run over a new directory: messages a second of ours, of the bare loop with the same batches, bytes a message."""
        data = self.scratch()
        try:
            with Broker(data) as broker:
                before = broker.metrics()
                result = broker.backlog("--publishers", publishers, "--window", window, "--messages", messages, "--keep")
                after = broker.metrics()
                broker.stop()
            syncs = after["skerry_journal_syncs_total"] - before["skerry_journal_syncs_total"]
            written = after["skerry_journal_written_bytes_total"] - before["skerry_journal_written_bytes_total"]
            bare = appender(data, written / syncs, self.options.seconds)
            per_batch = messages / syncs
            return {"rate": result["queued_per_s"], "bare": bare["batches_per_s"] * per_batch, "batch": per_batch,
                    "bytes": written / messages, "us": 1e6 / result["queued_per_s"], "bare_us": bare["us_per_batch"],
                    "cpu_us": result["broker_us_per_queued"]}
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def mosquitto(self, publishers, window, messages):
        if not brokers.BROKERS["mosquitto"].path():
            return None
        data = self.scratch()
        os.chmod(data, 0o777)
        try:
            with Broker(data, "mosquitto") as broker:
                arguments = ["--publishers", publishers, "--window", window, "--messages", messages, "--keep"]
                return broker.backlog(*arguments)["queued_per_s"]
        except Failed:
            return None
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def run_group(self):
        messages = 100_000 if self.options.quick else 400_000
        runs = [self.commits(64, 64, messages) for _ in range(self.options.repeat)]
        ours = statistics.median(run["rate"] for run in runs)
        share = statistics.median(run["rate"] / run["bare"] for run in runs)
        bare = statistics.median(run["bare"] for run in runs)
        peer = self.mosquitto(64, 64, messages)
        self.add("group", "64 publishers, 64 in flight", "msg/s", ours, bare, peer, "≥ 100,000 or 60 % of bare",
                 ours >= 100_000 or share >= 0.6)
        self.add("group-batch", "… messages per sync", "", statistics.median(run["batch"] for run in runs))
        self.add("group-cpu", "… CPU of the broker", "us/msg", statistics.median(run["cpu_us"] for run in runs))

    def run_single(self):
        messages = 2_000 if self.options.quick else 10_000
        runs = [self.commits(1, 1, messages) for _ in range(self.options.repeat)]
        ratio = statistics.median(run["us"] / run["bare_us"] for run in runs)
        peer = self.mosquitto(1, 1, messages)
        self.add("single", "1 publisher, 1 in flight", "us", statistics.median(run["us"] for run in runs),
                 statistics.median(run["bare_us"] for run in runs), 1e6 / peer if peer else None, "≤ 1.3 × bare", ratio <= 1.3)
        self.add("single-ratio", "… times bare", "×", ratio)

    def run_wear(self):
        messages = 50_000 if self.options.quick else 200_000
        data = self.scratch()
        try:
            with Broker(data) as broker:
                broker.backlog("--window", 100, "--messages", messages)
                metrics = broker.metrics()
                broker.stop()
        finally:
            shutil.rmtree(data, ignore_errors=True)
        times = metrics["skerry_journal_written_bytes_total"] / messages / PAYLOAD
        per_sync = messages / metrics["skerry_journal_syncs_total"]
        self.add("wear", f"written, queued and drained, {per_sync:.0f} a sync", "× payload", times, reach="≤ 1.5", met=times <= 1.5)

    def run_drain(self):
        messages = 200_000 if self.options.quick else 1_000_000
        data = self.scratch()
        try:
            with Broker(data) as broker:
                result = broker.backlog("--publishers", 16, "--window", 100, "--messages", messages)
                grown = broker.rss("VmHWM") - result["broker_rss_bytes_queued"] / 2**20
                broker.stop()
        finally:
            shutil.rmtree(data, ignore_errors=True)
        self.add("drain", f"draining {messages:,}", "msg/s", result["drained_per_s"], reach="≥ 300,000",
                 met=result["drained_per_s"] >= 300_000)
        self.add("drain-rss", "… growth of RSS", "MiB", grown, reach="≤ 8", met=grown <= 8)

    def run_many(self):
        messages = 500_000 if self.options.quick else 5_000_000
        data = self.scratch()
        try:
            broker = Broker(data)
            idle = broker.rss()
            broker.backlog("--publishers", 64, "--window", 100, "--messages", messages, "--keep")
            grown = broker.rss() - idle
            self.add("many-rss", f"{messages:,} queued, RSS above idle", "MiB", grown, reach="≤ 32", met=grown <= 32)
            broker.stop()
            cache = drop_caches()
            broker.start()
            ms = broker.server.start_ms
            self.add("many-stop", f"… restart after a clean stop, {cache}", "ms", ms, reach="≤ 1000", met=ms <= 1000)
            broker.backlog("--publishers", 64, "--window", 100, "--messages", messages // 20, "--prefix", "more", "--keep")
            broker.kill()
            cache = drop_caches()
            broker.start()
            ms = broker.server.start_ms
            self.add("many-kill", f"… restart after kill -9, {cache}", "ms", ms, reach="≤ 2000", met=ms <= 2000)
            broker.stop()
        finally:
            shutil.rmtree(data, ignore_errors=True)


def show(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def table(rows):
    lines = [["work", "unit", "append + fdatasync", "skerry", "mosquitto *", "reach", ""]]
    for _, title, unit, figure, bare, peer, reach, met in rows:
        lines.append([title, unit, show(bare), show(figure), show(peer), reach, "" if met is None else "ok" if met else "miss"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for number, line in enumerate(lines):
        cells = [cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths))]
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("|" + "|".join("-" * (w + 1) + ":" if 2 <= i <= 4 else "-" * (w + 2) for i, w in enumerate(widths)) + "|")
    print("\n* acknowledges before anything is on disk (autosave: half an hour): a kill or a power cut loses what it acknowledged.")


def main():
    names = ["group", "single", "wear", "drain", "many"]
    parser = argparse.ArgumentParser(description="Measure the journal.", epilog="Rows: " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--only", metavar="PATTERN", action="append", help="rows to run; may be repeated")
    parser.add_argument("--repeat", metavar="N", type=int, help="runs of each, of which the median counts (3)")
    parser.add_argument("--seconds", metavar="S", type=float, help="length of a run of the bare loop (3)")
    parser.add_argument("--directory", default=str(brokers.BUILD.parent), help="on the disk to measure (beside the binary)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure misses its mark")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick else 3)
    options.seconds = options.seconds or (1 if options.quick else 3)
    bench, failed = Bench(options), []
    for name in names:
        if options.only and not any(fnmatch.fnmatch(name, pattern) for pattern in options.only):
            continue
        try:
            getattr(bench, "run_" + name)()
        except (Failed, RuntimeError, KeyError, subprocess.TimeoutExpired) as error:
            print(f"{name}: {error!r}", file=sys.stderr)
            failed.append(name)
    table(bench.rows)
    if options.json:
        Path(options.json).write_text(json.dumps([dict(zip(
            ("name", "title", "unit", "skerry", "bare", "mosquitto", "reach", "met"), row)) for row in bench.rows], indent=1) + "\n")
    missed = [row[0] for row in bench.rows if row[-1] is False]
    if missed:
        print(f"\nMissed: {', '.join(missed)}")
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed or (options.strict and missed) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
