"""Flow control: receive maximum, maximum packet size, topic aliases, in both directions."""

import pytest
from broker import settle
from wire import R, T, ack_packet, options, packet, properties, publish_packet, text, u16, unique, varint

pytestmark = pytest.mark.threads

GRANTED = 32  # limits.in_flight
PACKET_SIZE = 1 << 20  # limits.packet_size
ALIASES = 32  # limits.topic_alias


# ----------------------------------------------------------------------------------------- receive maximum, ours


def fill_window(client, topic, dup=False):
    """As many QoS 2 messages as may be without PUBREL."""
    for n in range(1, GRANTED + 1):
        client.send(publish_packet(topic, b"x", 2, n, dup=dup))
        client.expect(T.PUBREC, packet_id=n)


@pytest.mark.mosquitto_differs("answers 0x97")
def test_receive_maximum_is_exact(broker, topic):
    """Thirty-two QoS 2 messages without PUBREL are fine, the thirty-third is 0x93."""
    client = broker.connect()
    fill_window(client, topic)
    client.ping()
    client.send(publish_packet(topic, b"x", 2, GRANTED + 1))
    client.expect_disconnect(R.RECEIVE_MAXIMUM)


@pytest.mark.mosquitto_differs("answers 0x97")
def test_pubcomp_gives_back(broker, topic):
    client = broker.connect()
    fill_window(client, topic)
    for n in range(1, 6):
        client.ack(T.PUBREL, n)
        client.expect(T.PUBCOMP, packet_id=n)
        client.send(publish_packet(topic, b"x", 2, 100 + n))
        client.expect(T.PUBREC, packet_id=100 + n)
    client.send(publish_packet(topic, b"x", 2, 200))
    client.expect_disconnect(R.RECEIVE_MAXIMUM)


def test_qos_1_is_acknowledged_at_once_and_never_piles_up(broker, topic):
    client = broker.connect()
    client.send(*[publish_packet(topic, b"x", 1, n) for n in range(1, 201)])
    for n in range(1, 201):
        client.expect(T.PUBACK, packet_id=n)


@pytest.mark.mosquitto_differs("answers 0x97")
def test_qos_0_and_qos_1_next_to_a_full_window(broker, topic):
    """QoS 0 does not count; a QoS 1 message does."""
    client = broker.connect()
    fill_window(client, topic)
    client.publish(topic, b"qos 0")
    client.ping()
    client.subscribe(unique())
    client.send(publish_packet(topic, b"x", 1, 99))
    client.expect_disconnect(R.RECEIVE_MAXIMUM)


def test_repeated_qos_2_does_not_count_twice(broker, topic):
    client = broker.connect()
    fill_window(client, topic)
    client.send(publish_packet(topic, b"x", 2, 1, dup=True))
    client.expect(T.PUBREC, packet_id=1)
    client.ping()


def test_the_window_counts_anew_on_a_new_connection(broker, topic):
    """[MQTT-4.9.0-1]: quotas are not part of the session."""
    client = broker.persistent()
    fill_window(client, topic)
    client.drop()
    client = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    fill_window(client, topic, dup=True)
    client.ping()


def test_3_has_no_receive_maximum(broker, topic):
    """There is nothing that a 3.x client could exceed; it is not cut off at 33."""
    client = broker.connect(4)
    for n in range(1, 101):
        client.send(publish_packet(topic, b"x", 2, n, version=4))
        client.expect(T.PUBREC, packet_id=n)
    client.ping()


# ------------------------------------------------------------------------------------- receive maximum, the client's


@pytest.mark.mosquitto_differs("exceeds it")
@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("qos", [1, 2])
def test_never_more_than_the_client_s_receive_maximum(broker, topic, window, qos):
    client = broker.connect(props={"receive_maximum": window})
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for n in range(window + 5):
        publisher.publish(topic, str(n), qos=qos)
    held = [client.expect_publish(topic, str(n), ack=False) for n in range(window)]
    client.ping()
    for n in range(window, window + 5):
        first = held.pop(0)
        if qos == 1:
            client.ack(T.PUBACK, first.packet_id)
        else:
            client.ack(T.PUBREC, first.packet_id)
            client.expect(T.PUBREL, packet_id=first.packet_id)
            client.ping()  # PUBREC gives nothing back
            client.ack(T.PUBCOMP, first.packet_id)
        held.append(client.expect_publish(topic, str(n), ack=False))
        client.ping()


