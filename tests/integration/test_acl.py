"""What clients may do: access control lists at publishing, subscribing, delivery and for wills, reloaded, on trial, explained."""

import json
import signal
import subprocess

import pytest
from broker import START_S, free_port, settle, skerry_binary
from wire import Client, R, Stream, T, unique

pytestmark = pytest.mark.skerry_only

ALL = ["publish", "subscribe", "receive"]


def rule(who, verb, verbs, *topics, **more):
    return {"who": who, verb: verbs, "topics": list(topics), **more}


def allow(who, verbs, *topics, **more):
    return rule(who, "allow", verbs, *topics, **more)


def deny(who, verbs, *topics, **more):
    return rule(who, "deny", verbs, *topics, **more)


@pytest.fixture
def ruled(make_broker):
    """A broker with a list of its own; clients are told apart by their identifiers."""

    def make(*rules, shards=1, **options):
        return make_broker(shards, options={"acl": list(rules), **options})

    return make


def reload(broker, *rules):
    broker.config["acl"] = list(rules)
    broker.write_config()
    before = len(broker.events("reloaded"))
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded", before + 1, START_S)


@pytest.mark.parametrize("shards", [1, 2])
def test_publishing(ruled, shards):
    broker = ruled(
        allow("client:sensor-*", ["publish"], "raw/{client_id}/#", qos_max=1),
        allow("client:watcher", ["subscribe", "receive"], "#"),
        shards=shards,
    )
    watcher = broker.connect(client_id="watcher")
    watcher.subscribe("#", qos=2)
    sensor = broker.connect(client_id="sensor-1")
    assert sensor.publish("raw/sensor-1/t", b"1", qos=1).reason == 0
    assert sensor.publish("raw/sensor-2/t", b"2", qos=1).reason == R.NOT_AUTHORIZED
    assert sensor.publish("raw/sensor-1/t", b"3", qos=2).reason == R.NOT_AUTHORIZED
    sensor.publish("raw", b"4")
    settle(sensor, topic="raw/sensor-1/end")
    watcher.expect_publish("raw/sensor-1/t", b"1")
    watcher.expect_publish("raw/sensor-1/end")
    watcher.ping()
    metrics = broker.metrics()
    assert metrics.total("skerry_publish_refused_total", reason="not_authorized") == 3
    assert metrics.total("skerry_access_denied_total", verb="publish") == 3
    assert "rule=none" in broker.events("access_denied")[0]


