#!/usr/bin/python3
"""What TLS costs: CPU of a full and of a resumed handshake, beside a bare accept loop with the same library, certificate and client,
in turns; and the memory of idle TLS connections. Figures are medians. Exit code 1 when a run fails, or, with --strict, when a figure misses
its mark.
"""
import argparse
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import brokers

HANDSHAKES = Path(os.environ.get("HANDSHAKES", brokers.BUILD.parent / "bench" / "handshakes")).resolve()
FULL_US = 240
TIMES_BARE = 1.2
RESUMED_CHEAPER = 3
IDLE_BYTES = 12000

CONFIGURATION = """\
broker: {{shards: 1}}
log: {{level: error}}
limits: {{connections: 20000}}
listeners:
  - url: "mqtts://127.0.0.1:{port}"
    tls: {{cert: {directory}/cert.pem, key: {directory}/key.pem}}
    anonymous: true
"""


def wait_for(port):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port}")


class Subject:
    """A server that runs until the context ends."""

    def __init__(self, name, directory):
        self.port = brokers.free_port()
        if name == "bare":
            argv = [HANDSHAKES, "serve", str(self.port), directory / "cert.pem", directory / "key.pem"]
        else:
            configuration = directory / "skerry.yaml"
            configuration.write_text(CONFIGURATION.format(port=self.port, directory=directory))
            argv = [brokers.BUILD, "broker", "-c", configuration]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def __enter__(self):
        wait_for(self.port)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_us(self):
        """Of all its threads, from the scheduler: nanoseconds."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1000

    def rss_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")


def connect(subject, count, kind):
    done = subprocess.run([HANDSHAKES, "connect", str(subject.port), str(count), kind], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def measure(name, kind, count, directory):
    with Subject(name, directory) as subject:
        connect(subject, 50, kind)
        before = subject.cpu_us()
        result = connect(subject, count, kind)
        time.sleep(0.05)
        spent = subject.cpu_us() - before
        if kind == "resume" and result["resumed"] < count - 1:
            raise RuntimeError(f"{name}: only {result['resumed']} of {count} connections were resumed")
        return spent / count


def idle_bytes(count, directory):
    """Of resident memory, for each of `count` connections that have connected and then say nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    kept = []

    def open_one(number, port):
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))
        identifier = b"idle-%06d" % number
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(identifier).to_bytes(2, "big") + identifier
        client.sendall(bytes([0x10, len(body)]) + body)
        if client.recv(4) != b"\x20\x02\x00\x00":
            raise RuntimeError("not let in")
        kept.append(client)

    with Subject("skerry", directory) as subject:
        for number in range(200):
            open_one(number, subject.port)
        time.sleep(0.5)
        before = subject.rss_bytes()
        for number in range(200, 200 + count):
            open_one(number, subject.port)
        time.sleep(1)
        grown = subject.rss_bytes() - before
        for client in kept:
            client.close()
        return grown / count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    runs, count, idle = (1, 500, 500) if options.quick else (5, 2000, 4000)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        brokers.make_certificate(directory)
        for _ in range(runs):
            for kind in ("full", "resume"):
                for subject in ("bare", "skerry"):
                    figures.setdefault((subject, kind), []).append(measure(subject, kind, count, directory))
        idle_figure = idle_bytes(idle, directory)
    median = {key: statistics.median(values) for key, values in figures.items()}
    full, bare = median["skerry", "full"], median["bare", "full"]
    cheaper = full / median["skerry", "resume"]
    rows = [
        ("full handshake, CPU", f"{full:.0f} us", f"<= {FULL_US}", full <= FULL_US),
        ("... as a multiple of a bare accept loop", f"{full / bare:.2f} ({bare:.0f} us)", f"<= {TIMES_BARE}", full <= TIMES_BARE * bare),
        ("resumed handshake: cheaper by", f"{cheaper:.1f} ({median['skerry', 'resume']:.0f} us)", f">= {RESUMED_CHEAPER}",
         cheaper >= RESUMED_CHEAPER),
        ("... of the bare accept loop", f"{bare / median['bare', 'resume']:.1f} ({median['bare', 'resume']:.0f} us)", "", True),
        (f"idle TLS connection, of {idle}", f"{idle_figure:.0f} bytes", f"<= {IDLE_BYTES}", idle_figure <= IDLE_BYTES),
    ]
    for title, value, mark, met in rows:
        print(f"{title:42} {value:20} {mark:10} {'' if not mark else 'met' if met else 'MISSED'}")
    return 1 if options.strict and not all(row[3] for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"tls.py: {error}")
