"""`skerry broker` as a process: start, stop, exit codes, service manager, reload, overrides."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest
from broker import START_S, TIMEOUT_S, eventually, free_port, skerry_binary
from strace import assert_idle
from wire import R, Client, Stream, T, unique

pytestmark = pytest.mark.skerry_only


def run(*args, timeout=START_S, **kw):
    """A run that ends by itself: (exit code, output)."""
    done = subprocess.run(
        [skerry_binary(), *args], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kw
    )
    return done.returncode, done.stdout + done.stderr


def write(path, config):
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


# ----------------------------------------------------------------------------------------------------- start and stop


@pytest.mark.parametrize("shards", [1, 2])
def test_ready_and_stop(make_broker, shards):
    broker = make_broker(shards)
    ready = broker.events("ready")
    assert len(ready) == 1 and " info ready" in ready[0]
    broker.alive()
    broker.stop()
    assert not os.path.exists(broker.unix), "the socket's file is left behind"


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_tells_clients(make_broker, shards, number):
    """0x8B to 5.0 clients, a close to the others; wills are sent to nobody that is still to be served."""
    broker = make_broker(shards)
    clients = [broker.client(v, transport=t).connect() for v in (3, 4, 5) for t in ("tcp", "unix", "ws") for _ in range(3)]
    broker.signal(number)
    for client in clients:
        client.expect_disconnect(R.SHUTTING_DOWN)
    assert broker.wait() == 0


def test_stop_with_clients_that_do_not_read(make_broker, topic):
    """Nobody can hold the stop up."""
    broker = make_broker()
    deaf = Client(broker.stream(receive_buffer=4096)).connect()
    deaf.subscribe(topic)
    publisher = broker.connect()
    for _ in range(200):
        publisher.publish(topic, b"x" * 20_000)
    publisher.ping()
    started = time.monotonic()
    broker.signal(signal.SIGTERM)
    assert broker.wait() == 0
    assert time.monotonic() - started < 3 * TIMEOUT_S


def test_connections_in_any_state_at_the_stop(make_broker):
    broker = make_broker()
    silent = broker.client()
    half = broker.client()
    half.send(b"\x10\x20\x00\x04MQ")
    handshake = Stream(("127.0.0.1", broker.ws_port))
    handshake.send(b"GET /mqtt HT")
    broker.alive()
    broker.signal(signal.SIGTERM)
    assert broker.wait() == 0
    silent.expect_closed()
    half.expect_closed()


def test_restart_on_the_same_ports(make_broker):
    broker = make_broker()
    for _ in range(3):
        client = broker.connect()
        broker.signal(signal.SIGTERM)
        client.expect_disconnect(R.SHUTTING_DOWN)
        assert broker.wait() == 0
        broker.start()


def test_socket_file_left_by_a_crash(make_broker):
    broker = make_broker()
    broker.process.kill()
    broker.process.wait()
    assert os.path.exists(broker.unix)
    broker.start()
    broker.client(transport="unix").connect().ping()


def test_without_a_configuration(tmp_path):
    """A loopback listener on 1883; here it is moved by --listen, so that the port is free."""
    port = free_port()
    process = subprocess.Popen(
        [skerry_binary(), "broker", "--listen", f"mqtt://127.0.0.1:{port}", "--data", str(tmp_path / "d")],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    try:
        for line in process.stderr:
            if " ready" in line:
                break
        Client(Stream(("127.0.0.1", port))).connect().disconnect()
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
    finally:
        process.kill()
        process.wait()


def test_json_log(make_broker):
    broker = make_broker(options={"log": {"level": "info", "format": "json"}}, wait=False)
    try:
        ready = eventually(
            lambda: [e for e in map(json.loads, broker.log().splitlines()) if e["event"] == "ready"], "ready", START_S
        )
        assert ready[0]["level"] == "info" and "time" in ready[0]
    finally:
        broker.kill()


# ----------------------------------------------------------------------------------------------------------- failures

BAD = {
    "unknown key": ("limits:\n  connections: 5\n  conections: 6\n", 3, "connections"),
    "unknown section": ("brokers: {}\n", 1, "broker"),
    "wrong type": ("limits:\n  connections: many\n", 2, "connections"),
    "out of range": ("limits: {packet_size: 1}\n", 1, "packet_size"),
    "bad unit": ("limits:\n  packet_size: 3 parsecs\n", 2, "packet_size"),
    "bad url": ("listeners:\n  - {url: 'gopher://x:1'}\n", 2, "url"),
    "no yaml": ("listeners: [\n", None, ""),
    "twice": ("log: {level: info}\nlog: {level: debug}\n", 2, "log"),
    "bad choice": ("log: {level: loud}\n", 1, "level"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configuration(tmp_path, name):
    """Exit 2 with the file, the line and the key."""
    text, line, word = BAD[name]
    path = write(tmp_path / "bad.yaml", text)
    code, output = run("broker", "-c", path)
    assert code == 2, output
    assert (f"bad.yaml:{line}" if line else "bad.yaml") in output and word in output, output


def test_nearest_key_is_named(tmp_path):
    code, output = run("broker", "-c", write(tmp_path / "c.yaml", "limits: {conections: 5}\n"))
    assert code == 2 and "conections" in output and "connections" in output


def test_check_command(tmp_path):
    good = write(tmp_path / "good.yaml", {"listeners": [{"url": "mqtt://127.0.0.1:1883", "anonymous": True}]})
    assert run("check", good)[0] == 0
    bad = write(tmp_path / "bad.yaml", "limits: {conections: 5}\n")
    code, output = run("check", bad)
    assert code == 2 and "bad.yaml:1" in output


@pytest.mark.parametrize(
    "args",
    [
        ["broker", "--no-such-option"],
        ["broker", "-c"],
        ["broker", "-c", "/does/not/exist.yaml"],
        ["broker", "--set", "limits.nothing=1"],
        ["broker", "--set", "limits.connections"],
        ["broker", "--set", "limits.connections=lots"],
        ["broker", "--listen", "nonsense://"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_usage_errors(args):
    code, output = run(*args)
    assert code == 2 and output.strip()


def test_help_and_version():
    for args in (["--help"], ["help", "help"], ["help", "--help"], ["broker", "--help"], ["help", "config"]):
        code, output = run(*args)
        assert code == 0 and len(output) > 100
    code, output = run("--version")
    assert code == 0 and "skerry" in output


@pytest.mark.parametrize("args", ["--version", "help config", "pub --help", "check {}", "sense -n", "top --interval 0.1"])
def test_output_that_cannot_be_written(args, tmp_path):
    """A full disk, or nothing where output should go, is told and not taken for success."""
    words = args.format(write(tmp_path / "c.yaml", "sys: {interval: 5s}")).split()
    for redirection, reason in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        line = ["sh", "-c", f'exec "$0" "$@" {redirection}', skerry_binary(), *words]
        done = subprocess.run(line, stderr=subprocess.PIPE, text=True, timeout=START_S)
        assert done.returncode == 1
        assert f"standard output: {reason}" in done.stderr


def test_closed_streams_stay_nobodys(tmp_path):
    """What the broker opens does not take their numbers: log lines would go into it."""
    line = 'exec "$0" broker --listen "$1" <&- >&- 2>&-'
    path = tmp_path / "mqtt.sock"
    with subprocess.Popen(["sh", "-c", line, skerry_binary(), f"unix://{path}"]) as broker:
        try:
            eventually(path.exists, "the socket")
            streams = [os.readlink(f"/proc/{broker.pid}/fd/{number}") for number in (0, 1, 2)]
        finally:
            broker.terminate()
            code = broker.wait(START_S)
    assert streams == ["/dev/null"] * 3 and code == 0


def test_top_on_a_narrow_terminal(make_broker):
    """Nothing wraps, and the terminal is left as it was found."""
    broker = make_broker()
    client = Client(broker.stream()).connect()
    client.publish("wide", "\u6e29\u5ea6".encode() * 40, retain=True)
    client.ping()
    child, terminal = pty.fork()
    if child == 0:
        os.execv(skerry_binary(), ["skerry", "top", "-p", str(broker.port), "--interval", "0.1"])
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 20, 0, 0))
        seen = read_until(terminal, b"wide")
        assert re.findall(rb"\x1b\[\?7[hl]", seen) == [b"\x1b[?7l"]
        os.write(terminal, b"q")
        seen += read_until(terminal, b"\x1b[?1049l")
        modes = dict(re.findall(rb"\x1b\[\?(\d+)([hl])", seen))
        assert modes == {b"7": b"h", b"25": b"h", b"1049": b"l"}
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        child = None
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)


def read_until(descriptor, wanted):
    seen = b""
    deadline = time.monotonic() + TIMEOUT_S
    while wanted not in seen:
        assert select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(descriptor, 65536)
    return seen


def test_bench_says_which_broker(tmp_path):
    port = free_port()
    code, output = run("bench", "-p", str(port))
    assert code == 1 and f"127.0.0.1 port {port}: connection 1 of 1: Connection refused" in output
    code, output = run("bench", "--unix", str(tmp_path / "none"))
    assert code == 1 and f"{tmp_path}/none: cannot connect" in output
    for option in ("-u", "--prefix"):
        code, output = run("bench", option, b"\xff")
        assert code == 2 and "UTF-8" in output


def test_address_in_use(make_broker, tmp_path):
    """Exit 1 and a message that names the address; what was opened before is closed again."""
    broker = make_broker()
    path = write(
        tmp_path / "c.yaml",
        {
            "broker": {"data": str(tmp_path / "data")},
            "listeners": [
                {"url": f"mqtt://127.0.0.1:{free_port()}", "anonymous": True},
                {"url": f"mqtt://127.0.0.1:{broker.port}", "anonymous": True},
            ],
        },
    )
    code, output = run("broker", "-c", path)
    assert code == 1 and str(broker.port) in output
    broker.alive()


def test_metrics_address_in_use(make_broker, tmp_path):
    broker = make_broker()
    path = write(
        tmp_path / "c.yaml",
        {
            "broker": {"data": str(tmp_path / "data")},
            "listeners": [{"url": f"mqtt://127.0.0.1:{free_port()}", "anonymous": True}],
            "metrics": {"listen": f"127.0.0.1:{broker.metrics_port}"},
        },
    )
    code, output = run("broker", "-c", path)
    assert code == 1 and str(broker.metrics_port) in output


def test_address_that_is_not_ours(tmp_path):
    anonymous = ["--set", "listeners[0].anonymous=true"]
    code, output = run("broker", "--listen", "mqtt://192.0.2.1:1883", *anonymous, "--data", str(tmp_path))
    assert code == 1 and "192.0.2.1" in output


def test_unix_path_that_cannot_be_made(tmp_path):
    code, output = run("broker", "--listen", f"unix://{tmp_path}/none/x.sock", "--data", str(tmp_path))
    assert code == 1 and "x.sock" in output


def test_a_live_socket_is_not_taken_over(make_broker, tmp_path):
    """A second broker must not steal the path of one that runs."""
    broker = make_broker()
    code, _ = run("broker", "--listen", f"unix://{broker.unix}", "--data", str(tmp_path))
    assert code == 1
    broker.client(transport="unix").connect().ping()


# ---------------------------------------------------------------------------------------------------- service manager


def test_sd_notify(make_broker, tmp_path):
    """READY=1 when all listeners accept, RELOADING=1 and READY=1 around a reload, STOPPING=1 at the end."""
    path = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(START_S)
        broker = make_broker(env={"NOTIFY_SOCKET": path})

        def until(word):
            while True:
                message = manager.recv(4096).decode()
                if word in message.split("\n"):
                    return message

        until("READY=1")
        broker.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in until("RELOADING=1")
        until("READY=1")
        broker.signal(signal.SIGTERM)
        until("STOPPING=1")
        assert broker.wait() == 0


def test_sd_notify_abstract_socket(make_broker):
    name = unique("skerry-notify-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(START_S)
        make_broker(env={"NOTIFY_SOCKET": "@" + name})
        assert "READY=1" in manager.recv(4096).decode()


def test_notify_socket_that_is_gone(make_broker, tmp_path):
    make_broker(env={"NOTIFY_SOCKET": str(tmp_path / "nobody.sock")}).alive()


def with_fds(sockets, names, args, log, cwd):
    """Starts a process with sockets from file descriptor 3 on, as systemd does."""
    fds = [s.fileno() for s in sockets]

    def prepare():
        high = [os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]
        for n, fd in enumerate(high):
            os.dup2(fd, 3 + n)
            os.close(fd)

    # LISTEN_PID has to be the child's: a shell knows it.
    script = 'LISTEN_PID=$$ exec "$@"'
    env = dict(os.environ, LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(names))
    command = ["sh", "-c", script, "sh", skerry_binary(), *args]
    return subprocess.Popen(command, stderr=log, stdout=log, env=env, close_fds=False, preexec_fn=prepare, cwd=cwd)


def test_sockets_from_systemd(tmp_path):
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "given.sock"))
    unix.listen()
    config = write(
        tmp_path / "c.yaml",
        {
            "broker": {"data": str(tmp_path / "data")},
            "listeners": [
                {"url": "systemd://mqtt", "anonymous": True},
                {"url": "systemd://local", "anonymous": True},
            ],
        },
    )
    log_path = tmp_path / "log"
    with open(log_path, "wb") as log:
        process = with_fds([tcp, unix], ["mqtt", "local"], ["broker", "-c", config], log, tmp_path)
    try:
        eventually(lambda: " ready" in log_path.read_text() or process.poll() is not None, "ready", START_S)
        assert process.poll() is None, log_path.read_text()
        Client(Stream(tcp.getsockname())).connect().disconnect()
        Client(Stream(str(tmp_path / "given.sock"))).connect().disconnect()
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
        assert (tmp_path / "given.sock").exists(), "the manager's socket file was removed"
    finally:
        process.kill()
        process.wait()
        tcp.close()
        unix.close()


def test_socket_from_systemd_that_is_not_there(tmp_path):
    config = write(tmp_path / "c.yaml", {"listeners": [{"url": "systemd://absent", "anonymous": True}]})
    code, output = run("broker", "-c", config, "--data", str(tmp_path))
    assert code in (1, 2) and "absent" in output


# ---------------------------------------------------------------------------------------------------------- overrides


def test_overrides(make_broker, tmp_path):
    """--listen replaces the file's listeners, --data and --set override its keys."""
    port = free_port()
    data = tmp_path / "elsewhere"
    broker = make_broker(
        args=["--listen", f"mqtt://127.0.0.1:{port}", "--data", str(data), "--set", "limits.in_flight=7"]
    )
    client = Client(Stream(("127.0.0.1", port))).connect()
    assert client.connack.prop("receive_maximum") == 7
    with pytest.raises(ConnectionRefusedError):
        broker.stream()
    client.disconnect()