@pytest.mark.parametrize("reason", [0x80, 0x87, 0x99])
def test_errors_give_back(broker, topic, reason):
    """PUBACK and PUBREC with 0x80 or more return the place."""
    client = broker.connect(props={"receive_maximum": 1})
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for n in range(4):
        publisher.publish(topic, str(n), qos=1 + n % 2)
    for n in range(4):
        got = client.expect_publish(topic, str(n), ack=False)
        client.ping()
        client.ack(T.PUBACK if got.qos == 1 else T.PUBREC, got.packet_id, reason)
    client.ping()


@pytest.mark.mosquitto_differs("loses the place")
def test_messages_too_large_give_back(broker, topic):
    """What is dropped for its size takes no place in the window."""
    client = broker.connect(props={"receive_maximum": 1, "maximum_packet_size": 200})
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for n in range(5):
        publisher.publish(topic, b"x" * 300, qos=1)
        publisher.publish(topic, str(n), qos=1)
    for n in range(5):
        client.expect_publish(topic, str(n))
    settle(publisher, client)


def test_qos_0_next_to_a_full_window(broker, topic):
    """QoS 0 may pass what waits for the window or wait as well; it is not lost, and topics keep their order."""
    client = broker.connect(props={"receive_maximum": 1})
    client.subscribe(topic + "/#", qos=2)
    publisher = broker.connect()
    publisher.publish(topic + "/1", b"a", qos=1)
    publisher.publish(topic + "/1", b"b", qos=1)
    publisher.publish(topic + "/0", b"c", qos=0)
    publisher.publish(topic + "/0", b"d", qos=0)
    first = client.expect_publish(topic + "/1", b"a", ack=False)
    client.ack(T.PUBACK, first.packet_id)
    got = [client.expect_publish() for _ in range(3)]
    assert [g.payload for g in got if g.topic.endswith("/0")] == [b"c", b"d"]
    assert [g.payload for g in got if g.topic.endswith("/1")] == [b"b"]


def test_other_packets_do_not_wait_for_the_window(broker, topic):
    """[MQTT-3.3.4-10], [MQTT-4.9.0-3]: acknowledgements of the other direction, SUBACK, PINGRESP."""
    client = broker.connect(props={"receive_maximum": 1})
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    publisher.publish(topic, b"1", qos=1)
    publisher.publish(topic, b"2", qos=1)
    held = client.expect_publish(topic, b"1", ack=False)
    other = unique()
    client.publish(other, b"x", qos=1)
    client.publish(other, b"x", qos=2)
    client.subscribe(other, qos=1)
    client.unsubscribe(other)
    client.ping()
    client.ack(T.PUBACK, held.packet_id)
    client.expect_publish(topic, b"2")


def test_default_receive_maximum_is_bounded_by_ours(broker, topic):
    """A client that says nothing allows 65,535; the broker sends as many as limits.in_flight at a time."""
    client = broker.connect()
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for n in range(GRANTED + 10):
        publisher.publish(topic, str(n), qos=1)
    held = [client.expect_publish(topic, str(n), ack=False) for n in range(GRANTED)]
    client.ping()
    client.send(*[ack_packet(T.PUBACK, h.packet_id) for h in held])
    for n in range(GRANTED, GRANTED + 10):
        client.expect_publish(topic, str(n))


# --------------------------------------------------------------------------------------------- maximum packet size


def publish_of_size(topic, size, version):
    """A QoS 1 PUBLISH that is exactly `size` bytes, fixed header included."""
    body = text(topic) + u16(1) + (b"\0" if version == 5 else b"")
    for header in (2, 3, 4, 5):
        remaining = size - header
        if 1 + len(varint(remaining)) == header:
            return packet(T.PUBLISH, 2, body + b"x" * (remaining - len(body)))
    raise AssertionError


@pytest.mark.mosquitto_differs("leaves the fixed header out")
def test_our_maximum_packet_size_is_exact(broker, version, topic):
    client = broker.connect(version)
    raw = publish_of_size(topic, PACKET_SIZE, version)
    assert len(raw) == PACKET_SIZE
    client.send(raw)
    client.expect(T.PUBACK, packet_id=1)
    client.send(publish_of_size(topic, PACKET_SIZE + 1, version))
    client.expect_disconnect(R.TOO_LARGE)


def test_too_large_is_told_by_the_header_alone(broker):
    """No need to read 256 MiB to know that they are too many."""
    client = broker.connect()
    client.send(b"\x30\xff\xff\xff\x7f")
    client.expect_disconnect(R.TOO_LARGE)


