"""Malformed packets and protocol errors: the exact reason before closing in 5.0, a plain close in 3.x. [MQTT-4.13.1-1]."""

import pytest
from wire import R, T, connect_packet, packet, properties, publish_packet, subscribe_packet, text, u16, unique

pytestmark = pytest.mark.threads

M, P = (R.MALFORMED,), (R.PROTOCOL_ERROR,)
TOPIC = (R.TOPIC_INVALID, R.MALFORMED)
NO, FILTER = b"\0", text("a") + b"\0"  # no properties; a topic filter with its options
BAD_UTF8 = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf5\x80\x80\x80", b"\xe2\x28\xa1", b"\x80", b"a\0"]

# what, bytes, reasons of 5.0
V5 = [
    # fixed header
    ("packet type 0", packet(0, 0, b""), M),
    ("type 0 with a body", packet(0, 0, b"abc"), M),
    ("remaining length of five bytes", b"\x30\xff\xff\xff\xff\x01", M),
    ("remaining length of five bytes, not minimal", b"\xc0\x80\x80\x80\x80\x00", M),
    # packets that only a server sends
    ("CONNACK", packet(T.CONNACK, 0, b"\0\0\0"), P + M),
    ("SUBACK", packet(T.SUBACK, 0, u16(1) + NO + b"\0"), P + M),
    ("UNSUBACK", packet(T.UNSUBACK, 0, u16(1) + NO + b"\0"), P + M),
    ("PINGRESP", packet(T.PINGRESP, 0, b""), P + M),
    # flags
    ("PUBLISH with QoS 3", publish_packet("a", b"x", flags=6, packet_id=1), M),
    ("PUBLISH with DUP at QoS 0", publish_packet("a", b"x", flags=8), P + M),
    ("PUBACK flags", packet(T.PUBACK, 1, u16(1)), M),
    ("PUBREC flags", packet(T.PUBREC, 2, u16(1)), M),
    ("PUBREL flags 0", packet(T.PUBREL, 0, u16(1)), M),
    ("PUBREL flags 3", packet(T.PUBREL, 3, u16(1)), M),
    ("PUBCOMP flags", packet(T.PUBCOMP, 8, u16(1)), M),
    ("SUBSCRIBE flags 0", packet(T.SUBSCRIBE, 0, u16(1) + NO + text("a") + b"\0"), M),
    ("SUBSCRIBE flags 6", packet(T.SUBSCRIBE, 6, u16(1) + NO + text("a") + b"\0"), M),
    ("UNSUBSCRIBE flags", packet(T.UNSUBSCRIBE, 0, u16(1) + NO + text("a")), M),
    ("PINGREQ flags", packet(T.PINGREQ, 1, b""), M),
    ("DISCONNECT flags", packet(T.DISCONNECT, 1, b""), M),
    ("AUTH flags", packet(T.AUTH, 1, b""), M),
    # lengths
    ("PUBLISH without a topic", packet(T.PUBLISH, 0, b""), M),
    ("PUBLISH with half a topic length", packet(T.PUBLISH, 0, b"\0"), M),
    ("PUBLISH with a topic beyond the end", packet(T.PUBLISH, 0, b"\0\x05ab"), M),
    ("PUBLISH without a property length", packet(T.PUBLISH, 0, text("a")), M),
    ("PUBLISH QoS 1 without an identifier", packet(T.PUBLISH, 2, text("a")), M),
    ("PUBLISH QoS 1 with half an identifier", packet(T.PUBLISH, 2, text("a") + b"\0"), M),
    ("PUBLISH with properties beyond the end", packet(T.PUBLISH, 0, text("a") + b"\x05\x01\x01"), M),
    ("PUBACK empty", packet(T.PUBACK, 0, b""), M),
    ("PUBACK of one byte", packet(T.PUBACK, 0, b"\0"), M),
    ("PUBACK with a byte too many", packet(T.PUBACK, 0, u16(1) + b"\0" + NO + b"x"), M),
    ("PUBREL with properties beyond the end", packet(T.PUBREL, 2, u16(1) + b"\0\x05\x1f"), M),
    ("SUBSCRIBE empty", packet(T.SUBSCRIBE, 2, b""), M),
    ("SUBSCRIBE without a property length", packet(T.SUBSCRIBE, 2, u16(1)), M),
    ("SUBSCRIBE without options", packet(T.SUBSCRIBE, 2, u16(1) + NO + text("a")), M),
    ("SUBSCRIBE with half a filter", packet(T.SUBSCRIBE, 2, u16(1) + NO + b"\0\x09abc"), M),
    ("SUBSCRIBE with a second half filter", packet(T.SUBSCRIBE, 2, u16(1) + NO + text("a") + b"\0\0"), M),
    ("UNSUBSCRIBE with half a filter", packet(T.UNSUBSCRIBE, 2, u16(1) + NO + b"\0\x09abc"), M),
    ("PINGREQ with a body", packet(T.PINGREQ, 0, b"x"), M),
    ("DISCONNECT with a byte too many", packet(T.DISCONNECT, 0, b"\0" + NO + b"x"), M),
    ("AUTH with a byte too many", packet(T.AUTH, 0, b"\x19" + NO + b"x"), M + P),
    # packet identifier 0
    ("PUBLISH identifier 0", publish_packet("a", b"x", 1, 0), P + M),
    ("PUBACK identifier 0", packet(T.PUBACK, 0, u16(0)), P + M),
    ("PUBREC identifier 0", packet(T.PUBREC, 0, u16(0)), P + M),
    ("PUBREL identifier 0", packet(T.PUBREL, 2, u16(0)), P + M),
    ("PUBCOMP identifier 0", packet(T.PUBCOMP, 0, u16(0)), P + M),
    ("SUBSCRIBE identifier 0", packet(T.SUBSCRIBE, 2, u16(0) + NO + text("a") + b"\0"), P + M),
    ("UNSUBSCRIBE identifier 0", packet(T.UNSUBSCRIBE, 2, u16(0) + NO + text("a")), P + M),
    # topic names
    ("PUBLISH to #", publish_packet("a/#", b"x"), TOPIC),
    ("PUBLISH to +", publish_packet("a/+/b", b"x"), TOPIC),
    ("PUBLISH to + inside a level", publish_packet("a+b", b"x"), TOPIC),
    # properties
    ("unknown property", publish_packet("a", b"x", props=b"\x7e\x01"), M),
    ("property identifier not minimal", publish_packet("a", b"x", props=b"\x81\x00\x01"), M),
    ("property cut off", publish_packet("a", b"x", props=b"\x02\x00\x00"), M),
    ("string property cut off", publish_packet("a", b"x", props=b"\x03\x00\x09ab"), M),
    ("property length not minimal", packet(T.PUBLISH, 0, text("a") + b"\x80\x00x"), M),
    ("property length of five bytes", packet(T.PUBLISH, 0, text("a") + b"\xff\xff\xff\xff\x01x"), M),
    ("session expiry in SUBSCRIBE", packet(T.SUBSCRIBE, 2, u16(1) + properties({"session_expiry": 1}) + FILTER), M + P),
    ("reason string in SUBSCRIBE", packet(T.SUBSCRIBE, 2, u16(1) + properties({"reason_string": "x"}) + FILTER), M + P),
    ("identifier in UNSUBSCRIBE", packet(T.UNSUBSCRIBE, 2, u16(1) + properties({"subscription_id": 1}) + text("a")), M + P),
    ("subscription identifier of five bytes", packet(T.SUBSCRIBE, 2, u16(1) + b"\x06\x0b\xff\xff\xff\xff\x01" + FILTER), M),
    ("expiry in PUBACK", packet(T.PUBACK, 0, u16(1) + b"\0" + properties({"message_expiry": 1})), M + P),
    ("reason string twice", packet(T.PUBACK, 0, u16(1) + b"\0" + properties([("reason_string", "a")] * 2)), P + M),
]  # fmt: skip