def test_set_many(make_broker):
    broker = make_broker(args=["--set", "limits.topic_alias=3", "--set", "limits.packet_size=2KiB"])
    connack = broker.connect().connack
    assert connack.prop("topic_alias_maximum") == 3 and connack.prop("maximum_packet_size") == 2048


def test_listen_without_anonymous_is_for_loopback_only(tmp_path):
    """Anonymous access is off unless the listener is on loopback: on another address nobody gets in without credentials."""
    config = write(
        tmp_path / "c.yaml",
        {
            "broker": {"data": str(tmp_path / "data")},
            "listeners": [{"url": f"mqtt://127.0.0.1:{free_port()}", "anonymous": False}],
        },
    )
    port = int(json.loads((tmp_path / "c.yaml").read_text())["listeners"][0]["url"].rpartition(":")[2])
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([skerry_binary(), "broker", "-c", config], stderr=log, stdout=log)
    try:
        eventually(lambda: " ready" in (tmp_path / "log").read_text() or process.poll() is not None, "ready", START_S)
        assert process.poll() is None, (tmp_path / "log").read_text()
        client = Client(Stream(("127.0.0.1", port)))
        client.send_connect()
        client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
        client.expect_closed()
        old = Client(Stream(("127.0.0.1", port)), 4)
        old.send_connect()
        old.expect(T.CONNACK, reason=5)
        old.expect_closed()
    finally:
        process.kill()
        process.wait()


