#!/usr/bin/python3
"""What TLS costs: CPU of a full and of a resumed handshake, beside a bare accept loop with the same library, certificate
and client; memory of idle connections; and what a flood of half-done handshakes does to a client that is connected.

Broker and bare loop are measured in turns, in short rounds: a figure is the median of the rounds, a ratio the median of each
round's own. Exit code 1 when a run fails, or, with --strict, when a figure misses its mark.
"""
import argparse
import contextlib
import itertools
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
FLOOD_TIMES = 2
CLIENTS = 6  # at once, where there are several

CONFIGURATION = """\
broker: {{shards: 1}}
log: {{level: error}}
limits: {{connections: 20000}}
listeners:
  - url: "mqtts://127.0.0.1:{port}"
    tls: {{cert: {directory}/{key}.pem, key: {directory}/{key}.key}}
    anonymous: true
"""
KEYS = {"p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}


def make_certificates(directory):
    for name, kind in KEYS.items():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost", "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"],
            check=True, capture_output=True, timeout=60)


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

    def __init__(self, name, key, directory):
        self.name = name
        self.port = brokers.free_port()
        if name == "bare":
            argv = [HANDSHAKES, "serve", str(self.port), directory / f"{key}.pem", directory / f"{key}.key"]
        else:
            configuration = directory / f"{key}-{self.port}.yaml"
            configuration.write_text(CONFIGURATION.format(port=self.port, directory=directory, key=key))
            argv = [brokers.BUILD, "broker", "-c", configuration]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def __enter__(self):
        try:
            wait_for(self.port)
        except RuntimeError:
            self.__exit__()
            raise
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

    def handshake_us(self, count, kind, version, clients):
        """CPU of one of count."""
        before = self.cpu_us()
        each = count // clients
        argv = [HANDSHAKES, "connect", str(self.port), str(each), kind, version, str(clients)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()}")
        time.sleep(0.02)
        return (self.cpu_us() - before) / (each * clients)


class Costs:
    """Of handshakes with one kind of key, version and number of clients: rounds for bare and skerry, full and resume."""

    def __init__(self, rounds, count, directory, key="p256", version="1.3", clients=1):
        self.of = {(name, kind): [] for name in ("bare", "skerry") for kind in ("full", "resume")}
        with contextlib.ExitStack() as stack:
            subjects = [stack.enter_context(Subject(name, key, directory)) for name in ("bare", "skerry")]
            for number in range(rounds + 1):
                for kind in ("full", "resume"):
                    for subject in subjects:
                        spent = subject.handshake_us(count, kind, version, clients)
                        if number > 0:  # the first warms up
                            self.of[subject.name, kind].append(spent)

    def us(self, name, kind):
        return statistics.median(self.of[name, kind])

    def ratio(self, over, under):
        return statistics.median(a / b for a, b in zip(self.of[over], self.of[under]))


def mqtt_client(port, identifier):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(identifier).to_bytes(2, "big") + identifier
    client.sendall(bytes([0x10, len(body)]) + body)
    if client.recv(4) != b"\x20\x02\x00\x00":
        raise RuntimeError("not let in")
    return client


def idle_bytes(count, directory):
    """Of resident memory, for each of `count` connections that have connected and then say nothing."""
    with Subject("skerry", "p256", directory) as subject, contextlib.ExitStack() as kept:
        for number in range(200):
            kept.enter_context(mqtt_client(subject.port, b"idle-%06d" % number))
        time.sleep(0.5)
        before = subject.rss_bytes()
        for number in range(200, 200 + count):
            kept.enter_context(mqtt_client(subject.port, b"idle-%06d" % number))
        time.sleep(1)
        return (subject.rss_bytes() - before) / count


def p99_us(client, seconds):
    """Of messages to itself, 64 bytes, one each millisecond."""
    packet = b"\x30\x45\x00\x03a/b" + b"x" * 64
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        client.sendall(packet)
        left = len(packet)
        while left > 0:
            got = client.recv(left)
            if not got:
                raise RuntimeError("the connection has ended")
            left -= len(got)
        took.append((time.perf_counter() - start) * 1e6)
        time.sleep(0.001)
    return sorted(took)[int(len(took) * 0.99)]


