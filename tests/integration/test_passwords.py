"""Clients that show a user name and a password, or prove that they have it by SCRAM-SHA-256 (5.0 section 4.12), at a broker with a password file.

The SCRAM client is the test's own, written from RFC 5802 and RFC 7677.
"""

import base64
import hashlib
import hmac
import os
import shutil
import signal
import subprocess

import pytest
from broker import START_S, eventually, free_port, skerry_binary
from wire import R, T, auth_packet, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads]

METHOD = "SCRAM-SHA-256"


class Site:
    """A broker whose one listener that counts asks for passwords."""

    def __init__(self, make_broker, directory, shards=1, auth=("password", "scram"), **options):
        self.file = directory / "passwd.txt"
        self.set("ann", "secret")
        self.set("bob", "of bob", "--group", "readers")
        self.set("press", "old", "--scram")
        port = free_port()
        self.broker = make_broker(shards, {
            "listeners": [{"url": f"mqtt://127.0.0.1:{port}", "auth": list(auth)}],
            "auth": {"passwords": str(self.file)},
            "acl": [{"who": "*", "allow": ["publish", "subscribe", "receive"], "topics": ["#"]}],
            **options,
        })
        self.broker.port = port

    def set(self, user, password, *words):
        subprocess.run(
            [skerry_binary(), "passwd", *words, self.file, user], input=password, text=True, check=True,
            timeout=START_S, stdout=subprocess.DEVNULL,
        )

    def reload(self):
        before = len(self.broker.events("reloaded"))
        self.broker.signal(signal.SIGHUP)
        self.broker.wait_event("reloaded", before + 1)

    def client(self, version=5, client_id=None):
        return self.broker.client(version, client_id)

    def log_in(self, user, password, version=5, reason=0, **kw):
        return self.client(version).connect(reason=reason, username=user, password=password, **kw)


@pytest.fixture(params=[1, 2], ids=["shards1", "shards2"])
def site(make_broker, tmp_path, request):
    return Site(make_broker, tmp_path, request.param)


# ---- Passwords


@pytest.mark.parametrize("version", [4, 5])
def test_who_has_the_password_comes_in(site, version):
    site.log_in("ann", "secret", version).ping()
    site.log_in("press", "old", version).ping()  # against the verifier


@pytest.mark.parametrize("user, password", [
    ("ann", "Secret"), ("ann", ""), ("ann", "secret\0"), ("eve", "secret"), ("an", "secret"), ("", "secret"), ("press", "new"),
])
def test_who_has_not_is_refused(site, user, password):
    client = site.client()
    client.send_connect(username=user, password=password)
    connack = client.expect(T.CONNACK, session_present=False)
    assert connack.reason in (R.BAD_USER, R.NOT_AUTHORIZED)
    client.expect_closed()
    client = site.client(4)
    client.send_connect(username=user, password=password)
    assert client.expect(T.CONNACK).reason in (4, 5)
    client.expect_closed()


def test_without_credentials_nobody_comes_in(site):
    client = site.client()
    client.send_connect()
    client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
    client.expect_closed()


def test_passwords_are_not_in_the_log(site):
    site.log_in("ann", "secret")
    client = site.client()
    client.send_connect(username="ann", password="almost-secret")
    client.expect(T.CONNACK)
    log = site.broker.log()
    assert "authentication_failed" in log and "ann" in log
    assert "almost-secret" not in log and "argon2id" not in log


def test_a_rotation_lets_both_in_and_keeps_who_is_connected(site):
    connected = site.log_in("ann", "secret")
    site.set("ann", "next", "--rotate", "--keep", "1h")
    site.reload()
    connected.ping()
    site.log_in("ann", "secret").ping()
    site.log_in("ann", "next").ping()
    site.file.write_text("".join(line for line in site.file.read_text().splitlines(True) if "until=" not in line))
    site.reload()
    site.log_in("ann", "next").ping()
    client = site.client()
    client.send_connect(username="ann", password="secret")
    client.expect(T.CONNACK, reason=R.BAD_USER)