# ------------------------------------------------------------------------------------------------------------- reload


def reload(broker, ok=True):
    name = "reloaded" if ok else "reload_failed"
    before = len(broker.events(name))
    broker.signal(signal.SIGHUP)
    broker.wait_event(name, before + 1)


@pytest.mark.parametrize("shards", [1, 2])
def test_reload_adds_and_removes_listeners(make_broker, shards):
    """Connections stay, those of a removed listener too."""
    broker = make_broker(shards)
    on_tcp, on_unix = broker.connect(), broker.client(transport="unix").connect()
    added = free_port()
    broker.config["listeners"] = [
        {"url": f"mqtt://127.0.0.1:{broker.port}", "anonymous": True},
        {"url": f"mqtt://127.0.0.1:{added}", "anonymous": True},
    ]
    broker.write_config()
    reload(broker)
    new = Client(Stream(("127.0.0.1", added))).connect()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        broker.stream("unix")
    with pytest.raises(ConnectionRefusedError):
        broker.stream("ws")
    for client in (on_tcp, on_unix, new, broker.connect()):
        client.ping()


def test_reload_changes_a_listener(make_broker):
    broker = make_broker()
    stays = broker.connect()
    broker.config["listeners"][0]["anonymous"] = False
    broker.write_config()
    reload(broker)
    stays.ping()
    client = broker.client()
    client.send_connect()
    client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
    broker.config["listeners"][0]["anonymous"] = True
    broker.write_config()
    reload(broker)
    broker.connect().ping()


