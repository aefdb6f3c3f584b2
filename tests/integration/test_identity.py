"""As whom a client is in: whose its session is, on one shard and on several, over restarts, and what it may send before it is known."""

import base64
import hashlib
import hmac
import json
import subprocess

import pytest
from broker import START_S, free_port, skerry_binary
from journaled import restart
from wire import PINGREQ, Client, R, Stream, T, publish_packet, subscribe_packet

pytestmark = pytest.mark.skerry_only

SECRET = bytes(range(32))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(user, **claims):
    signed = b64(b'{"alg":"HS256"}') + "." + b64(json.dumps({"sub": user, **claims}).encode())
    return signed + "." + b64(hmac.new(SECRET, signed.encode(), hashlib.sha256).digest())


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def tokens(make_broker, tmp_path, request):
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": b64(SECRET)}]}))
    port = free_port()
    broker = make_broker(
        shards=request.param,
        options={
            "listeners": [{"url": f"mqtt://127.0.0.1:{port}", "auth": ["jwt"], "anonymous": True}],
            "auth": {"jwt": {"jwks": str(tmp_path / "keys.json")}},
        },
    )
    broker.port = port
    return broker


def come(broker, user, client_id, version=5, reason=0, claims={}, **kw):
    client = Client(Stream(("127.0.0.1", broker.port)), version, client_id=client_id)
    client.connect(reason=reason, password=token(user, **claims) if user else None, username="" if user else None, **kw)
    if reason:
        client.expect_closed()
    return client


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_is_its_users(tokens, version):
    refused = {4: 5, 5: R.NOT_AUTHORIZED}[version]
    lasting = {"clean": False, "props": {"session_expiry": 100}} if version == 5 else {"clean": False}
    for number in range(6):
        name = f"pump-{number}"
        owner = come(tokens, "ann", name, version, **lasting)
        owner.subscribe(("t", 1))
        come(tokens, "bob", name, version, refused)
        come(tokens, None, name, version, refused)
        owner.ping()
        owner.drop()
        come(tokens, "bob", name, version, refused, **lasting)
        again = come(tokens, "ann", name, version, **lasting)
        assert again.connack.session_present
        again.disconnect()


def test_sessions_of_anonymous_clients_are_anybodys(tokens):
    lasting = {"clean": False, "props": {"session_expiry": 100}}
    come(tokens, None, "pump", **lasting).disconnect()
    assert come(tokens, None, "pump", **lasting).connack.session_present
    owner = come(tokens, "ann", "pump", **lasting)
    assert owner.connack.session_present
    come(tokens, None, "pump", reason=R.NOT_AUTHORIZED, **lasting)
    owner.ping()


def test_what_comes_right_behind_connect_waits_for_the_answer(tokens):
    for number in range(6):
        client = Client(Stream(("127.0.0.1", tokens.port)), 5, client_id=f"hasty-{number}")
        client.send_connect(password=token("ann"), username="")
        topic = f"hasty/{number}"
        client.send(subscribe_packet(1, [(topic, 1)]) + publish_packet(topic, b"x", 1, 2) + PINGREQ)
        client.expect(T.CONNACK, reason=0)
        client.expect(T.SUBACK)
        kinds = sorted(client.receive().kind for _ in range(3))
        assert kinds == [T.PUBLISH, T.PUBACK, T.PINGRESP]


# --------------------------------------------------------------------------------------------------------- over restarts

LASTING = {"clean": False, "props": {"session_expiry": 3600}}
TINY = {"segment": "64KiB", "limit": "1MiB", "reserve": "64KiB", "replay": "128KiB"}