@pytest.mark.parametrize("raw, reasons", [row[1:] for row in V5], ids=[row[0] for row in V5])
@pytest.mark.mosquitto_differs("takes some of them")
def test_5(broker, raw, reasons):
    client = broker.connect()
    client.send(raw)
    got = client.expect_disconnect(*reasons)
    assert got is None or len(got.prop("reason_string", "")) < 500


V3 = [
    ("packet type 0", packet(0, 0, b"")),
    ("packet type 15", packet(15, 0, b"")),
    ("remaining length of five bytes", b"\x30\xff\xff\xff\xff\x01"),
    ("CONNACK", packet(T.CONNACK, 0, b"\0\0")),
    ("SUBACK", packet(T.SUBACK, 0, u16(1) + b"\0")),
    ("UNSUBACK", packet(T.UNSUBACK, 0, u16(1))),
    ("PINGRESP", packet(T.PINGRESP, 0, b"")),
    ("PUBLISH with QoS 3", publish_packet("a", b"x", flags=6, packet_id=1, version=4)),
    ("PUBLISH without a topic", packet(T.PUBLISH, 0, b"")),
    ("PUBLISH with an empty topic", publish_packet("", b"x", version=4)),
    ("PUBLISH with a topic beyond the end", packet(T.PUBLISH, 0, b"\0\x05ab")),
    ("PUBLISH QoS 1 without an identifier", packet(T.PUBLISH, 2, text("a"))),
    ("PUBLISH identifier 0", publish_packet("a", b"x", 1, 0, version=4)),
    ("PUBLISH to #", publish_packet("a/#", b"x", version=4)),
    ("PUBLISH to +", publish_packet("+", b"x", version=4)),
    ("PUBACK empty", packet(T.PUBACK, 0, b"")),
    ("PUBACK with a reason", packet(T.PUBACK, 0, u16(1) + b"\0")),
    ("PUBREC identifier 0", packet(T.PUBREC, 0, u16(0))),
    ("SUBSCRIBE empty", packet(T.SUBSCRIBE, 2, b"")),
    ("SUBSCRIBE without a filter", packet(T.SUBSCRIBE, 2, u16(1))),
    ("SUBSCRIBE without QoS", packet(T.SUBSCRIBE, 2, u16(1) + text("a"))),
    ("SUBSCRIBE QoS 3", packet(T.SUBSCRIBE, 2, u16(1) + text("a") + b"\3")),
    ("SUBSCRIBE identifier 0", packet(T.SUBSCRIBE, 2, u16(0) + text("a") + b"\0")),
    ("UNSUBSCRIBE without a filter", packet(T.UNSUBSCRIBE, 2, u16(1))),
    ("UNSUBSCRIBE identifier 0", packet(T.UNSUBSCRIBE, 2, u16(0) + text("a"))),
    ("PINGREQ with a body", packet(T.PINGREQ, 0, b"x")),
    ("DISCONNECT with a body", packet(T.DISCONNECT, 0, b"x")),
]
# The reserved flags must be right in 3.1.1; 3.1 used them or left them open.
V311 = [
    ("PUBACK flags", packet(T.PUBACK, 1, u16(1))),
    ("PUBREL flags", packet(T.PUBREL, 0, u16(1))),
    ("SUBSCRIBE flags", packet(T.SUBSCRIBE, 0, u16(1) + text("a") + b"\0")),
    ("UNSUBSCRIBE flags", packet(T.UNSUBSCRIBE, 0, u16(1) + text("a"))),
    ("PINGREQ flags", packet(T.PINGREQ, 1, b"")),
    ("DISCONNECT flags", packet(T.DISCONNECT, 1, b"")),
    ("PUBLISH with DUP at QoS 0", publish_packet("a", b"x", flags=8, version=4)),
]