def test_reload_changes_limits(make_broker):
    broker = make_broker(2)
    before = broker.connect()
    broker.config["limits"] = {"in_flight": 5, "topic_alias": 9}
    broker.write_config()
    reload(broker)
    connack = broker.connect().connack
    assert connack.prop("receive_maximum") == 5 and connack.prop("topic_alias_maximum") == 9
    before.ping()


def test_reload_of_the_same(make_broker):
    broker = make_broker()
    client = broker.connect()
    for _ in range(5):
        reload(broker)
    client.ping()
    broker.alive()


@pytest.mark.parametrize("mistake", ["syntax", "key", "address", "gone"])
def test_reload_is_all_or_nothing(make_broker, mistake):
    """A configuration with a mistake changes nothing, and the log says why."""
    broker = make_broker()
    client = broker.connect()
    added = free_port()
    broker.config["listeners"].append({"url": f"mqtt://127.0.0.1:{added}", "anonymous": True})
    taken = socket.create_server(("127.0.0.1", 0))
    if mistake == "key":
        broker.config["limits"] = {"no_such_key": 1}
    elif mistake == "address":
        broker.config["listeners"].append({"url": f"mqtt://127.0.0.1:{taken.getsockname()[1]}", "anonymous": True})
    broker.write_config()
    if mistake == "syntax":
        broker.config_file.write_text("listeners: [\n")
    elif mistake == "gone":
        broker.config_file.unlink()
    reload(broker, ok=False)
    taken.close()
    with pytest.raises(ConnectionRefusedError):
        Stream(("127.0.0.1", added))
    client.ping()
    broker.alive()