@pytest.fixture
def kept(make_broker, tmp_path):
    """A broker with a journal that asks for tokens, and its list of rules in a file; `acl` None: no list."""

    def make(shards=1, acl=None, journal=TINY):
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": b64(SECRET)}]}))
        port = free_port()
        options = {
            "listeners": [{"url": f"mqtt://127.0.0.1:{port}", "name": "plant", "auth": ["jwt"], "anonymous": True}],
            "auth": {"jwt": {"jwks": str(tmp_path / "keys.json"), "groups": "groups"}},
            "journal": journal,
        }
        if acl is not None:
            options["acl"] = str(tmp_path / "acl.json")
            rules(tmp_path, acl)
        broker = make_broker(shards, options)
        broker.port = port
        return broker

    return make


def rules(tmp_path, acl):
    (tmp_path / "acl.json").write_text(json.dumps(acl))


def come_and_go(broker, user, client_id, present, **kw):
    client = come(broker, user, client_id, **LASTING, **kw)
    assert client.connack.session_present == present
    client.disconnect()


def churn(broker, messages):
    """Traffic that is done soon: segments fill and die, checkpoints come, what is still needed is copied forward."""
    drain, publisher = come(broker, None, "drain", **LASTING), come(broker, None, "churn")
    drain.subscribe("busy", qos=1)
    for _ in range(messages // 10):
        for _ in range(10):
            publisher.publish("busy", bytes(1000), qos=1, wait=False)
        for _ in range(10):
            publisher.expect(T.PUBACK)
            drain.expect_publish()
    drain.disconnect()
    publisher.disconnect()


def sessions(broker):
    """What `skerry journal info` says."""
    done = subprocess.run(
        [skerry_binary(), "journal", "info", "--all", "--json", str(broker.directory / "data")],
        capture_output=True, timeout=START_S, stdin=subprocess.DEVNULL, check=True,
    )
    return {session["client_id"]: session for session in json.loads(done.stdout)["sessions"]}


BOTH = pytest.mark.parametrize(("shards", "how"), [(1, "kill"), (2, "kill"), (2, "stop")])


@BOTH
def test_a_session_stays_its_users_over_restarts(kept, shards, how):
    broker = kept(shards)
    for number in range(4):
        client = come(broker, "ann", f"pump-{number}", **LASTING)
        client.subscribe((f"line/{number}", 1))
        client.drop()
    come_and_go(broker, None, "meter", False)
    at_work = come(broker, "ann", "press", **LASTING)  # when the broker goes
    assert sessions(broker)["press"]["user"] == "ann" and "user" not in sessions(broker)["meter"]
    for round_ in range(3):
        restart(broker, how)
        for number in range(4):
            come(broker, "bob", f"pump-{number}", reason=R.NOT_AUTHORIZED)
            come(broker, "bob", f"pump-{number}", reason=R.NOT_AUTHORIZED, **LASTING)
            come(broker, None, f"pump-{number}", reason=R.NOT_AUTHORIZED, **LASTING)
        come(broker, "bob", "press", reason=R.NOT_AUTHORIZED)
        come_and_go(broker, "bob" if round_ > 0 else None, "meter", True)  # nobody's, then the first user's who comes
        if round_ > 0:
            come(broker, "ann", "meter", reason=R.NOT_AUTHORIZED, **LASTING)
    at_work.stream.close()
    assert {name: session.get("user") for name, session in sessions(broker).items()} == {
        **{f"pump-{number}": "ann" for number in range(4)}, "press": "ann", "meter": "bob",
    }
    publisher = come(broker, "carl", "carl")
    for number in range(4):
        publisher.publish(f"line/{number}", b"for ann", qos=1)
        client = come(broker, "ann", f"pump-{number}", **LASTING)
        assert client.connack.session_present
        client.expect_publish(f"line/{number}", b"for ann")
    # A session that its user has ended leaves its identifier to others.
    come(broker, "ann", "press").disconnect()
    restart(broker, how)
    come_and_go(broker, "bob", "press", False)


@pytest.mark.parametrize("shards", [1, 2])
def test_owners_and_wills_survive_checkpoints_and_copies(kept, tmp_path, shards):
    free = {"who": "*", "allow": ["publish", "subscribe", "receive"], "topics": ["#"]}
    broker = kept(shards, [free])
    watcher = come(broker, None, "watcher", **LASTING)
    watcher.subscribe(("will/#", 1))
    watcher.disconnect()
    users = {f"pump-{number}": ("ann", "bob")[number % 2] for number in range(10)}
    for name, user in users.items():
        will = {"topic": f"will/{user}", "payload": name, "qos": 1, "props": {"will_delay": 3600}}
        come(broker, user, name, will=will, clean=False, props={"session_expiry": 3600}).drop()
        churn(broker, 400)
    # The records in which all this was said first are gone.
    metrics = broker.metrics()
    assert metrics.total("skerry_journal_checkpoints_total") > 10 and metrics.total("skerry_journal_segments_copied_total") > 0
    known = sessions(broker)
    assert {name: known[name]["user"] for name in users} == users
    may_see = {**free, "allow": ["subscribe", "receive"]}
    rules(tmp_path, [{"who": "user:ann", "allow": ["publish"], "topics": ["will/{username}"]}, may_see])
    restart(broker, "kill")
    for name, user in users.items():
        come(broker, "bob" if user == "ann" else "ann", name, reason=R.NOT_AUTHORIZED)
    watcher = come(broker, None, "watcher", **LASTING)
    assert watcher.connack.session_present
    for name, user in users.items():
        come(broker, user, name).disconnect()  # a clean start ends the session that there was, and that sends its will
    for name, user in users.items():
        if user == "ann":
            watcher.expect_publish("will/ann", name)
    assert broker.metrics().total("skerry_access_denied_total", verb="publish") == 5
    watcher.ping()


ALLOWED = [
    {"who": "user:ann", "topics": ["will/{username}"]},
    {"who": "group:night", "topics": ["will/#"]},
    {"who": "jwt.role:press", "topics": ["will/#"]},
    {"who": "*", "topics": ["will/{jwt.sub}"]},
    {"who": "listener:plant", "topics": ["will/#"]},
    {"who": "client:pump", "topics": ["will/#"]},
]
DENIED = [
    {"who": "user:bob", "topics": ["will/#"]},
    {"who": "group:day", "topics": ["will/#"]},
    {"who": "jwt.role:crane", "topics": ["will/#"]},
    {"who": "*", "topics": ["will/{jwt.site}"]},
    {"who": "anonymous", "topics": ["will/#"]},
]


@pytest.mark.parametrize(("rule", "sent"), [(r, True) for r in ALLOWED] + [(r, False) for r in DENIED])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_will_is_asked_about_after_a_restart(kept, tmp_path, shards, rule, sent):
    """By the rules of the moment, and as whom its client was let in: it was connected when the broker was killed, and does not come back."""
    every = {"who": "*", "allow": ["publish", "subscribe", "receive"], "topics": ["#"]}
    broker = kept(shards, [every])
    watcher = come(broker, None, "watcher", **LASTING)
    watcher.subscribe(("will/#", 1))
    will = {"topic": "will/ann", "payload": b"gone", "qos": 1}
    client = come(broker, "ann", "pump", claims={"role": "press", "groups": ["night", "hall"]}, will=will, **LASTING)
    broker.kill()
    for gone in (client, watcher):
        gone.stream.close()
    rules(tmp_path, [{**rule, "allow": ["publish"]}, {**every, "allow": ["subscribe", "receive"]}])
    broker.start()
    watcher = come(broker, None, "watcher", **LASTING)
    if sent:
        watcher.expect_publish("will/ann", b"gone")
    else:
        (line,) = broker.wait_event("access_denied")
        assert "user=ann" in line and 'topic="will/ann"' in line and "verb=publish" in line
    watcher.ping()
    watcher.subscribe(("behind/it", 1))  # in the journal behind the acknowledgement of the will, and answered
    restart(broker, "kill")
    watcher.stream.close()
    watcher = come(broker, None, "watcher", **LASTING)
    watcher.ping()  # sent or not, once is enough
    assert broker.metrics().total("skerry_wills_sent_total") == 0
