"""CONNECT and CONNACK: [MQTT-3.1] and [MQTT-3.2]."""

import pytest
from broker import settle
from wire import PINGREQ, Closed, R, T, connect_packet, packet, properties, publish_packet, subscribe_packet, text, unique

pytestmark = pytest.mark.threads


def test_accepted(broker, version):
    client = broker.client(version)
    client.connect(session_present=False)
    client.ping()
    client.disconnect()


@pytest.mark.parametrize(
    "first",
    [
        PINGREQ,
        publish_packet("a", b"x"),
        subscribe_packet(1, [("a", 0)]),
        packet(T.DISCONNECT, 0, b""),
        packet(T.CONNACK, 0, b"\0\0\0"),
        packet(T.AUTH, 0, b""),
        packet(0, 0, b""),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["ping", "publish", "subscribe", "disconnect", "connack", "auth", "reserved", "http", "tls"],
)
def test_first_packet_must_be_connect(broker, first):
    client = broker.client()
    client.send(first)
    client.expect_closed()


def test_second_connect_is_a_protocol_error(connect, version):
    client = connect(version)
    client.send_connect()
    client.expect_disconnect(R.PROTOCOL_ERROR)


def test_second_connect_of_another_version(connect):
    client = connect(4)
    client.send(connect_packet(unique(), version=5))
    client.expect_closed()


@pytest.mark.parametrize("name", ["MQTTX", "mqtt", "MQIsdpX", "", "HTTP", "MQT"])
def test_protocol_name_unknown(broker, name):
    client = broker.client(4)
    client.send_connect(name=name)
    _expect_closed_with_or_without_connack(client)


@pytest.mark.mosquitto_differs("sends no CONNACK to unknown levels above 5 in the 5.0 format")
@pytest.mark.parametrize("level", [0, 1, 2, 3, 6, 7, 127, 255])
def test_protocol_level_unsupported(broker, level):
    """The answer comes in the format that the peer is likeliest to read: return code 1 below 5, reason 0x84 above."""
    client = broker.client(5 if level > 5 else 4)
    client.send_connect(name="MQTT", level=level)
    client.expect_refused(R.UNSUPPORTED_VERSION, 1)


def test_protocol_31_name_with_wrong_level(broker):
    client = broker.client(3)
    client.send_connect(level=4)
    client.expect_refused(R.UNSUPPORTED_VERSION, 1)


def test_reserved_flag(broker, version):
    client = broker.client(version)
    client.send_connect(flags=0x03)
    if version == 3:
        client.expect(T.CONNACK, reason=0)  # 3.1 says nothing about the bit: ignored
        return
    client.expect_refused(R.MALFORMED)


CONTRADICTIONS = {
    "will QoS without a will": 0x0A,
    "will retain without a will": 0x22,
    "will QoS 3": 0x1E,
    "password without a user name": 0x42,  # in 3.1.1
}


@pytest.mark.parametrize("flags", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_connect_flags_that_contradict(broker, flags):
    for version in (4, 5):
        if flags == 0x42 and version == 5:
            continue
        client = broker.client(version)
        tail = text("w") + text("m") if flags == 0x1E else text("secret") if flags == 0x42 else b""
        if flags == 0x1E and version == 5:
            tail = properties(None) + tail
        client.send_connect(flags=flags, tail=tail)
        client.expect_refused(R.MALFORMED)


def test_password_without_user_name_is_fine_in_5(broker):
    client = broker.client()
    client.send_connect(password=b"secret")
    client.expect(T.CONNACK, reason=0)


@pytest.mark.parametrize(
    "kw",
    [
        {"flags": 0x06},
        {"flags": 0x82},
        {"flags": 0xC2, "username": None, "tail": text("user")},
        {"flags": 0x02, "tail": text("user")},
        {"tail": b"\x00"},
    ],
    ids=["no will fields", "no user name", "no password", "user name without its flag", "a byte too many"],
)
def test_payload_does_not_fit_the_flags(broker, kw):
    for version in (4, 5):
        client = broker.client(version)
        client.send_connect(**kw)
        client.expect_refused(R.MALFORMED)


@pytest.mark.parametrize("field", ["client_id", "username", "topic", "name"])
@pytest.mark.parametrize(
    "bad", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"a\x00b", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xc1\xbf"]
)
def test_strings_must_be_utf8(broker, field, bad):
    for version in (4, 5):
        client = broker.client(version)
        if field == "topic":
            client.send_connect(will={"topic": bad})
        else:
            client.send_connect(**{field: bad})
        if field == "name":
            _expect_closed_with_or_without_connack(client)
        else:
            client.expect_refused(R.MALFORMED)


def _expect_closed_with_or_without_connack(client):
    """Who does not name the protocol right is answered in the oldest format, if at all."""
    client.version = 4
    try:
        got = client.receive()
    except Closed:
        return
    assert got.kind == T.CONNACK and got.reason in (1, R.MALFORMED, R.UNSUPPORTED_VERSION)
    client.expect_closed()


def test_byte_order_mark_is_part_of_the_string(broker, topic):
    """[MQTT-1.5.4-3]: U+FEFF is neither skipped nor stripped."""
    with_mark = "\ufeff" + topic
    one, other = broker.connect(), broker.connect()
    one.subscribe(with_mark)
    other.subscribe(topic)
    other.publish(with_mark, b"x")
    one.expect_publish(with_mark, b"x")
    settle(other, one, other)
    assert broker.client(client_id="\ufeff" + unique()).connect(session_present=False)


def test_will_topic_must_not_have_wildcards(broker):
    for version in (4, 5):
        client = broker.client(version)
        client.send_connect(will={"topic": "a/#"})
        client.expect_refused((R.TOPIC_INVALID, R.MALFORMED))


def test_all_fields_in_order(broker, version, topic):
    """Client identifier, will, user name, password together; the will proves that each was read as itself."""
    watcher = broker.connect()
    watcher.subscribe(topic, qos=1)
    client = broker.client(version)
    client.connect(will={"topic": topic, "payload": b"gone", "qos": 1}, username="user", password=b"secret")
    client.drop()
    watcher.expect_publish(topic, b"gone", qos=1)


@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"])
def test_client_identifiers_that_must_be_allowed(broker, version, client_id):
    broker.client(version, client_id).connect().disconnect()


def test_long_client_identifier(broker):
    for version in (4, 5):
        broker.client(version, unique("x" * 60000)).connect().disconnect()


def test_client_identifier_may_be_any_text(broker):
    for name in ("sensor/3", "Ünïcödé", "with space", "+#$"):
        broker.client(5, name + unique()).connect().disconnect()


def test_assigned_client_identifier(broker):
    one, other = broker.client(client_id=""), broker.client(client_id="")
    names = [c.connect().connack.prop("assigned_client_id") for c in (one, other)]
    assert all(names) and names[0] != names[1]
    one.ping()
    # It is a client identifier like any other: who comes with it takes over.
    broker.client(client_id=names[0]).connect()
    one.expect_disconnect(R.TAKEN_OVER)


def test_assigned_client_identifier_keeps_its_session(broker, topic):
    first = broker.client(client_id="").connect(props={"session_expiry": 60})
    name = first.connack.prop("assigned_client_id")
    first.subscribe(topic, qos=1)
    first.disconnect()
    again = broker.client(client_id=name).connect(clean=False, props={"session_expiry": 0}, session_present=True)
    assert again.connack.prop("assigned_client_id") is None


def test_no_assigned_client_identifier_when_one_was_given(connect):
    assert connect().connack.prop("assigned_client_id") is None


def test_empty_client_identifier_311(broker):
    one, other = broker.client(4, "").connect(), broker.client(4, "").connect()
    one.ping()
    other.ping()


def test_empty_client_identifier_needs_a_clean_session_in_311(broker):
    client = broker.client(4, "")
    client.send_connect(clean=False)
    client.expect_refused(R.ID_NOT_VALID, 2)


def test_nothing_after_a_refused_connect_is_processed(broker, topic):
    """[MQTT-3.1.4-5] 3.1.1, [MQTT-3.1.4-6] 5.0."""
    watcher = broker.connect()
    watcher.subscribe(topic)
    for version, bad in ((4, {"client_id": "", "clean": False}), (5, {"props": {"auth_method": "NONE-SUCH"}})):
        client = broker.client(version)
        client.send(
            connect_packet(**{"client_id": unique(), "version": version, **bad}),
            publish_packet(topic, b"must not arrive", version=version),
        )
        client.expect(T.CONNACK)
        client.expect_closed()
    settle(broker.connect(), watcher)


def test_packets_right_behind_connect_are_processed(broker, version, topic):
    """A client need not wait for CONNACK."""
    client = broker.client(version)
    client.send(
        connect_packet(client.client_id, version),
        subscribe_packet(1, [(topic, 0)], version=version),
        publish_packet(topic, b"early", version=version),
        PINGREQ,
    )
    assert client.expect(T.CONNACK).reason == 0
    got = client.expect_set([T.SUBACK, T.PUBLISH, T.PINGRESP])
    assert got[T.PUBLISH].payload == b"early"


def test_connack_is_the_first_packet(broker, version, topic):
    """Queued messages come after CONNACK, never before it."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    client.drop()
    publisher = broker.connect()
    publisher.publish(topic, b"waiting", qos=1)
    again = broker.client(version, client.client_id)
    again.connect(clean=False, session_present=True)
    again.expect_publish(topic, b"waiting")


# ------------------------------------------------------------------------------------------------ CONNACK's properties


def test_connack_tells_the_limits(connect):
    connack = connect().connack
    assert connack.prop("receive_maximum") == 32
    assert connack.prop("maximum_packet_size") == 1 << 20
    assert connack.prop("maximum_qos") is None
    for name in ("retain_available", "wildcard_available", "subscription_id_available", "shared_available"):
        assert connack.prop(name, 1) == 1
    assert connack.prop("auth_method") is None


@pytest.mark.mosquitto_differs("grants 10 topic aliases")
def test_connack_tells_the_topic_alias_maximum(connect):
    assert connect().connack.prop("topic_alias_maximum") == 32


def test_no_response_information_unless_asked(connect):
    assert connect().connack.prop("response_information") is None
    assert connect(props={"request_response": 0}).connack.prop("response_information") is None
    connect(props={"request_response": 1}).ping()


@pytest.mark.mosquitto_differs("PUBCOMP to an unknown PUBREL says success")
@pytest.mark.parametrize("value", [0, 1])
def test_request_problem_information(connect, value):
    """[MQTT-3.1.2-29]: without it, no reason string or user property on acknowledgements."""
    client = connect(props={"request_problem": value})
    client.send(packet(T.PUBREL, 2, b"\x12\x34"))
    pubcomp = client.expect(T.PUBCOMP, packet_id=0x1234, reason=R.ID_NOT_FOUND)
    suback = client.subscribe("a/#/b", reasons=[R.FILTER_INVALID])
    unsuback = client.unsubscribe(unique())
    if value == 0:
        assert not pubcomp.props and not suback.props and not unsuback.props


@pytest.mark.mosquitto_differs("PUBCOMP to an unknown PUBREL says success")
def test_small_maximum_packet_size_drops_optional_properties(broker):
    """[MQTT-3.2.2-19], [MQTT-3.2.2-20], [MQTT-3.4.2-2] and the like: what does not fit is left out."""
    client = broker.connect(props={"maximum_packet_size": 40})
    assert client.connack.size <= 40
    client.send(packet(T.PUBREL, 2, b"\x12\x34"))
    assert client.expect(T.PUBCOMP, reason=R.ID_NOT_FOUND).size <= 40
    assert client.subscribe("a/#/b", reasons=[R.FILTER_INVALID]).size <= 40
    assert client.unsubscribe(unique()).size <= 40
    client.send(packet(T.PUBLISH, 6, b""))
    assert client.expect(T.DISCONNECT, reason=R.MALFORMED).size <= 40


@pytest.mark.mosquitto_differs("ignores it")
def test_connack_that_cannot_fit(broker):
    """A client that takes no packet of CONNACK's size gets none."""
    client = broker.client()
    client.send_connect(props={"maximum_packet_size": 3})
    client.expect_closed()


@pytest.mark.mosquitto_differs("caps nothing unless told")
def test_server_keep_alive(broker):
    """Above keep_alive_max (1 h), and 0 which would be for ever: the broker says what it uses."""
    assert broker.connect(keep_alive=7200).connack.prop("server_keep_alive") == 3600
    assert broker.connect(keep_alive=0).connack.prop("server_keep_alive") == 3600
    assert broker.connect(keep_alive=3600).connack.prop("server_keep_alive") is None
    assert broker.connect(keep_alive=60).connack.prop("server_keep_alive") is None


@pytest.mark.mosquitto_differs("keeps sessions as long as asked")
def test_session_expiry_is_capped(broker):
    week = 7 * 24 * 3600
    assert broker.connect(props={"session_expiry": 0xFFFFFFFF}).connack.prop("session_expiry") == week
    assert broker.connect(props={"session_expiry": week + 1}).connack.prop("session_expiry") == week
    assert broker.connect(props={"session_expiry": week}).connack.prop("session_expiry") in (None, week)
    assert broker.connect().connack.prop("session_expiry") in (None, 0)


@pytest.mark.mosquitto_differs("takes authentication data without a method")
@pytest.mark.parametrize(
    "props",
    [
        {"receive_maximum": 0},
        {"maximum_packet_size": 0},
        {"request_problem": 2},
        {"request_response": 2},
        {"auth_data": b"x"},
        [("session_expiry", 1), ("session_expiry", 2)],
        [("receive_maximum", 1), ("receive_maximum", 2)],
        [("topic_alias_maximum", 1), ("topic_alias_maximum", 1)],
    ],
    ids=lambda p: "+".join(name for name, _ in (p.items() if isinstance(p, dict) else p)),
)
def test_connect_properties_with_wrong_values(broker, props):
    client = broker.client()
    client.send_connect(props=props)
    client.expect_refused(R.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "props", [{"topic_alias": 1}, {"message_expiry": 1}, {"subscription_id": 1}, {"reason_string": "x"}], ids=list
)
def test_connect_properties_of_other_packets(broker, props):
    client = broker.client()
    client.send_connect(props=props)
    client.expect_refused((R.MALFORMED, R.PROTOCOL_ERROR))


def test_user_properties_in_connect_are_fine(connect):
    connect(props={"user": [("a", "1"), ("a", "2"), ("", "")]}).ping()


def test_unknown_property(broker):
    client = broker.client()
    client.send_connect(props=b"\x7f\x00")
    client.expect_refused(R.MALFORMED)


def test_property_length_not_minimal(broker):
    """[MQTT-1.5.5-1]"""
    client = broker.client()
    client.send(packet(T.CONNECT, 0, text("MQTT") + b"\x05\x02\x00\x3c" + b"\x80\x00" + text(unique())))
    client.expect_refused(R.MALFORMED)


@pytest.mark.skerry_only
def test_connect_time_out(make_broker):
    """Who says nothing, or half a CONNECT, is closed after limits.connect_timeout."""
    broker = make_broker(options={"limits": {"connect_timeout": "1s"}})
    silent, half = broker.client(), broker.client()
    half.send(connect_packet(unique())[:7])
    silent.expect_closed()
    half.expect_closed()
    broker.alive()