@pytest.mark.parametrize("raw", [row[1] for row in V3], ids=[row[0] for row in V3])
@pytest.mark.parametrize("version", [3, 4], ids=["v31", "v311"])
@pytest.mark.mosquitto_differs("takes some of them")
def test_3(broker, version, raw):
    client = broker.connect(version)
    client.send(raw)
    client.expect_closed()


@pytest.mark.parametrize("raw", [row[1] for row in V311], ids=[row[0] for row in V311])
@pytest.mark.mosquitto_differs("takes some of them")
def test_311(broker, raw):
    client = broker.connect(4)
    client.send(raw)
    client.expect_closed()


@pytest.mark.parametrize("bad", BAD_UTF8, ids=[b.hex() for b in BAD_UTF8])
def test_ill_formed_utf8(broker, version, bad):
    """[MQTT-1.5.4-1], [MQTT-1.5.4-2]; 3.1.1 [MQTT-1.5.3-1], [MQTT-1.5.3-2]: in every string of every packet."""
    none = NO if version == 5 else b""
    for raw in (
        publish_packet(bad, b"x", version=version),
        packet(T.SUBSCRIBE, 2, u16(1) + none + text(bad) + b"\0"),
        packet(T.UNSUBSCRIBE, 2, u16(1) + none + text(bad)),
    ):
        client = broker.connect(version)
        client.send(raw)
        client.expect_disconnect(R.MALFORMED, R.TOPIC_INVALID, R.FILTER_INVALID)


