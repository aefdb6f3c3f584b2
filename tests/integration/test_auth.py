"""Enhanced authentication's frame: [MQTT-4.12], [MQTT-3.15], at a broker that knows no method. With one: test_credentials.py."""

import pytest
from wire import R, T, auth_packet, packet

pytestmark = pytest.mark.threads


@pytest.mark.parametrize("props", [{"auth_method": "SCRAM-SHA-1"}, {"auth_method": "X", "auth_data": b"\0\1"}], ids=len)
def test_unknown_method(broker, props):
    client = broker.client()
    client.send_connect(props=props)
    client.expect(T.CONNACK, reason=R.BAD_AUTH_METHOD, session_present=False)
    client.expect_closed()


def test_auth_without_a_method_is_a_protocol_error(connect):
    """[MQTT-4.12.0-7] binds the client; the broker answers with 0x82."""
    client = connect()
    client.send(auth_packet(R.RE_AUTH, {"auth_method": "X"}))
    client.expect_disconnect(R.PROTOCOL_ERROR)


def test_no_auth_and_no_method_from_the_broker(connect):
    """[MQTT-4.12.0-6]"""
    client = connect()
    assert client.connack.prop("auth_method") is None
    client.ping()


def test_auth_with_wrong_flags(connect):
    """[MQTT-3.15.1-1]"""
    client = connect()
    client.send(auth_packet(R.RE_AUTH, {"auth_method": "X"}, flags=2))
    client.expect_disconnect(R.MALFORMED)


def test_auth_from_a_3_client(connect):
    client = connect(4)
    client.send(packet(T.AUTH, 0, b""))
    client.expect_closed()


def test_auth_with_unknown_reason(connect):
    """[MQTT-3.15.2-1]"""
    client = connect()
    client.send(auth_packet(0x42, {"auth_method": "X"}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.MALFORMED)