def flooded_us(client, port, seconds):
    """p99 of the client while the broker of that port is flooded."""
    flood = subprocess.Popen([HANDSHAKES, "flood", str(port), str(seconds + 3)])
    try:
        time.sleep(1.5)  # until as many are in progress as may be
        return p99_us(client, seconds)
    finally:
        flood.kill()
        flood.wait()
        time.sleep(0.5)


def flood_us(rounds, seconds, directory):
    """Medians of a client's p99, in turns: quiet; under a flood of handshakes that begin and never go on; and while another
    broker is flooded, which shows what the flood takes from everybody, for it uses the same cores."""
    with contextlib.ExitStack() as stack:
        subject, other = (stack.enter_context(Subject("skerry", "p256", directory)) for _ in range(2))
        client = stack.enter_context(mqtt_client(subject.port, b"bench-flood"))
        client.sendall(b"\x82\x08\x00\x01\x00\x03a/b\x00")
        client.recv(5)
        turns = []
        for _ in range(rounds):
            floods = [flooded_us(client, port, seconds) for port in (subject.port, other.port)]
            turns.append((p99_us(client, seconds), *floods))
    return [statistics.median(column) for column in zip(*turns)]


def handshake_rows(rounds, count, directory):
    one = Costs(rounds, count, directory)
    many = Costs(rounds, count, directory, clients=CLIENTS)
    for title, costs in (("", one), (f", {CLIENTS} clients at once", many)):
        full, times = costs.us("skerry", "full"), costs.ratio(("skerry", "full"), ("bare", "full"))
        yield f"full handshake{title}, CPU", f"{full:.0f} us", f"<= {FULL_US}", full <= FULL_US
        figures = f"{times:.2f} ({costs.us('bare', 'full'):.0f} us)"
        yield "... as a multiple of a bare accept loop", figures, f"<= {TIMES_BARE}", times <= TIMES_BARE
    others = [
        ("1.3, P-256", one),
        (f"1.3, P-256, {CLIENTS} clients at once", many),
        ("1.3, RSA-2048", Costs(rounds, count, directory, key="rsa")),
        ("1.2, P-256", Costs(rounds, count, directory, version="1.2")),
        ("1.2, RSA-2048", Costs(rounds, count, directory, key="rsa", version="1.2")),
    ]
    for title, costs in others:
        for name, mark in (("skerry", f">= {RESUMED_CHEAPER}"), ("bare", "")):
            cheaper = costs.ratio((name, "full"), (name, "resume"))
            figures = f"{cheaper:.1f} ({costs.us(name, 'full'):.0f}, {costs.us(name, 'resume'):.0f} us)"
            label = f"resumed, {title}: cheaper by" if name == "skerry" else "... of the bare accept loop"
            yield label, figures, mark, not mark or cheaper >= RESUMED_CHEAPER


def other_rows(options, directory):
    idle = 500 if options.quick else 4000
    size = idle_bytes(idle, directory)
    yield f"idle TLS connection, of {idle}", f"{size:.0f} bytes", f"<= {IDLE_BYTES}", size <= IDLE_BYTES
    quiet, flooded, beside = flood_us(2 if options.quick else 7, 2, directory)
    yield "p99 of a connected client", f"{quiet:.0f} us", "", True
    times = flooded / quiet
    figures = f"{times:.2f} ({flooded:.0f} us)"
    yield "... under a flood of half-open handshakes, times", figures, f"<= {FLOOD_TIMES}", times <= FLOOD_TIMES
    yield "... while another broker is flooded, times", f"{beside / quiet:.2f} ({beside:.0f} us)", "", True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--only", choices=("handshakes", "others"))
    options = parser.parse_args()
    rounds, count = (3, 120) if options.quick else (15, 300)
    all_met = True
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_certificates(directory)
        rows = [] if options.only == "others" else [handshake_rows(rounds, count, directory)]
        rows += [] if options.only == "handshakes" else [other_rows(options, directory)]
        for title, value, mark, met in itertools.chain(*rows):
            print(f"{title:58} {value:24} {mark:9} {'' if not mark else 'met' if met else 'MISSED'}", flush=True)
            all_met = all_met and met
    return 1 if options.strict and not all_met else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"tls.py: {error}")
