"""As whom a client is in: whose its session is, on one shard and on several, and what it may send before it is known."""

import base64
import hashlib
import hmac
import json

import pytest
from broker import free_port
from wire import PINGREQ, Client, R, Stream, T, publish_packet, subscribe_packet

pytestmark = pytest.mark.skerry_only

SECRET = bytes(range(32))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(user):
    signed = b64(b'{"alg":"HS256"}') + "." + b64(json.dumps({"sub": user}).encode())
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


def come(broker, user, client_id, version=5, reason=0, **kw):
    client = Client(Stream(("127.0.0.1", broker.port)), version, client_id=client_id)
    client.connect(reason=reason, password=token(user) if user else None, username="" if user else None, **kw)
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
