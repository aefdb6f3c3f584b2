"""Clients by others against the broker: Mosquitto's, Paho's for Python, mqtt.js, Node-RED."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import pytest
from broker import SLOW, eventually, free_port
from wire import unique

pytestmark = pytest.mark.threads

NODE = pathlib.Path(__file__).parent / "node"
needs_node = pytest.mark.skipif(
    not (NODE / "node_modules/mqtt").exists() or not shutil.which("node"), reason="npm ci in tests/integration/node first"
)
START_S = 20 * SLOW


def run(*args, timeout=15 * SLOW, **kw):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=timeout, **kw)
    assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Running:
    """A process whose lines of output are kept; ended by its id."""

    def __init__(self, *args, **kw):
        self.process = subprocess.Popen(
            [str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **kw
        )
        self.lines = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def saw(self, text, timeout=START_S):
        eventually(
            lambda: any(text in line for line in self.lines) or self.process.poll() is not None, f"{text!r}", timeout
        )
        assert any(text in line for line in self.lines), "\n".join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.thread.join(5)


# ------------------------------------------------------------------------------------------------------- mosquitto_*

MOSQUITTO_VERSIONS = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}


def mosquitto_sub(broker, version, topic, *args):
    """Started and subscribed."""
    sub = Running(
        "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", broker.port, "-V", MOSQUITTO_VERSIONS[version],
        "-t", topic, "-d", *args,
    )
    sub.saw("Subscribed (mid:")
    return sub


def mosquitto_pub(broker, version, topic, *args, **kw):
    run(
        "mosquitto_pub", "-h", "127.0.0.1", "-p", broker.port, "-V", MOSQUITTO_VERSIONS[version], "-t", topic, *args, **kw
    )


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mosquitto_clients(broker, version, topic, qos):
    with mosquitto_sub(broker, version, topic, "-q", "2", "-C", "3", "-F", "got %q %t %p") as sub:
        for n in range(3):
            mosquitto_pub(broker, version, topic, "-q", qos, "-m", f"message {n}")
        assert sub.process.wait(15 * SLOW) == 0
        sub.thread.join()
        assert [line for line in sub.lines if line.startswith("got")] == [f"got {qos} {topic} message {n}" for n in range(3)]


def test_mosquitto_retained_and_will(broker, version, topic):
    mosquitto_pub(broker, version, topic + "/state", "-r", "-q", "1", "-m", "kept")
    out = run(
        "mosquitto_sub", "-h", "127.0.0.1", "-p", broker.port, "-V", MOSQUITTO_VERSIONS[version], "-t", topic + "/#",
        "-C", "1", "-F", "%r %p", "-W", int(10 * SLOW),
    )  # fmt: skip
    assert out == "1 kept\n"
    watcher = broker.connect()
    watcher.subscribe(topic + "/will", qos=1)
    with mosquitto_sub(
        broker, version, topic + "/x", "--will-topic", topic + "/will", "--will-payload", "gone", "--will-qos", "1"
    ) as sub:
        sub.process.kill()
        watcher.expect_publish(topic + "/will", b"gone", qos=1)


@pytest.mark.mosquitto_differs("its own publisher exceeds its receive maximum at times")
def test_mosquitto_many_lines(broker, version, topic):
    """A thousand messages from one process, QoS 2, in order."""
    count = 1000
    with mosquitto_sub(broker, version, topic, "-q", "2", "-C", count, "-F", "got %p") as sub:
        lines = "".join(f"{n}\n" for n in range(count))
        mosquitto_pub(broker, version, topic, "-q", "2", "-l", input=lines)
        assert sub.process.wait(20 * SLOW) == 0
        sub.thread.join()
        assert [line for line in sub.lines if line.startswith("got")] == [f"got {n}" for n in range(count)]


def test_mosquitto_properties(broker, topic):
    with mosquitto_sub(broker, 5, topic, "-C", "1", "-F", "got %A %C %D %E %P %R %p") as sub:
        mosquitto_pub(
            broker, 5, topic, "-m", "x",
            "-D", "publish", "content-type", "text/plain", "-D", "publish", "correlation-data", "corr",
            "-D", "publish", "message-expiry-interval", "500", "-D", "publish", "response-topic", "back",
            "-D", "publish", "user-property", "key", "value",
        )  # fmt: skip
        assert sub.process.wait(15 * SLOW) == 0
        sub.thread.join()
        got = next(line for line in sub.lines if line.startswith("got"))
        assert "text/plain" in got and "corr" in got and "key:value" in got and "back" in got
        assert "500" in got or "499" in got


def test_mosquitto_persistent_session(broker, version, topic):
    name = unique("c")
    args = ["-h", "127.0.0.1", "-p", broker.port, "-V", MOSQUITTO_VERSIONS[version]]
    args += ["-t", topic, "-q", "1", "-i", name, "-c"]
    if version == 5:
        args += ["-x", "600"]
    run("mosquitto_sub", *args, "-E")
    mosquitto_pub(broker, version, topic, "-q", "1", "-m", "while away")
    assert run("mosquitto_sub", *args, "-C", "1", "-W", int(10 * SLOW)) == "while away\n"


def test_mosquitto_shared(broker, topic):
    group = f"$share/{unique('g')}/{topic}"
    with mosquitto_sub(broker, 5, group, "-F", "got %p") as one, mosquitto_sub(broker, 5, group, "-F", "got %p") as two:
        mosquitto_pub(broker, 5, topic, "-l", "-q", "1", input="".join(f"{n}\n" for n in range(50)))

        def got():
            return sorted(int(line[4:]) for sub in (one, two) for line in sub.lines if line.startswith("got"))

        eventually(lambda: len(got()) >= 50, "fifty messages")
        assert got() == list(range(50))


@pytest.mark.skipif(not shutil.which("mosquitto_rr"), reason="mosquitto_rr is missing")
def test_mosquitto_rr(broker, topic):
    answering = broker.connect()
    answering.subscribe(topic, qos=1)
    with Running(
        "mosquitto_rr", "-h", "127.0.0.1", "-p", broker.port, "-V", "5", "-t", topic, "-e", topic + "/reply", "-m", "?",
        "-q", "1",
    ) as asking:  # fmt: skip
        question = answering.expect_publish(topic, b"?")
        props = [("correlation_data", question.prop("correlation_data"))] if question.prop("correlation_data") else []
        answering.publish(question.prop("response_topic"), b"!", qos=1, props=props)
        assert asking.process.wait(10 * SLOW) == 0
        asking.thread.join()
        assert "!" in asking.lines


# --------------------------------------------------------------------------------------------------------------- Paho


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho(broker, version, topic, transport, qos):
    import paho.mqtt.client as paho

    kw = {"callback_api_version": paho.CallbackAPIVersion.VERSION1} if hasattr(paho, "CallbackAPIVersion") else {}
    protocol = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}[version]
    client = paho.Client(client_id=unique("paho"), protocol=protocol, transport=transport, **kw)
    ready, done, got = threading.Event(), threading.Event(), []

    def on_message(_client, _data, message):
        got.append((message.topic, message.payload, message.qos))
        if len(got) == 20:
            done.set()

    client.on_connect = lambda *_: client.subscribe(topic, 2)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = on_message
    client.connect("127.0.0.1", broker.ws_port if transport == "websockets" else broker.port, keepalive=30)
    client.loop_start()
    try:
        assert ready.wait(10 * SLOW)
        for n in range(20):
            client.publish(topic, str(n), qos=qos)
        assert done.wait(10 * SLOW), got
        assert got == [(topic, str(n).encode(), qos) for n in range(20)]
    finally:
        client.disconnect()
        client.loop_stop()


# ------------------------------------------------------------------------------------------------------------ mqtt.js


@needs_node
@pytest.mark.parametrize("transport", ["mqtt", "ws"])
def test_mqttjs(broker, version, topic, transport):
    url = f"mqtt://127.0.0.1:{broker.port}" if transport == "mqtt" else f"ws://127.0.0.1:{broker.ws_port}/mqtt"
    got = json.loads(run("node", NODE / "mqttjs.js", url, version, topic, cwd=NODE))
    assert sorted(m["qos"] for m in got) == [0, 1, 2]
    for message in got:
        assert message["topic"] == topic and message["payload"] == f"qos {message['qos']}"
        if version == 5:
            assert message["type"] == "text/plain" and message["user"] == str(message["qos"])


# ----------------------------------------------------------------------------------------------------------- Node-RED


def flow(port, protocol, inbound, outbound):
    """mqtt in → function → mqtt out, as the editor would save it."""
    return [
        {"id": "t", "type": "tab", "label": "test"},
        {
            "id": "b", "type": "mqtt-broker", "name": "", "broker": "127.0.0.1", "port": str(port),
            "clientid": unique("red"), "autoConnect": True, "usetls": False, "protocolVersion": str(protocol), "keepalive": "30", "cleansession": True,
            "birthTopic": outbound + "/birth", "birthQos": "1", "birthPayload": "born", "birthRetain": "true",
            "closeTopic": outbound + "/close", "closeQos": "1", "closePayload": "closed",
            "willTopic": outbound + "/will", "willQos": "1", "willPayload": "died",
        },
        {"id": "i", "z": "t", "type": "mqtt in", "topic": inbound, "qos": "2", "datatype": "utf8", "broker": "b",
         "wires": [["f"]]},
        {"id": "f", "z": "t", "type": "function",
         "func": "msg.payload = 'seen ' + msg.payload; delete msg.topic; return msg;",
         "outputs": 1, "wires": [["o"]]},
        {"id": "o", "z": "t", "type": "mqtt out", "topic": outbound, "qos": "2", "retain": "false", "broker": "b",
         "wires": []},
    ]  # fmt: skip


@needs_node
@pytest.mark.timeout(90 * SLOW)
@pytest.mark.parametrize("protocol", [4, 5])
def test_node_red(broker, tmp_path, topic, protocol):
    """Node-RED headless: a message goes in, through a flow and out again; birth, close and will messages too."""
    if not (NODE / "node_modules/node-red").exists():
        pytest.skip("npm ci in tests/integration/node first")
    (tmp_path / "flows.json").write_text(json.dumps(flow(broker.port, protocol, topic + "/in", topic + "/out")))
    (tmp_path / "settings.js").write_text(
        "module.exports = { flowFile: 'flows.json', uiHost: '127.0.0.1', telemetry: { enabled: false },"
        " logging: { console: { level: 'info' } }, externalModules: { autoInstall: false } };\n"
    )
    client = broker.connect()
    client.subscribe(topic + "/out", topic + "/out/birth", topic + "/out/close", qos=2)
    red = NODE / "node_modules/node-red/red.js"
    env = dict(os.environ, HOME=str(tmp_path), NODE_ENV="production")
    with Running("node", red, "-u", tmp_path, "-p", free_port(), "flows.json", cwd=tmp_path, env=env) as node:
        try:
            client.expect_publish(topic + "/out/birth", b"born", timeout=60 * SLOW)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(node.lines)) from None
        # The flow subscribes behind its birth message: ask until it answers, then in earnest.
        probe = broker.connect()

        def answered():
            probe.publish(topic + "/in", b"probe", qos=1)
            try:
                client.expect_publish(topic + "/out", b"seen probe", timeout=0.5 * SLOW)
                return True
            except AssertionError:
                return False

        eventually(answered, "the flow answers", 20 * SLOW)
        for n in range(10):
            probe.publish(topic + "/in", f"message {n}", qos=2)
        for n in range(10):
            got = client.expect_publish(topic + "/out")
            while got.payload == b"seen probe":
                got = client.expect_publish(topic + "/out")
            assert got.payload == f"seen message {n}".encode() and got.qos == 2
        node.process.send_signal(signal.SIGTERM)
        client.expect_publish(topic + "/out/close", b"closed", timeout=15 * SLOW)
