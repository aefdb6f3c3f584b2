"""Who comes in: passwords, tokens and exchanges at a broker that wants them, and what guessing leads to."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time

import pytest
from broker import START_S, free_port, skerry_binary
from wire import SLOW, Client, R, Stream, T, auth_packet

pytestmark = pytest.mark.skerry_only

SECRET = bytes(range(32))
RATE = 0x9F  # connection rate exceeded
FREE_GUESSES = 4  # of one user name from one address, the last of which makes it wait


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header=None, secret=SECRET, **claims):
    signed = b64(json.dumps(header or {"alg": "HS256"}).encode()) + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def passwd(directory, user, password, *options):
    subprocess.run(
        [skerry_binary(), "passwd", *options, str(directory / "passwd.txt"), user],
        input=password + "\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=START_S,
    )


@pytest.fixture
def guarded(make_broker, tmp_path):
    """A broker with these methods on a listener that believes PROXY headers, so that clients come from where they say."""

    def make(*methods, **listener):
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": b64(SECRET)}]}))
        passwd(tmp_path, "ann", "right")
        passwd(tmp_path, "scrambler", "right", "--scram")
        port = free_port()
        options = {
            "listeners": [
                {"url": f"mqtt://127.0.0.1:{port}", "auth": list(methods), "proxy_protocol": True, **listener}
            ],
            "auth": {
                "passwords": str(tmp_path / "passwd.txt"),
                "jwt": {"jwks": str(tmp_path / "keys.json"), "issuer": "tests", "leeway": "30s"},
            },
        }
        broker = make_broker(options=options)
        broker.port = port
        return broker

    return make


def come(broker, address="192.0.2.1", version=5, **kw):
    client = Client(Stream(("127.0.0.1", broker.port), prefix=f"PROXY TCP4 {address} 127.0.0.1 1 2\r\n".encode()), version)
    client.send_connect(**kw)
    return client


def reason(broker, address="192.0.2.1", version=5, **kw):
    """That of CONNACK; the connection is closed unless it is success."""
    client = come(broker, address, version, **kw)
    connack = client.expect(T.CONNACK)
    if connack.reason == 0:
        client.ping()
        client.disconnect()
    else:
        client.expect_closed()
    return connack.reason


def test_passwords(guarded, version):
    broker = guarded("password")
    v5 = version == 5
    assert reason(broker, version=version, username="ann", password="right") == 0
    assert reason(broker, version=version, username="ann", password="Right") == (R.BAD_USER if v5 else 4)
    assert reason(broker, version=version, username="nobody", password="right") == (R.BAD_USER if v5 else 4)
    assert reason(broker, version=version) == (R.NOT_AUTHORIZED if v5 else 5)
    assert reason(broker, version=version, username="ann") == (R.BAD_USER if v5 else 4)
    assert "user=ann" in broker.wait_event("client_connected")[0]
    assert "right" not in broker.log() and "Right" not in broker.log()


def test_clients_without_credentials_come_in_where_that_is_said(guarded):
    broker = guarded("password", anonymous=True)
    assert reason(broker) == 0
    assert reason(broker, username="ann", password="right") == 0
    assert reason(broker, username="ann", password="wrong") == R.BAD_USER
    assert reason(broker, username="ann") == R.BAD_USER  # not nobody, and not ann


def test_tokens(guarded):
    broker = guarded("password", "jwt")
    now = time.time()
    good = token(iss="tests", sub="bob", exp=now + 600)
    assert reason(broker, password=good) == 0
    assert reason(broker, username="bob", password=good) == 0
    assert reason(broker, username="ann", password="right") == 0
    refused = [
        {"username": "eve", "password": good},
        {"password": good[:-1] + ("A" if good[-1] != "A" else "Q")},
        {"password": token(iss="tests", sub="bob", exp=now - 60)},
        {"password": token(iss="tests", sub="bob", nbf=now + 60)},
        {"password": token(iss="others", sub="bob")},
        {"password": token(iss="tests", sub="bob", secret=bytes(32))},
        {"password": token(iss="tests")},
        {"password": token({"alg": "none"}, iss="tests", sub="bob")},
        {"password": token({"alg": "HS256", "crit": ["exp"]}, iss="tests", sub="bob")},
    ]
    for i, credentials in enumerate(refused):
        assert reason(broker, address=f"192.0.2.{10 + i}", **credentials) == R.BAD_USER, credentials
    assert good not in broker.log()


def test_a_token_s_end_ends_the_connection(guarded):
    broker = guarded("jwt")
    client = come(broker, password=token(iss="tests", sub="bob", exp=time.time() - 22))  # and 30 seconds of leeway
    client.expect(T.CONNACK, reason=0)
    client.expect(T.DISCONNECT, timeout=25 * SLOW, reason=0xA0)
    client.expect_closed()


# ---- SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side


class Scram:
    def __init__(self, user, password):
        self.password, self.nonce = password, b64(os.urandom(18))
        self.bare = f"n={user},r={self.nonce}"
        self.first = ("n,," + self.bare).encode()

    def final(self, challenge):
        parts = dict(part.split("=", 1) for part in challenge.decode().split(","))
        assert parts["r"].startswith(self.nonce) and len(parts["r"]) > len(self.nonce)
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        mac = lambda key, text: hmac.new(key, text, hashlib.sha256).digest()  # noqa: E731
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"{self.bare},{challenge.decode()},{without_proof}".encode()
        key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.server = b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def scram(broker, user="scrambler", password="right", address="192.0.2.1"):
    """Up to the packet that answers the proof."""
    exchange = Scram(user, password)
    client = come(broker, address, props={"auth_method": "SCRAM-SHA-256", "auth_data": exchange.first})
    got = client.receive()
    if got.kind == T.AUTH:
        assert got.reason == R.CONTINUE_AUTH and got.prop("auth_method") == "SCRAM-SHA-256"
        answer = exchange.final(got.prop("auth_data"))
        client.send(auth_packet(R.CONTINUE_AUTH, {"auth_method": "SCRAM-SHA-256", "auth_data": answer}))
        got = client.receive()
    return client, exchange, got


def test_an_exchange_shows_who_both_are(guarded):
    broker = guarded("password", "scram")
    client, exchange, got = scram(broker)
    assert got.kind == T.CONNACK and got.reason == 0
    assert got.prop("auth_method") == "SCRAM-SHA-256" and got.prop("auth_data") == exchange.server
    client.ping()
    # Once more, while it is connected.
    again = Scram("scrambler", "right")
    client.send(auth_packet(R.RE_AUTH, {"auth_method": "SCRAM-SHA-256", "auth_data": again.first}))
    challenge = client.expect(T.AUTH, reason=R.CONTINUE_AUTH).prop("auth_data")
    client.send(auth_packet(R.CONTINUE_AUTH, {"auth_method": "SCRAM-SHA-256", "auth_data": again.final(challenge)}))
    assert client.expect(T.AUTH, reason=0).prop("auth_data") == again.server
    client.ping()
    again = Scram("scrambler", "wrong")
    client.send(auth_packet(R.RE_AUTH, {"auth_method": "SCRAM-SHA-256", "auth_data": again.first}))
    challenge = client.expect(T.AUTH, reason=R.CONTINUE_AUTH).prop("auth_data")
    client.send(auth_packet(R.CONTINUE_AUTH, {"auth_method": "SCRAM-SHA-256", "auth_data": again.final(challenge)}))
    client.expect_disconnect(R.NOT_AUTHORIZED)


def test_exchanges_that_fail(guarded):
    broker = guarded("scram")
    for user, password in ("scrambler", "wrong"), ("nobody", "right"):
        client, _, got = scram(broker, user, password)
        assert got.kind == T.CONNACK and got.reason == R.NOT_AUTHORIZED
        client.expect_closed()
    client = come(broker, props={"auth_method": "SCRAM-SHA-256", "auth_data": b"nonsense"})
    client.expect(T.CONNACK, reason=R.NOT_AUTHORIZED)
    assert reason(broker, props={"auth_method": "SCRAM-SHA-1"}) == R.BAD_AUTH_METHOD
    assert reason(broker, username="scrambler", password="right") == R.BAD_AUTH_METHOD


# ---- Guessing


def guess(broker, user="ann"):
    """Until it has to wait, which on a slow machine may be over before the next guess. Returns how many were looked at."""
    for guesses in range(20):
        got = reason(broker, username=user, password="wrong")
        if got != R.BAD_USER:
            assert got == RATE and guesses >= FREE_GUESSES
            return guesses
    raise AssertionError("does not have to wait")


def test_guessing_is_slowed_and_costs_nobody_else(guarded):
    broker = guarded("password", "scram")
    hashed = guess(broker)
    # The right one is not told from a wrong one while there is a wait, and nothing is hashed.
    for version, wait in (5, RATE), (4, 3), (5, RATE):
        got = reason(broker, version=version, username="ann", password="right")
        assert got in (0, wait)
        hashed += got == 0
    assert broker.metrics().total("skerry_password_hashes_total") == hashed
    assert reason(broker, address="192.0.2.2", username="ann", password="right") == 0
    assert broker.metrics().total("skerry_password_hashes_total") == hashed + 1
    _, _, got = scram(broker)
    assert got.kind == T.CONNACK and got.reason == 0


def test_the_wait_ends(guarded):
    broker = guarded("password")
    guess(broker)
    deadline = time.monotonic() + 20 * SLOW
    while (got := reason(broker, username="ann", password="right")) != 0:
        assert got == RATE and time.monotonic() < deadline
        time.sleep(0.05)


def test_many_guesses_at_once_do_not_delay_others(guarded):
    broker = guarded("password")
    guesses = [come(broker, address="192.0.2.66", username=f"user{i}", password="guess") for i in range(200)]
    assert reason(broker, address="192.0.2.1", username="ann", password="right") == 0
    reasons = [client.expect(T.CONNACK).reason for client in guesses]
    for client in guesses:
        client.stream.close()
    assert reasons.count(R.BAD_USER) <= 20 and set(reasons) == {R.BAD_USER, RATE}, reasons
    assert reasons.count(R.BAD_USER) >= 12