@pytest.mark.mosquitto_differs("refuses control characters and non-characters")
@pytest.mark.parametrize("good", ["é", "漢字", "😀", "\u007f", "\u0001", "\ufeff", "\uffff", "\U0010ffff"])
def test_well_formed_utf8(broker, version, topic, good):
    """Control characters and non-characters are allowed: the standard leaves it to us."""
    client = broker.connect(version)
    client.subscribe(topic + "/" + good)
    client.publish(topic + "/" + good, b"x")
    client.expect_publish(topic + "/" + good, b"x")


def test_payload_need_not_be_text(broker, version, topic):
    client = broker.connect(version)
    client.subscribe(topic)
    client.publish(topic, b"\xff\x00\xc0\x80")
    client.expect_publish(topic, b"\xff\x00\xc0\x80")


def test_others_are_not_disturbed(broker, topic):
    """[MQTT-4.13.2-1]: an error has no consequence for other sessions."""
    one, bad = broker.connect(), broker.connect()
    one.subscribe(topic)
    bad.send(publish_packet(topic, b"good"), packet(0, 0, b""), publish_packet(topic, b"behind the error"))
    bad.expect_disconnect(R.MALFORMED)
    one.expect_publish(topic, b"good")
    one.ping()
    one.publish(topic, b"still here")
    one.expect_publish(topic, b"still here")


def test_session_survives_a_protocol_error(broker, topic):
    client = broker.persistent()
    client.subscribe(topic, qos=1)
    client.send(packet(0, 0, b""))
    client.expect_disconnect(R.MALFORMED)
    broker.client(5, client.client_id).connect(clean=False, session_present=True)


def test_what_came_before_the_error_is_done(broker, version, topic):
    watcher = broker.connect()
    watcher.subscribe(topic, qos=1)
    client = broker.connect(version)
    client.send(publish_packet(topic, b"1", 1, 1, version=version), packet(0, 0, b""))
    client.expect(T.PUBACK, packet_id=1)
    client.expect_disconnect(R.MALFORMED)
    watcher.expect_publish(topic, b"1")


def test_every_prefix_of_good_packets(broker):
    """A connection that ends within a packet is closed quietly; nothing of the packet takes effect."""
    whole = connect_packet(unique(), will={"topic": "w", "payload": b"x"}, username="u", password=b"p")
    for cut in range(len(whole)):
        client = broker.client()
        client.send(whole[:cut])
        client.stream.half_close()
        client.expect_closed()
    for raw in (publish_packet("a/b", b"xyz", 1, 7), subscribe_packet(1, [("a/b", 1)])):
        for cut in range(1, len(raw)):
            client = broker.connect()
            client.send(raw[:cut])
            client.stream.half_close()
            client.expect_closed()
    broker.alive()