@pytest.mark.parametrize("denied", ["acknowledge", "disconnect"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publishing_before_5(ruled, denied, qos):
    broker = ruled(deny("*", ["publish"], "no"), allow("*", ALL, "#"), acl_denied=denied)
    watcher = broker.connect()
    watcher.subscribe("#", qos=2)
    client = broker.connect(4)
    if denied == "disconnect":
        client.publish("no", b"x", qos=qos, wait=False)
        client.expect_closed()
    else:
        client.publish("no", b"x", qos=qos)
        client.publish("yes", b"x", qos=qos)
        watcher.expect_publish("yes")
    watcher.ping()


def test_subscribing(ruled, version):
    broker = ruled(
        deny("*", ["subscribe"], "secret/#"),
        allow("*", ["subscribe"], "a/#", "b"),
        allow("*", ["subscribe"], "low", qos_max=0),
    )
    client = broker.connect(version)
    no = R.NOT_AUTHORIZED if version == 5 else 0x80
    client.subscribe("a/+/c", "b", "c", "#", "secret/x", "low", "$SYS/#", qos=1, reasons=[1, 1, no, no, no, 0, no])
    if version == 5:
        client.subscribe("$share/g/a/b", "$share/g/c", qos=1, reasons=[1, no])
    assert broker.metrics().total("skerry_access_denied_total", verb="subscribe") >= 4


def test_receiving(ruled):
    broker = ruled(
        allow("*", ["publish", "subscribe"], "#"),
        deny("client:guest", ["receive"], "secret/#"),
        allow("*", ["receive"], "#"),
    )
    publisher = broker.connect()
    publisher.publish("secret/kept", b"x", qos=1, retain=True)
    publisher.publish("open/kept", b"x", qos=1, retain=True)
    guest = broker.connect(client_id="guest")
    guest.subscribe("#", qos=1)
    guest.expect_publish("open/kept", retain=True)
    publisher.publish("secret/live", b"x", qos=1)
    publisher.publish("open/live", b"x", qos=1)
    guest.expect_publish("open/live")
    guest.ping()
    metrics = broker.metrics()
    assert metrics.total("skerry_copies_dropped_total", reason="not_authorized") >= 1


def test_wills(ruled):
    broker = ruled(allow("client:watcher", ALL, "#"), allow("*", ["publish"], "will/{client_id}"))
    refused = broker.client(client_id="a")
    refused.send_connect(will={"topic": "will/b", "payload": b"gone", "qos": 1})
    refused.expect_refused(R.NOT_AUTHORIZED)
    old = broker.client(4, client_id="a")
    old.send_connect(will={"topic": "will/b", "payload": b"gone", "qos": 1})
    old.expect_refused(R.NOT_AUTHORIZED, 5)
    watcher = broker.connect(client_id="watcher")
    watcher.subscribe("will/#")
    broker.connect(client_id="a", will={"topic": "will/a", "payload": b"gone", "qos": 1}).drop()
    watcher.expect_publish("will/a", b"gone")


def test_a_reload_holds_for_connected_clients(ruled):
    broker = ruled(allow("*", ALL, "#"))
    client, other = broker.connect(client_id="c"), broker.connect(client_id="o")
    client.subscribe("t", qos=1)
    other.subscribe("t", qos=1)
    assert client.publish("t", b"1", qos=1).reason == 0
    client.expect_publish("t", b"1")
    other.expect_publish("t", b"1")
    reload(broker, allow("*", ["publish"], "#"), allow("client:o", ["receive"], "#"))
    assert client.publish("t", b"2", qos=1).reason == 0
    other.expect_publish("t", b"2")
    client.ping()
    client.subscribe("t", reasons=[R.NOT_AUTHORIZED])
    reload(broker, allow("client:c", ALL, "#"))
    assert other.publish("t", b"3", qos=1).reason == R.NOT_AUTHORIZED
    assert client.publish("t", b"4", qos=1).reason == 0
    client.expect_publish("t", b"4")
    other.ping()


def test_a_list_on_trial(make_broker, tmp_path):
    trial = tmp_path / "next.yaml"
    trial.write_text(json.dumps([allow("*", ["subscribe", "receive"], "#"), deny("*", ["publish"], "b")]))
    broker = make_broker(options={"acl": [allow("*", ALL, "#")], "acl_shadow": str(trial)})
    client = broker.connect()
    client.subscribe("#")
    client.publish("b", b"x")
    client.expect_publish("b", b"x")
    assert broker.metrics().total("skerry_access_trial_denied_total", verb="publish") == 1
    assert broker.metrics().total("skerry_access_denied_total") == 0
    assert str(trial) in broker.wait_event("access_trial_denied")[0]


def test_mosquittos_list(make_broker, tmp_path):
    lists = tmp_path / "mosquitto.acl"
    lists.write_text("topic read open/#\ntopic write in/#\npattern readwrite dev/%c/#\n")
    broker = make_broker(options={"acl": str(lists)})
    client, device = broker.connect(), broker.connect(client_id="d")
    client.subscribe("#", qos=1)  # everybody may, and gets what may be read
    device.subscribe("#", qos=1)
    assert device.publish("dev/d/x", b"1", qos=1).reason == 0
    device.expect_publish("dev/d/x", b"1")
    assert device.publish("dev/e/x", b"2", qos=1).reason == R.NOT_AUTHORIZED
    assert device.publish("open/x", b"3", qos=1).reason == R.NOT_AUTHORIZED
    assert device.publish("in/x", b"4", qos=1).reason == 0
    client.ping()
    device.ping()


def test_users_and_groups(make_broker, tmp_path):
    passwords = tmp_path / "passwd.txt"
    for user, group in (("ann", "operators"), ("bob", "guests")):
        subprocess.run(
            [skerry_binary(), "passwd", "--group", group, str(passwords), user],
            input="secret\n",
            text=True,
            check=True,
            capture_output=True,
            timeout=START_S,
        )
    port = free_port()
    broker = make_broker(
        options={
            "listeners": [{"url": f"mqtt://127.0.0.1:{port}", "auth": ["password"], "anonymous": True}],
            "auth": {"passwords": str(passwords)},
            "acl": [
                allow("user:ann", ["publish"], "home/{username}"),
                allow("group:operators", ["publish"], "shift"),
                allow("anonymous", ["publish"], "guest"),
            ],
        }
    )

    def reasons(**kw):
        client = Client(Stream(("127.0.0.1", port)), 5).connect(**kw)
        return [client.publish(topic, b"x", qos=1).reason for topic in ("home/ann", "shift", "guest")]

    taken, no = 0x10, R.NOT_AUTHORIZED
    assert reasons(username="ann", password="secret") == [taken, taken, no]
    assert reasons(username="bob", password="secret") == [no, no, no]
    assert reasons() == [no, no, taken]
    assert broker.process.poll() is None


def test_listeners(make_broker):
    """A listener's rules hold for whoever has come by it, anonymous clients too."""
    named, other = free_port(), free_port()
    make_broker(
        options={
            "listeners": [
                {"url": f"mqtt://127.0.0.1:{named}", "name": "office", "anonymous": True},
                {"url": f"mqtt://127.0.0.1:{other}", "anonymous": True},
            ],
            "acl": [
                deny("listener:office", ["publish"], "command/#"),
                allow("listener:*", ["publish"], "command/#"),
                allow(f"listener:mqtt://127.0.0.1:{other}", ["publish"], "state"),
            ],
        }
    )

    def reasons(port):
        client = Client(Stream(("127.0.0.1", port)), 5).connect()
        return [client.publish(topic, b"x", qos=1).reason for topic in ("command/x", "state")]

    assert reasons(named) == [R.NOT_AUTHORIZED, R.NOT_AUTHORIZED]
    assert reasons(other) == [0x10, 0x10]


# ---- skerry acl


def acl(*words):
    done = subprocess.run(
        [skerry_binary(), "acl", *map(str, words)], text=True, capture_output=True, timeout=START_S, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout, done.stderr


def test_explain(tmp_path):
    rules = tmp_path / "acl.yaml"
    rules.write_text(
        "# ours\n"
        '- {who: "user:ann", allow: [publish, subscribe], topics: ["line/7/#"], qos_max: 1}\n'
        '- {who: "cert.ou:plant", deny: [receive], topics: ["alarm/#"]}\n'
        '- {who: "*", allow: [receive], topics: ["#"]}\n'
    )
    explain = ("explain", "--acl", rules)
    code, out, _ = acl(*explain, "--user", "ann", "--client", "c", "publish", "line/7/x")
    assert code == 0 and out.startswith(f"allowed: {rules}:2\n") and "user:ann" in out
    assert acl(*explain, "--user", "ann", "--qos", 2, "publish", "line/7/x")[:2] == (1, "denied: no rule matches\n")
    code, out, _ = acl(*explain, "--user", "ann", "-q", "2", "subscribe", "$share/g/line/7/+")
    assert code == 0 and out.startswith(f"allowed: with QoS 1 at most, {rules}:2\n")
    code, out, _ = acl(*explain, "--cert", "ou=plant", "receive", "alarm/1")
    assert code == 1 and out.startswith(f"denied: {rules}:3\n")
    assert acl(*explain, "receive", "alarm/1")[0] == 0
    assert acl(*explain, "receive", "$SYS/x")[0] == 1
    assert acl(*explain, "publish", "$SYS/x")[:2] == (1, "denied: the topic belongs to the broker\n")


def test_explain_the_configurations_list(ruled):
    broker = ruled(allow("*", ALL, "a"))
    code, out, _ = acl("explain", "--config", broker.config_file, "publish", "a")
    assert code == 0 and out.startswith(f"allowed: {broker.config_file}:")
    assert acl("explain", "--config", broker.config_file, "publish", "b")[0] == 1
    assert acl("explain", "--config", broker.config_file, "--shadow", "publish", "b")[0] == 2


def test_explain_finds_groups_in_the_password_file(tmp_path):
    for file, groups in (("passwd.txt", ("operators", "night")), ("other.txt", ("guests",))):
        words = [word for group in groups for word in ("--group", group)]
        subprocess.run([skerry_binary(), "passwd", *words, tmp_path / file, "ann"], input=b"secret\nsecret\n", check=True,
                       capture_output=True, timeout=30)
    config = tmp_path / "skerry.yaml"
    listeners = [{"url": "mqtt://127.0.0.1:1", "auth": ["scram", "password"]}, {"url": "mqtt://127.0.0.1:2"}]
    content = {"listeners": listeners, "auth": {"passwords": "passwd.txt"}, "acl": [
        allow("group:operators", ["publish"], "a"), allow("group:guests", ["publish"], "b"),
    ]}
    config.write_text(json.dumps(content))
    explain = ("explain", "--config", config, "--user")
    code, out, _ = acl(*explain, "ann", "publish", "a")
    assert code == 0 and out.startswith(f"allowed: {config}:") and out.endswith("  ann is in group:operators, group:night\n")
    assert acl(*explain, "bob", "publish", "a")[0] == 1
    assert acl(*explain, "ann", "--group", "guests", "publish", "a")[0] == 1  # the word of whoever asks
    assert acl(*explain, "ann", "--jwt", "sub=ann", "publish", "a")[0] == 1  # groups of a token are in the token
    assert acl(*explain, "ann", "--listener", "mqtt://127.0.0.1:2", "publish", "a")[0] == 1  # which uses no passwords
    listeners.append({"url": "mqtt://127.0.0.1:3", "name": "door", "auth": ["password"], "passwords": "other.txt"})
    config.write_text(json.dumps(content))
    code, _, err = acl(*explain, "ann", "publish", "a")
    assert code == 2 and "--listener" in err
    assert acl(*explain, "ann", "--listener", "door", "publish", "a")[0] == 1
    assert acl(*explain, "ann", "--listener", "door", "publish", "b")[0] == 0
    (tmp_path / "other.txt").write_text("ann\n")
    code, _, err = acl(*explain, "ann", "--listener", "door", "publish", "b")
    assert code == 2 and "other.txt:1" in err and "--group" in err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("explane",),
        ("explain",),
        ("explain", "--acl", "/dev/null", "publsh", "a"),
        ("explain", "--acl", "/dev/null", "publish", "a/#"),
        ("explain", "--acl", "/dev/null", "--cert", "x", "publish", "a"),
        ("explain", "--acl", "/dev/null", "--config", "x", "publish", "a"),
        ("explain", "--acl", "/nowhere", "publish", "a"),
        ("check",),
        ("check", "/nowhere"),
    ],
    ids=" ".join,
)
def test_wrong_use(words):
    code, out, err = acl(*words)
    assert code == 2 and err and not out


def test_check(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text('- {who: "*", allow: [receive], topics: ["#"]}\n')
    bad.write_text('- {who: "*", alow: [receive], topics: ["#"]}\n- {who: "usr:x", allow: [receive], topics: ["#"]}\n')
    assert acl("check", good) == (0, f"{good}: ok, 1 rule\n", "")
    code, out, err = acl("check", bad, good)
    assert code == 2 and out == f"{good}: ok, 1 rule\n"
    assert err.splitlines() == [
        f'{bad}:1:14: alow: unknown key; did you mean "allow"?',
        f'{bad}:2:9: who: unknown subject "usr"; did you mean "user:"?',
    ]


def test_a_wrong_list_keeps_the_broker_from_starting(make_broker):
    broker = make_broker(options={"acl": [{"who": "*", "alow": ["publish"], "topics": ["#"]}]}, wait=False)
    assert broker.wait() != 0
    assert "alow: unknown key; did you mean" in broker.log()
