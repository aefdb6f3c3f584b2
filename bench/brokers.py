"""The brokers that run.py compares: how each is started for the same load, in one table.

All listen on 127.0.0.1, keep nothing on disk (mosquitto: no persistence; skerry: no broker.data), log nothing, allow 20,000
connections, drop nothing that they can be told not to drop, and take 100 messages in flight per client, as the load
generator's window is. Two worker threads where a broker has a choice.
"""
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("SKERRY", HERE.parent / "build" / "skerry")).resolve()
FORWARDER = Path(os.environ.get("FORWARDER", BUILD.parent / "bench" / "forwarder")).resolve()

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_dest none
max_connections -1
max_inflight_messages 100
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""

NATS = """\
server_name: bench
listen: "127.0.0.1:{port2}"
max_connections: 20000
max_pending: 256MB
jetstream {{ store_dir: "{directory}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: 100 }}
"""

FLASHMQ = """\
allow_anonymous true
quiet true
log_file {directory}/flashmq.log
thread_count 2
client_max_write_buffer_size 67108864
max_qos_msg_pending_per_client 65535
max_qos_bytes_pending_per_client 268435456
rlimit_nofile 20000
listen {{
  protocol mqtt
  port {port}
  inet_protocol ip4
  inet4_bind_address 127.0.0.1
}}
"""

NANOMQ = """\
num_taskq_thread = 2
max_taskq_thread = 2
max_packet_size = 2MB
max_mqueue_len = 65535
allow_anonymous = true
listeners.tcp {{ bind = "127.0.0.1:{port}" }}
log {{ to = [file], level = error, dir = "{directory}", file = "nanomq.log" }}
"""


# The same certificate for every broker, ECDSA on P-256. Mosquitto gives up root before it reads the key: hence the mode.
MOSQUITTO_TLS = """\
certfile {directory}/cert.pem
keyfile {directory}/key.pem
"""

FLASHMQ_TLS = """\
  fullchain {directory}/cert.pem
  privkey {directory}/key.pem
"""

SKERRY_TLS = """\
listeners:
  - url: "mqtts://127.0.0.1:{port}"
    tls: {{cert: {directory}/cert.pem, key: {directory}/key.pem}}
    anonymous: true
"""


@dataclass(frozen=True)
class Broker:
    name: str
    program: str  # looked up on the PATH, or a path
    arguments: list[str]
    configuration: str = ""  # written to {configuration}
    secure: str = ""  # the same with TLS; "": not known how
    qos: tuple[int, ...] = (0, 1, 2)
    version: tuple[str, ...] = ()  # arguments that make it print its version

    def path(self):
        # Debian has servers in sbin, which is not on everybody's PATH.
        search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
        return shutil.which(self.program, path=search)


BROKERS = {
    broker.name: broker
    for broker in [
        Broker(
            "skerry",
            str(BUILD),
            ["broker", "--listen", "mqtt://127.0.0.1:{port}"]
            + [word for setting in (
                "broker.shards=2",
                "limits.connections=20000",
                "limits.in_flight=100",
                "limits.queue_messages=1000000",
                "limits.queue_bytes=256MiB",
                "broker.memory_limit=1GiB",
                "log.level=error",
            ) for word in ("--set", setting)],
            secure=SKERRY_TLS,
            version=("--version",),
        ),
        Broker("mosquitto", "mosquitto", ["-c", "{configuration}"], MOSQUITTO, MOSQUITTO + MOSQUITTO_TLS, version=("-h",)),
        Broker("flashmq", "flashmq", ["--config-file", "{configuration}"], FLASHMQ, FLASHMQ[:-2] + FLASHMQ_TLS + "}}\n",
               version=("--version",)),
        # No MQTT 5, and it disconnects at QoS 2.
        Broker("nats", "nats-server", ["-c", "{configuration}"], NATS, qos=(0, 1), version=("--version",)),
        Broker("nanomq", "nanomq", ["start", "--conf", "{configuration}"], NANOMQ, version=("--version",)),
    ]
}


def free_port():
    """A port below the ephemeral ones, so that no outgoing connection takes it meanwhile."""
    for port in range(20000 + os.getpid() % 1000 * 10, 32700):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


# CONNECT of MQTT 3.1.1, clean session, client identifier "bench-start".
CONNECT = b"\x10\x17\x00\x04MQTT\x04\x02\x00\x00\x00\x0bbench-start"
CONNACK = b"\x20\x02\x00\x00"
# What the forwarder takes for a subscriber of its last group.
ANNOUNCE = b"S\xff\x00\x00\x40"
ANNOUNCED = b"R"


class Server:
    """A started broker or forwarder; use as a context. `start_ms` is from starting it to the first accepted connection."""

    def __init__(self, argv, port, greeting, answer, directory, secure=False):
        self.port = port
        self.directory = directory
        self.secure = secure
        self.log = open(Path(directory) / "output.log", "wb")
        started = time.perf_counter()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False)
        self.pid = self.process.pid
        try:
            self._greet(greeting, answer, started + 20)
        except Exception:
            self.stop()
            raise
        self.start_ms = (time.perf_counter() - started) * 1000

    def _connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        if not self.secure:
            return connection
        context = ssl.create_default_context(cafile=self.authority)
        return context.wrap_socket(connection, server_hostname="localhost")

    @property
    def authority(self):
        """The file with the certificate that clients have to trust."""
        return f"{self.directory}/cert.pem"

    def _greet(self, greeting, answer, deadline):
        while True:
            try:
                with self._connect() as connection:
                    connection.sendall(greeting)
                    if connection.recv(len(answer)) == answer:
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError("did not start: " + self.said())

    def said(self):
        return (Path(self.directory) / "output.log").read_text(errors="replace").strip()[-300:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_forwarder(ack=0):
    port = free_port()
    directory = tempfile.mkdtemp(prefix="skerry-bench-")
    return Server([str(FORWARDER), "--port", str(port), "--ack", str(ack)], port, ANNOUNCE, ANNOUNCED, directory)


def make_certificate(directory):
    """cert.pem, of localhost and 127.0.0.1, signed by itself, and key.pem."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"],
        check=True, capture_output=True, timeout=60)
    os.chmod(f"{directory}/key.pem", 0o644)


def start_broker(name, secure=False):
    broker = BROKERS[name]
    directory = tempfile.mkdtemp(prefix="skerry-bench-")
    port = free_port()
    words = {"port": port, "port2": port + 1, "directory": directory, "configuration": f"{directory}/broker.conf"}
    configuration = broker.secure if secure else broker.configuration
    if secure:
        make_certificate(directory)
    if configuration:
        Path(words["configuration"]).write_text(configuration.format(**words))
        # Mosquitto gives up root and must still be able to read its file.
        os.chmod(directory, 0o755)
    argv = [broker.path()] + [argument.format(**words) for argument in broker.arguments]
    if secure and name == "skerry":
        listen = argv.index("--listen")
        argv[listen:listen + 2] = ["-c", words["configuration"]]
    return Server(argv, port, CONNECT, CONNACK, directory, secure)


def version_of(name):
    broker = BROKERS[name]
    try:
        out = subprocess.run([broker.path(), *broker.version], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    lines = (out.stdout + out.stderr).strip().splitlines()
    return lines[0] if lines else "?"