@pytest.mark.skipif(not shutil.which("mosquitto_passwd"), reason="mosquitto_passwd is not installed")
def test_users_of_mosquitto_come_in(site):
    for user, words in {"cho": [], "dan": ["-H", "sha512"]}.items():
        subprocess.run(["mosquitto_passwd", *words, "-b", site.file, user, f"of {user}"], check=True, timeout=START_S)
    site.reload()
    for user in ("cho", "dan"):
        site.log_in(user, f"of {user}").ping()


def test_groups_decide_in_lists(make_broker, tmp_path):
    site = Site(make_broker, tmp_path, acl=[{"who": "group:readers", "allow": ["subscribe", "receive"], "topics": ["#"]}])
    site.log_in("bob", "of bob").subscribe("a")
    site.log_in("ann", "secret").subscribe("a", reasons=[R.NOT_AUTHORIZED])


# ---- SCRAM


class Scram:
    """The client's side of an exchange."""

    def __init__(self, user, password, nonce=None, header="n,,"):
        self.password, self.header = password.encode(), header
        self.nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def first(self):
        return (self.header + self.bare).encode()

    def final(self, challenge):
        parts = dict(part.split("=", 1) for part in challenge.decode().split(","))
        assert parts["r"].startswith(self.nonce) and len(parts["r"]) > len(self.nonce)
        assert int(parts["i"]) >= 4096
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        without_proof = f"c={base64.b64encode(self.header.encode()).decode()},r={parts['r']}"
        text = f"{self.bare},{challenge.decode()},{without_proof}".encode()

        def mac(key, data):
            return hmac.new(key, data, "sha256").digest()

        key = mac(salted, b"Client Key")
        proof = bytes(a ^ b for a, b in zip(key, mac(hashlib.sha256(key).digest(), text)))
        self.expected = b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), text))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def props(data):
    return {"auth_method": METHOD, "auth_data": data}


def challenge_of(client):
    auth = client.expect(T.AUTH, reason=R.CONTINUE_AUTH)
    assert auth.prop("auth_method") == METHOD
    return auth.prop("auth_data")


def scram_in(site, user, password, **kw):
    """A client that is in."""
    client, scram = site.client(), Scram(user, password)
    client.send_connect(props=props(scram.first()), **kw)
    client.send(auth_packet(R.CONTINUE_AUTH, props(scram.final(challenge_of(client)))))
    connack = client.expect(T.CONNACK, reason=0)
    assert connack.prop("auth_method") == METHOD
    assert connack.prop("auth_data") == scram.expected
    return client


def again(client, user, password):
    """Re-authentication up to the answer, which is returned with what it should prove."""
    scram = Scram(user, password)
    client.send(auth_packet(R.RE_AUTH, props(scram.first())))
    client.send(auth_packet(R.CONTINUE_AUTH, props(scram.final(challenge_of(client)))))
    return client.expect_any(), scram.expected


def test_scram_lets_in_who_has_the_password(site):
    client = scram_in(site, "press", "old")
    client.ping()
    topic = unique("scram/")
    client.subscribe(topic)
    client.publish(topic, b"x", qos=1)
    client.expect_publish(topic, b"x")


def test_scram_refuses_who_has_not(site):
    for user, password in (("press", "new"), ("eve", "old"), ("ann", "secret")):  # ann has no verifier
        client, scram = site.client(), Scram(user, password)
        client.send_connect(props=props(scram.first()))
        client.send(auth_packet(R.CONTINUE_AUTH, props(scram.final(challenge_of(client)))))
        client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
        client.expect_closed()


def test_scram_tells_the_same_salt_of_a_user_who_does_not_exist(site):
    told = set()
    for _ in range(3):
        client = site.client()
        client.send_connect(props=props(Scram("eve", "x").first()))
        told.add(challenge_of(client).split(b",", 1)[1])
    assert len(told) == 1