def test_too_large_before_connect(broker):
    """Closed, with or without a word: the peer's version is not known yet."""
    client = broker.client()
    client.send(b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05")
    try:
        assert client.expect_any().reason == R.TOO_LARGE
        client.expect_closed()
    except AssertionError as error:
        assert str(error).startswith("closed")


@pytest.mark.mosquitto_differs("leaves the fixed header out")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_client_s_maximum_packet_size_is_exact(broker, topic, qos):
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: a byte more is dropped, and the flow goes on as if it had been sent."""
    probe = broker.connect()
    probe.subscribe(topic, qos=2)
    publisher = broker.connect()
    publisher.publish(topic, b"12345678", qos=qos)
    size = probe.expect_publish(topic, b"12345678").size
    client = broker.connect(props={"maximum_packet_size": max(size, 40)})
    fitting = b"x" * (8 + max(size, 40) - size)
    client.subscribe(topic, qos=2)
    publisher.publish(topic, fitting + b"!", qos=qos)
    publisher.publish(topic, fitting, qos=qos)
    got = client.expect_publish(topic, fitting)
    assert got.size == max(size, 40)
    settle(publisher, client, topic=unique())
    if qos:
        again = broker.client(5, client.client_id)
        again.connect()
        again.ping()


def test_too_large_for_one_is_delivered_to_others(broker, topic):
    small, big = broker.connect(props={"maximum_packet_size": 100}), broker.connect()
    for client in (small, big):
        client.subscribe(topic, qos=1)
    publisher = broker.connect()
    publisher.publish(topic, b"x" * 200, qos=1)
    big.expect_publish(topic, b"x" * 200)
    settle(publisher, small, big)


def test_too_large_retained(broker, topic):
    publisher = broker.connect()
    publisher.publish(topic + "/big", b"x" * 200, qos=1, retain=True)
    publisher.publish(topic + "/small", b"x", qos=1, retain=True)
    client = broker.connect(props={"maximum_packet_size": 100})
    client.subscribe(topic + "/#", qos=1)
    client.expect_publish(topic + "/small", b"x")
    client.ping()


@pytest.mark.skerry_only
@pytest.mark.parametrize("size", [45, 1000])
def test_acknowledgements_that_would_not_fit(make_broker, topic, size):
    """PUBACK, PUBREC and PUBREL with a failure: the reason string is left out where it would be too much."""
    broker = make_broker(options={"limits": {"retained_messages": 1}, "sys": {"interval": "off"}})
    client = broker.connect(props={"maximum_packet_size": size})
    client.publish(topic, b"the one", qos=1, retain=True)
    for n in range(2):
        refused = client.publish(f"{topic}/{n}", b"x", qos=1 + n, retain=True)
        assert refused.kind == (T.PUBACK, T.PUBREC)[n] and refused.reason == R.QUOTA and refused.size <= size
    client.ack(T.PUBREC, 4711)
    assert client.expect(T.PUBREL, packet_id=4711, reason=R.ID_NOT_FOUND).size <= size
    client.ack(T.PUBREL, 4711)
    assert client.expect(T.PUBCOMP, packet_id=4711, reason=R.ID_NOT_FOUND).size <= size


# -------------------------------------------------------------------------------------------------- topic aliases


def test_alias_from_the_client(broker, topic):
    client = broker.connect()
    client.subscribe(topic, qos=1)
    client.publish(topic, b"1", qos=1, props={"topic_alias": 1})
    client.publish("", b"2", qos=1, props={"topic_alias": 1})
    client.publish("", b"3", qos=0, props={"topic_alias": 1})
    for n in (b"1", b"2", b"3"):
        assert client.expect_publish(topic, n).prop("topic_alias") is None


@pytest.mark.mosquitto_differs("grants 10 topic aliases")
def test_alias_range(broker, topic):
    """[MQTT-3.3.2-12]: every value up to the maximum is taken, each with its own topic."""
    client = broker.connect()
    client.subscribe(topic + "/+")
    for n in range(1, ALIASES + 1):
        client.publish(f"{topic}/{n}", b"set", props={"topic_alias": n})
        client.expect_publish(f"{topic}/{n}", b"set")
    for n in range(1, ALIASES + 1):
        client.publish("", b"use", props={"topic_alias": n})
        client.expect_publish(f"{topic}/{n}", b"use")


def test_alias_can_be_given_another_topic(broker, topic):
    client = broker.connect()
    client.subscribe(topic + "/+")
    client.publish(topic + "/a", b"1", props={"topic_alias": 1})
    client.publish(topic + "/b", b"2", props={"topic_alias": 1})
    client.publish("", b"3", props={"topic_alias": 1})
    for name, payload in (("a", b"1"), ("b", b"2"), ("b", b"3")):
        client.expect_publish(f"{topic}/{name}", payload)


@pytest.mark.parametrize("alias", [0, ALIASES + 1, 65535])
def test_alias_out_of_range(broker, topic, alias):
    """[MQTT-3.3.2-8], [MQTT-3.3.2-9]"""
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props={"topic_alias": alias}))
    client.expect_disconnect(R.ALIAS_INVALID)


def test_alias_unknown(broker):
    client = broker.connect()
    client.send(publish_packet("", b"x", props={"topic_alias": 1}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.ALIAS_INVALID)


def test_no_topic_and_no_alias(broker):
    client = broker.connect()
    client.send(publish_packet("", b"x"))
    client.expect_disconnect(R.PROTOCOL_ERROR)


def test_alias_twice_in_a_packet(broker, topic):
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props=[("topic_alias", 1), ("topic_alias", 1)]))
    client.expect_disconnect(R.PROTOCOL_ERROR)


def test_aliases_end_with_the_connection(broker, topic):
    """[MQTT-3.3.2-7]"""
    client = broker.persistent()
    client.publish(topic, b"x", qos=1, props={"topic_alias": 1})
    client.drop()
    client = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    client.send(publish_packet("", b"x", 1, 1, props={"topic_alias": 1}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.ALIAS_INVALID)


def test_no_aliases_to_a_client_that_allows_none(broker, topic):
    """[MQTT-3.1.2-27]"""
    for props in ({}, {"topic_alias_maximum": 0}):
        client = broker.connect(props=props)
        client.subscribe(topic)
        for n in range(10):
            client.publish(topic, b"x")
            assert client.expect_publish(topic, b"x").prop("topic_alias") is None


@pytest.mark.mosquitto_differs("assigns none")
def test_aliases_to_the_client(broker, topic):
    """The broker uses as many as it may, and only values up to the client's maximum. [MQTT-3.1.2-26], [MQTT-3.3.2-11]"""
    client = broker.connect(props={"topic_alias_maximum": 2})
    client.subscribe(topic + "/+", qos=1)
    publisher, known, saved = broker.connect(), {}, 0
    for n in range(60):
        name = f"{topic}/{n % 3}"
        publisher.publish(name, str(n), qos=n % 2)
        got = client.expect_publish(payload=str(n))
        alias = got.prop("topic_alias")
        if got.topic:
            assert got.topic == name
        else:
            assert known[alias] == name
            saved += 1
        if alias is not None:
            assert 1 <= alias <= 2
            known[alias] = name
    assert saved > 0


@pytest.mark.mosquitto_differs("assigns none")
def test_aliases_and_redelivery(broker, topic):
    """What is sent again on a new connection has its topic or an alias that this connection has learnt."""
    props = {"topic_alias_maximum": 5}
    client = broker.persistent(props=props)
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for n in range(5):
        publisher.publish(topic, str(n), qos=1)
    for n in range(5):
        client.expect_publish(payload=str(n), ack=False)
    client.drop()
    client = broker.persistent(client_id=client.client_id, props=props)
    known = {}
    for n in range(5):
        got = client.expect_publish(payload=str(n), dup=True)
        if got.topic:
            assert got.topic == topic
            known[got.prop("topic_alias")] = topic
        else:
            assert known[got.prop("topic_alias")] == topic


def test_alias_with_a_message_that_is_too_large(broker, topic):
    """A message that was dropped has taught the client no alias."""
    client = broker.connect(props={"topic_alias_maximum": 5, "maximum_packet_size": 100})
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    publisher.publish(topic, b"x" * 200, qos=1)
    publisher.publish(topic, b"small", qos=1)
    got = client.expect_publish(payload=b"small")
    assert got.topic == topic


@pytest.mark.mosquitto_differs("delivers at PUBREL")
def test_alias_set_by_a_duplicate_qos_2_publish(broker, topic):
    """The alias of a packet counts even when its message does not."""
    client = broker.connect()
    client.subscribe(topic)
    client.send(publish_packet(topic, b"x", 2, 1))
    client.expect_ack(T.PUBREC, 1)
    client.send(publish_packet(topic, b"x", 2, 1, dup=True, props={"topic_alias": 3}))
    client.expect_ack(T.PUBREC, 1)
    client.publish("", b"by alias", props={"topic_alias": 3})
    client.expect_publish(topic, b"x")
    client.expect_publish(topic, b"by alias")


def test_property_block_may_be_empty_or_long(broker, topic):
    client = broker.connect()
    client.subscribe((topic, options()))
    many = [("user", (f"k{n}", "v" * 50)) for n in range(500)]
    client.send(packet(T.PUBLISH, 0, text(topic) + properties(many) + b"x"))
    assert client.expect_publish(topic, b"x").all("user") == [value for _, value in many]
