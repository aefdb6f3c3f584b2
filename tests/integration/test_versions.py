"""What is particular to MQTT 3.1 and 3.1.1, and clients of all versions together."""

import itertools

import pytest
from wire import LENIENT, T, ack_packet, connect_packet, packet, publish_packet, subscribe_packet, text, u16, unique

pytestmark = pytest.mark.threads

VERSIONS = [3, 4, 5]


@pytest.mark.parametrize("writer, reader", itertools.product(VERSIONS, VERSIONS))
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mixed_versions(broker, topic, writer, reader, qos):
    subscriber, publisher = broker.connect(reader), broker.connect(writer)
    subscriber.subscribe(topic, qos=2)
    publisher.publish(topic, b"x", qos=qos)
    assert subscriber.expect_publish(topic, b"x", qos=qos).props == []


@pytest.mark.parametrize("writer, reader", itertools.product(VERSIONS, VERSIONS))
def test_mixed_versions_of_wills(broker, topic, writer, reader):
    subscriber = broker.connect(reader)
    subscriber.subscribe(topic, qos=2)
    broker.connect(writer, will={"topic": topic, "payload": b"gone", "qos": 2}).drop()
    subscriber.expect_publish(topic, b"gone", qos=2)


def test_all_at_once(broker, topic):
    """The same message to subscribers of every version and QoS, published by each version."""
    subscribers = [(v, q, broker.connect(v)) for v in VERSIONS for q in (0, 1, 2)]
    for _, qos, client in subscribers:
        client.subscribe(topic, qos=qos)
    for writer in VERSIONS:
        props = {"props": {"content_type": "x", "user": ("a", "b")}} if writer == 5 else {}
        broker.connect(writer).publish(topic, f"from {writer}", qos=2, **props)
        for reader, qos, client in subscribers:
            got = client.expect_publish(topic, f"from {writer}", qos=qos)
            assert len(got.props) == (2 if writer == reader == 5 else 0)


def test_connack_of_31_has_no_session_present(broker):
    """The byte is reserved in 3.1."""
    client = broker.persistent(3)
    client.drop()
    again = broker.client(3, client.client_id)
    again.send_connect(clean=False)
    again.expect(T.CONNACK, reason=0, session_present=False)


def test_connack_of_311_has_session_present(broker):
    client = broker.persistent(4)
    client.drop()
    again = broker.client(4, client.client_id)
    again.send_connect(clean=False)
    again.expect(T.CONNACK, reason=0, session_present=True)


@pytest.mark.mosquitto_differs("takes longer ones")
def test_31_client_identifiers_longer_than_23(broker):
    """3.1 allows 1 to 23 characters: return code 2 for more."""
    broker.client(3, unique("a")[:10].ljust(23, "b")).connect().disconnect()
    client = broker.client(3, unique("a").ljust(24, "b"))
    client.send_connect()
    client.expect_refused(None, 2)


def test_31_empty_client_identifier(broker):
    """In 3.1 a client has to have one: return code 2."""
    client = broker.client(3, "")
    client.send_connect()
    client.expect_refused(None, 2)


def test_31_user_name_flag_without_the_field(broker):
    """3.1 asks brokers to be lenient: with the flags set but the payload at its end, there is no user name."""
    client = broker.client(3, unique())
    client.send_connect(flags=0xC2)
    try:
        got = client.expect_any()
    except AssertionError:
        return
    assert got.kind == T.CONNACK and got.reason in (0, 4)


def test_31_dup_and_retries(broker, topic):
    """3.1 clients may send again on the same connection, with DUP: QoS 2 is delivered once, PUBREL may repeat."""
    subscriber, client = broker.connect(), broker.connect(3)
    subscriber.subscribe(topic, qos=2)
    client.send(publish_packet(topic, b"x", 2, 1, version=3))
    client.expect(T.PUBREC, packet_id=1)
    client.send(packet(T.PUBREL, 2, u16(1)))
    client.expect(T.PUBCOMP, packet_id=1)
    client.send(packet(T.PUBREL, 2 | 8, u16(1)))  # with DUP
    client.expect(T.PUBCOMP, packet_id=1)
    subscriber.expect_publish(topic, b"x")


def test_31_subscribe_with_dup(broker, topic):
    """SUBSCRIBE, UNSUBSCRIBE and PUBREL of 3.1 have QoS 1 and may carry DUP."""
    client = broker.connect(3)
    client.send(subscribe_packet(1, [(topic, 1)], version=3, flags=2 | 8))
    client.expect(T.SUBACK, packet_id=1, reasons=[1])
    client.send(packet(T.UNSUBSCRIBE, 2 | 8, u16(2) + text(topic)))
    client.expect(T.UNSUBACK, packet_id=2)


def test_31_clean_session(broker, topic):
    client = broker.persistent(3)
    client.subscribe(topic, qos=1)
    client.disconnect()
    broker.connect(3).publish(topic, b"waits", qos=1)
    again = broker.client(3, client.client_id).connect(clean=False)
    again.expect_publish(topic, b"waits")


def test_return_code_1_of_the_old_versions(broker):
    for kw in ({"name": "MQTT", "level": 2}, {"name": "MQIsdp", "level": 5}, {"name": "MQTT", "level": 3}):
        client = broker.client(4, unique())
        client.send_connect(**kw)
        client.expect_refused(None, 1)


def test_bridges_of_mosquitto(broker, topic):
    """The top bit of the protocol level marks a bridge: it gets the retain flag as published, and not its own messages."""
    bridge = broker.client(4)
    bridge.send(connect_packet(bridge.client_id, 4, level=0x84))
    bridge.expect(T.CONNACK, reason=0)
    bridge.subscribe(topic, qos=1)
    broker.connect(4).publish(topic, b"x", qos=1, retain=True)
    bridge.expect_publish(topic, b"x", retain=True)
    broker.connect(4).publish(topic, b"", qos=1, retain=True)
    bridge.expect_publish(topic, b"", retain=True)
    bridge.publish(topic, b"own", qos=1)
    bridge.ping()


def test_suback_failure_of_311(broker):
    """3.1.1 says 0x80 for each filter that is refused."""
    client = broker.connect(4)
    client.send(subscribe_packet(1, [("ok", 1), ("bad/#/x", 1), ("ok/2", 2)], version=4))
    try:
        client.expect(T.SUBACK, packet_id=1, reasons=[1, 0x80, 2])
    except AssertionError as error:
        assert LENIENT, error


def test_acknowledgements_of_3_are_two_bytes(broker, topic):
    for version in (3, 4):
        client = broker.connect(version)
        client.subscribe(topic, qos=2)
        client.publish(topic, b"x", qos=2)
        got = client.expect_publish(topic, b"x", ack=False)
        client.send(ack_packet(T.PUBREC, got.packet_id, version=version))
        assert len(client.expect(T.PUBREL, packet_id=got.packet_id).body) == 2
        client.send(ack_packet(T.PUBCOMP, got.packet_id, version=version))
        client.unsubscribe(topic)
        client.publish(topic, b"nobody", qos=1)