def test_reload_of_what_needs_a_restart(make_broker):
    """The number of shards cannot change while running: refused as a whole, and said."""
    broker = make_broker(1)
    broker.config["broker"]["shards"] = 2
    broker.write_config()
    reload(broker, ok=False)
    assert any("shards" in line for line in broker.log().splitlines())
    broker.alive()


def test_reload_under_load(make_broker, topic):
    broker = make_broker(2)
    subscriber, publisher = broker.connect(), broker.connect()
    subscriber.subscribe(topic, qos=1)
    sent = 0
    for round_number in range(5):
        broker.config["limits"] = {"in_flight": 20 + round_number}
        broker.write_config()
        broker.signal(signal.SIGHUP)
        for _ in range(100):
            publisher.publish(topic, str(sent), qos=1)
            subscriber.expect_publish(topic, str(sent))
            sent += 1
    broker.wait_event("reloaded")


# --------------------------------------------------------------------------------------------------------------- idle


def test_idle_costs_nothing(make_broker, tmp_path):
    """Nothing runs when nothing happens, with clients connected."""
    broker = make_broker(2, options={"sys": {"interval": "off"}})
    clients = [broker.connect(keep_alive=600) for _ in range(20)]
    assert_idle(broker.pid, tmp_path / "calls", 2)
    for client in clients:
        client.ping()


def test_no_descriptors_leak(make_broker):
    broker = make_broker(2)

    def count():
        return len(os.listdir(f"/proc/{broker.pid}/fd"))

    broker.alive()
    eventually(lambda: broker.metrics().total("skerry_connections") == 0, "nobody is connected")
    before = count()
    for n in range(100):
        client = broker.client(5, transport=("tcp", "unix", "ws")[n % 3])
        if n % 2:
            client.connect()
        client.drop()
    eventually(lambda: count() <= before, "descriptors are closed")


def test_log_has_no_payloads(make_broker, topic):
    broker = make_broker()
    client = broker.connect(username="alice", password=b"hunter2-secret")
    client.subscribe(topic)
    client.publish(topic, b"very-private-payload")
    client.expect_publish(topic)
    client.disconnect()
    broker.stop()
    assert "hunter2-secret" not in broker.log() and "very-private-payload" not in broker.log()


def test_two_brokers_side_by_side(make_broker):
    one, two = make_broker(), make_broker(2)
    one.connect().ping()
    two.connect().ping()
