"""Starts and watches a broker for tests: Skerry, or Debian's mosquitto as a cross-check of the tests themselves."""

import errno
import getpass
import itertools
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import wire
from wire import SLOW, TIMEOUT_S, Client, Stream, WebSocket

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOSQUITTO = os.environ.get("BROKER") == "mosquitto"
START_S = 10 * SLOW


def skerry_binary():
    return os.path.abspath(os.environ.get("SKERRY", ROOT / "build" / "skerry"))


def _ports():
    """Ports of this worker's own, below those that the kernel gives to clients: nobody else takes one between probing and use."""
    lowest = 10_000
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as ephemeral:
        highest = max(int(ephemeral.read().split()[0]), lowest + 4_000)
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0")))
    share = (highest - lowest) // max(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), 1)
    first = lowest + worker * share
    # Somebody else's run on the same machine starts elsewhere.
    start = int.from_bytes(os.urandom(4), "little")
    return itertools.cycle(first + (start + i) % share for i in range(share))


PORTS = _ports()


def free_port(host="127.0.0.1"):
    for _ in range(1_000):
        port = next(PORTS)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As the broker does: what a run before has left in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
    raise AssertionError("no port is free")


def have_ipv6():
    try:
        free_port("::1")
        return True
    except OSError:
        return False