def test_scram_takes_both_passwords_of_a_rotation(site):
    site.set("press", "new", "--rotate", "--keep", "1h")
    site.reload()
    scram_in(site, "press", "old").ping()
    scram_in(site, "press", "new").ping()


@pytest.mark.parametrize("first", [
    b"", b"hello", b"n,,", b"n,,n=press", b"p=tls-unique,,n=press,r=x", b"n,a=ann,n=press,r=x", b"n,,m=1,n=press,r=x",
    b"n,,n=a=,r=x", b"n,,n=press,r=\0", b"n,,n=" + b"a" * 5000 + b",r=x",
], ids=range(10))
def test_what_is_no_scram_message_is_refused(site, first):
    client = site.client()
    client.send_connect(props=props(first))
    client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
    client.expect_closed()
    assert scram_in(site, "press", "old")


def test_an_answer_of_another_exchange_is_refused(site):
    client, scram = site.client(), Scram("press", "old")
    client.send_connect(props=props(scram.first()))
    final = scram.final(challenge_of(client))
    client.send(auth_packet(R.CONTINUE_AUTH, props(final)))
    client.expect(T.CONNACK, reason=0)
    other = site.client()
    other.send_connect(props=props(scram.first()))
    challenge_of(other)
    other.send(auth_packet(R.CONTINUE_AUTH, props(final)))
    other.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
    other.expect_closed()


def test_re_authentication_while_messages_flow(site):
    """[MQTT-4.12.1-1] and the note that other packets go on meanwhile."""
    client, publisher, topic = scram_in(site, "press", "old"), site.log_in("ann", "secret"), unique("again/")
    client.subscribe(topic)
    scram = Scram("press", "old")
    client.send(auth_packet(R.RE_AUTH, props(scram.first())))
    challenge = challenge_of(client)
    publisher.publish(topic, b"meanwhile", qos=1)
    client.expect_publish(topic, b"meanwhile")
    client.send(auth_packet(R.CONTINUE_AUTH, props(scram.final(challenge))))
    done = client.expect(T.AUTH, reason=0)
    assert done.prop("auth_data") == scram.expected
    client.ping()


@pytest.mark.parametrize("user, password", [("press", "wrong"), ("other", "old")])
def test_re_authentication_that_fails_ends_the_connection(site, user, password):
    """[MQTT-4.12.1-2]"""
    site.set("other", "old", "--scram")
    site.reload()
    client = scram_in(site, "press", "old")
    answer, _ = again(client, user, password)
    assert (answer.kind, answer.reason) == (T.DISCONNECT, R.NOT_AUTHORIZED)
    client.expect_closed()


def test_another_method_is_not_known(site):
    for method in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "PLAIN"):
        client = site.client()
        client.send_connect(props={"auth_method": method, "auth_data": b"n,,n=press,r=x"})
        client.expect(T.CONNACK, reason=R.BAD_AUTH_METHOD)
        client.expect_closed()


def test_scram_only_where_the_listener_says_so(make_broker, tmp_path):
    site = Site(make_broker, tmp_path, auth=["password"])
    client = site.client()
    client.send_connect(props=props(Scram("press", "old").first()))
    client.expect(T.CONNACK, reason=R.BAD_AUTH_METHOD)
    client.expect_closed()
    only = Site(make_broker, tmp_path, auth=["scram"])
    scram_in(only, "press", "old").ping()
    client = only.client()
    client.send_connect(username="ann", password="secret")
    client.expect(T.CONNACK, reason=R.BAD_AUTH_METHOD)


def test_a_client_that_leaves_half_way_leaves_nothing(site):
    for _ in range(20):
        client = site.client()
        client.send_connect(props=props(Scram("press", "old").first()))
        challenge_of(client)
        client.stream.close()
    for _ in range(20):
        client = site.client()
        client.send_connect(username="ann", password="secret")
        client.stream.close()
    scram_in(site, "press", "old").ping()
    eventually(lambda: site.broker.metrics().total("skerry_connections") <= 1, "the connections to be gone")