def eventually(condition, what, timeout=TIMEOUT_S):
    """Waits for something that gives no sign of its own, such as a number in /metrics."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def elapse(seconds):
    """Lets time pass where time itself is the input of a test: expiries. Never to wait for an answer."""
    time.sleep(seconds)


class Metrics:
    """One scrape, parsed: {name: {labels as a sorted tuple: value}}."""

    LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text, self.series = text, {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            found = self.LINE.match(line)
            assert found, f"not a metric: {line}"
            name, labels, value = found.groups()
            key = tuple(sorted(self.LABEL.findall(labels or "")))
            assert key not in self.series.setdefault(name, {}), f"series twice: {line}"
            self.series[name][key] = float(value)

    def total(self, name, **labels):
        """The sum of the series of this name that have these labels; 0 when there are none."""
        wanted = set(labels.items())
        return sum(v for key, v in self.series.get(name, {}).items() if wanted <= set(key))


def size_bytes(text):
    """A size as the configuration has it."""
    number, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB)?", str(text)).groups()
    return int(number) << {None: 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]


def fit_packets(config):
    """A small journal takes small packets only: as large ones as it allows, unless the test says."""
    journal = {"segment": "16MiB", "reserve": "64MiB"} | config.get("journal", {})
    largest = min(size_bytes(journal["segment"]) // 2, size_bytes(journal["reserve"]) // 4)
    if largest < 1 << 20:
        config["limits"] = {"packet_size": f"{largest >> 10}KiB"} | config.get("limits", {})


class Broker:
    """A running broker. `options` overrides parts of the configuration (a dict that is merged)."""

    def __init__(self, directory, shards=1, options=None, args=(), env=None, wait=True, config=True, kind=None, **popen):
        self.directory = pathlib.Path(directory)
        self.shards, self.args, self.popen = shards, list(args), popen
        self.mosquitto = MOSQUITTO if kind is None else kind == "mosquitto"
        self.port, self.ws_port, self.metrics_port = free_port(), free_port(), free_port()
        self.port6 = free_port("::1") if have_ipv6() else None
        self.proxy_port = free_port()
        self.unix = str(self.directory / "broker.sock")
        self.log_file = self.directory / "broker.log"
        self.config_file = self.directory / ("mosquitto.conf" if self.mosquitto else "skerry.yaml")
        self.config = self._config(options or {})
        self.env = dict(os.environ, **(env or {}))
        self.process, self.with_config = None, config
        self.write_config()
        if wait:
            self.start()
        else:
            self.spawn()

    # Configuration

    def _config(self, options):
        listeners = [
            {"url": f"mqtt://127.0.0.1:{self.port}", "anonymous": True},
            {"url": f"ws://127.0.0.1:{self.ws_port}/mqtt", "anonymous": True},
            {"url": f"unix://{self.unix}", "anonymous": True},
            {"url": f"mqtt://127.0.0.1:{self.proxy_port}", "anonymous": True, "proxy_protocol": True},
        ]
        if self.port6:
            listeners.append({"url": f"mqtt://[::1]:{self.port6}", "anonymous": True})
        config = {
            "broker": {"id": "test", "data": str(self.directory / "data"), "shards": self.shards},
            "listeners": listeners,
            "metrics": {"listen": f"127.0.0.1:{self.metrics_port}"},
            "log": {"level": "debug", "format": "text"},
        }
        for section, values in options.items():
            if isinstance(values, dict):
                config.setdefault(section, {}).update(values)
            else:
                config[section] = values
        fit_packets(config)
        return config

    def write_config(self):
        if self.mosquitto:
            self.config_file.write_text(
                f"listener {self.port} 127.0.0.1\nallow_anonymous true\n"
                f"listener {self.ws_port} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"
                f"listener 0 {self.unix}\nallow_anonymous true\n"
                + (f"listener {self.port6} ::1\nallow_anonymous true\n" if self.port6 else "")
                + f"user {getpass.getuser()}\n"
                + "max_inflight_messages 32\nmax_queued_messages 1000\nmax_packet_size 1048576\nsys_interval 1\n"
                + "max_keepalive 3600\nlog_dest stderr\nlog_type all\n"
            )
        else:
            # JSON is YAML, and quotes what has to be quoted.
            self.config_file.write_text(json.dumps(self.config, indent=2) + "\n")

    # Life

    def command(self):
        if self.mosquitto:
            return ["mosquitto", "-c", str(self.config_file), *self.args]
        config = ["-c", str(self.config_file)] if self.with_config else []
        return [skerry_binary(), "broker", *config, *self.args]

    def spawn(self):
        log = open(self.log_file, "ab")
        self.process = subprocess.Popen(
            self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env, **self.popen
        )
        log.close()
        self.pid = self.process.pid

    def start(self):
        before = len(self.events("ready"))
        self.spawn()
        if self.mosquitto:
            self._wait_until(lambda: " running" in self.log(), "mosquitto is running")
        else:
            self._wait_until(lambda: len(self.events("ready")) > before, "the log event ready")
        return self

    def _wait_until(self, condition, what, timeout=START_S):
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}:\n{self.log()}"
            assert time.monotonic() < deadline, f"never: {what}\n{self.log()}"
            time.sleep(0.005)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=START_S):
        return self.process.wait(timeout)

    def stop(self):
        """A clean stop, which must be clean."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                code = self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"does not stop on SIGTERM\n{self.log()[-4000:]}") from None
        else:
            code = self.process.returncode
        assert code == 0, f"ended with {code}\n{self.log()[-8000:]}"
        self.check_log()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def check_log(self):
        log = self.log()
        for sign in ("Sanitizer", "runtime error:", "Assertion"):
            assert sign not in log, log[-8000:]

    def alive(self):
        """Still running and serving."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.log()[-8000:]}"
        with_client = self.client().connect()
        with_client.ping()
        with_client.disconnect()
        return True

    # Looking in

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def events(self, name):
        """Lines of a log event (text format: time, level, event, fields)."""
        return [line for line in self.log().splitlines() if re.match(rf"\S+ \w+ {re.escape(name)}(\s|$)", line)]

    def wait_event(self, name, count=1, timeout=TIMEOUT_S):
        return eventually(lambda: len(self.events(name)) >= count and self.events(name), f"log event {name}", timeout)

    @property
    def metrics_url(self):
        return f"http://127.0.0.1:{self.metrics_port}"

    def get(self, path):
        """(status, headers, text) of the admin port."""
        try:
            with urllib.request.urlopen(self.metrics_url + path, timeout=TIMEOUT_S) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode()

    def metrics(self):
        status, _, text = self.get("/metrics")
        assert status == 200
        return Metrics(text)

    def memory_bytes(self):
        """Resident memory of the process."""
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # Clients

    def stream(self, transport="tcp", **kw):
        if transport == "tcp":
            return Stream(("127.0.0.1", self.port), **kw)
        if transport == "tcp6":
            return Stream(("::1", self.port6), **kw)
        if transport == "unix":
            return Stream(self.unix, **kw)
        if transport == "proxy":
            return Stream(("127.0.0.1", self.proxy_port), **kw)
        assert transport == "ws"
        return WebSocket(("127.0.0.1", self.ws_port), **kw)

    def client(self, version=5, client_id=None, transport="tcp", **kw):
        """A client whose transport is connected; CONNECT is the test's to send."""
        return Client(self.stream(transport, **kw), version, client_id)

    def connect(self, version=5, client_id=None, transport="tcp", **kw):
        return self.client(version, client_id, transport).connect(**kw)

    def persistent(self, version=5, client_id=None, expiry_s=3600, **kw):
        """Connected with a session that outlives the connection. Clean Start is 0 unless said."""
        kw.setdefault("clean", False)
        if version == 5:
            props = wire.pairs(kw.pop("props", None))
            kw["props"] = props + [("session_expiry", expiry_s)]
        return self.connect(version, client_id, **kw)

    def resume(self, client, session_present=True, expiry_s=3600, **kw):
        """The same client again, on another connection."""
        return self.persistent(client.version, client.client_id, expiry_s, session_present=session_present, **kw)


def settle(publisher, *subscribers, topic=None):
    """Proves that nothing else is on its way: a marker that the publisher sends is the next thing that each subscriber gets.

    Messages of one publisher to one subscriber keep their order, so whatever was sent before would have come first.
    """
    topic = topic or wire.unique("marker/")
    for subscriber in subscribers:
        subscriber.subscribe(topic, qos=0)
    publisher.publish(topic, b"marker")
    for subscriber in subscribers:
        subscriber.expect_publish(topic, b"marker")
        subscriber.unsubscribe(topic)


class Reader(threading.Thread):
    """Reads a stream's bytes away in the background and counts them."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.bytes, self.stopping = client, 0, False
        self.start()

    def run(self):
        while not self.stopping:
            try:
                readable, _, _ = select.select([self.client.stream.socket], [], [], 0.05)
                if readable:
                    data = self.client.stream.socket.recv(1 << 20)
                    if not data:
                        return
                    self.bytes += len(data)
            except (OSError, ValueError):
                return

    def stop(self):
        self.stopping = True
        self.join()
