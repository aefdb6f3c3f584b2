"""PUBLISH and its acknowledgements, both directions: QoS 0, 1, 2, duplicates, reason codes."""

import pytest
from broker import settle
from wire import R, T, ack_packet, packet, publish_packet, subscribe_packet, text, u16, unique

pytestmark = pytest.mark.threads


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_qos_is_the_lower_of_published_and_granted(broker, version, topic, published, granted):
    subscriber, publisher = broker.connect(version), broker.connect(version)
    subscriber.subscribe(topic, qos=granted)
    publisher.publish(topic, b"x", qos=published)
    got = subscriber.expect_publish(topic, b"x", qos=min(published, granted), retain=False, dup=False)
    assert (got.packet_id is None) == (got.qos == 0)
    settle(publisher, subscriber)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 300_000])
def test_payload_sizes(broker, version, topic, size):
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    client = broker.connect(version)
    client.subscribe(topic, qos=1)
    client.publish(topic, payload, qos=1)
    client.expect_publish(topic, payload)


def test_puback_has_the_packet_identifier(broker, version, topic):
    client = broker.connect(version)
    for packet_id in (1, 2, 255, 256, 65535, 1):
        client.publish(topic, b"x", qos=1, packet_id=packet_id)
        client.publish(topic, b"x", qos=2, packet_id=packet_id)


@pytest.mark.parametrize("qos", [1, 2])
def test_no_matching_subscribers(broker, topic, qos):
    """5.0 tells the publisher that nobody listens; the other versions cannot."""
    client = broker.connect()
    packet_id = client.publish(topic, b"x", qos=qos, wait=False)
    ack = client.expect(T.PUBACK if qos == 1 else T.PUBREC, packet_id=packet_id)
    assert ack.reason in (0, R.NO_SUBSCRIBERS)


def test_qos_1_duplicate_is_a_new_publication_once_acknowledged(broker, version, topic):
    """[MQTT-4.3.2-5]: whatever DUP says."""
    subscriber, publisher = broker.connect(), broker.connect(version)
    subscriber.subscribe(topic, qos=1)
    publisher.publish(topic, b"1", qos=1, packet_id=7)
    publisher.publish(topic, b"2", qos=1, packet_id=7, dup=True)
    subscriber.expect_publish(topic, b"1", dup=False)
    subscriber.expect_publish(topic, b"2", dup=False)


@pytest.mark.mosquitto_differs("closes at a repeated identifier with another DUP")
def test_qos_2_duplicate_is_delivered_once(broker, version, topic):
    """[MQTT-4.3.3-10]: PUBREC again, but one delivery."""
    subscriber, publisher = broker.connect(), broker.connect(version)
    subscriber.subscribe(topic, qos=2)
    for dup in (False, True, True):
        publisher.send(publish_packet(topic, b"once", 2, 9, dup=dup, version=version))
        assert publisher.expect(T.PUBREC, packet_id=9).reason < 0x80
    publisher.ack(T.PUBREL, 9)
    publisher.expect(T.PUBCOMP, packet_id=9, reason=0)
    subscriber.expect_publish(topic, b"once", qos=2)
    # Released: the identifier is free for a new message.
    publisher.publish(topic, b"new", qos=2, packet_id=9)
    subscriber.expect_publish(topic, b"new", qos=2)
    settle(publisher, subscriber)


def test_qos_2_message_is_delivered_before_the_release(broker, version, topic):
    """Delivery need not wait for PUBREL; duplicates are told by the identifier."""
    subscriber, publisher = broker.connect(), broker.connect(version)
    subscriber.subscribe(topic, qos=0)
    publisher.send(publish_packet(topic, b"x", 2, 1, version=version))
    publisher.expect(T.PUBREC, packet_id=1)
    publisher.ack(T.PUBREL, 1)
    publisher.expect(T.PUBCOMP, packet_id=1)
    subscriber.expect_publish(topic, b"x")


def test_qos_1_and_2_identifiers_of_client_and_broker_are_separate(broker, version, topic):
    """Both sides may use the same number at the same time."""
    client = broker.connect(version)
    client.subscribe(topic, qos=2)
    client.publish(topic, b"a", qos=2, packet_id=1)
    got = client.expect(T.PUBLISH)
    client.publish(topic, b"b", qos=2, packet_id=got.packet_id)
    client.ack(T.PUBREC, got.packet_id)
    client.expect_ack(T.PUBREL, got.packet_id)
    client.ack(T.PUBCOMP, got.packet_id)
    client.expect_publish(topic, b"b")


@pytest.mark.mosquitto_differs("says success")
def test_pubrel_unknown(broker):
    client = broker.connect()
    client.ack(T.PUBREL, 77)
    client.expect(T.PUBCOMP, packet_id=77, reason=R.ID_NOT_FOUND)
    client.ping()


def test_pubrel_unknown_in_3(broker):
    """3.x has no reason codes: the flow just ends."""
    for version in (3, 4):
        client = broker.connect(version)
        client.ack(T.PUBREL, 77)
        client.expect(T.PUBCOMP, packet_id=77)


@pytest.mark.mosquitto_differs("closes")
def test_pubrec_unknown(broker):
    client = broker.connect()
    client.ack(T.PUBREC, 77)
    client.expect(T.PUBREL, packet_id=77, reason=R.ID_NOT_FOUND)
    client.ping()


@pytest.mark.mosquitto_differs("closes")
@pytest.mark.parametrize("kind", [T.PUBACK, T.PUBCOMP])
def test_acknowledgement_of_nothing(broker, version, kind):
    """Happens after a take-over or a lost connection: ignored."""
    client = broker.connect(version)
    client.ack(kind, 77)
    client.ping()


def test_acknowledgement_with_the_whole_form(broker, topic):
    """Reason code and properties may be there or not."""
    client = broker.connect()
    client.subscribe(topic, qos=1)
    for reason, props in ((None, None), (0, None), (0, []), (0, {"reason_string": "ok", "user": ("a", "b")})):
        client.publish(topic, b"x", qos=1)
        got = client.expect_publish(topic, ack=False)
        client.ack(T.PUBACK, got.packet_id, reason, props)
    client.ping()


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
def test_refused_message_counts_as_acknowledged(broker, topic, reason):
    """[MQTT-4.4.0-2]: PUBACK or PUBREC with 0x80 or more ends the flow; no PUBREL, no redelivery."""
    client = broker.persistent()
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for qos, kind in ((1, T.PUBACK), (2, T.PUBREC)):
        publisher.publish(topic, b"no", qos=qos)
        got = client.expect_publish(topic, b"no", qos=qos, ack=False)
        client.ack(kind, got.packet_id, reason)
    client.ping()
    client.drop()
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    settle(publisher, again)


@pytest.mark.mosquitto_differs("takes any reason")
@pytest.mark.parametrize("kind", [T.PUBACK, T.PUBREC, T.PUBREL, T.PUBCOMP])
def test_acknowledgement_with_an_unknown_reason(broker, topic, kind):
    """[MQTT-3.4.2-1] and its kin."""
    client = broker.connect()
    client.subscribe(topic, qos=2)
    client.publish(topic, b"x", qos=1 if kind == T.PUBACK else 2, wait=False, packet_id=1)
    got = client.expect_any()
    while got.kind != T.PUBLISH:
        got = client.expect_any()
    client.ack(kind, got.packet_id, 0x42)
    got = client.expect_any()
    while got.kind != T.DISCONNECT:
        got = client.expect_any()
    assert got.reason in (R.MALFORMED, R.PROTOCOL_ERROR)
    client.expect_closed()


@pytest.mark.mosquitto_differs("closes")
def test_wrong_kind_of_acknowledgement(broker, topic):
    """PUBACK for a QoS 2 message does not end its flow."""
    client = broker.connect()
    client.subscribe(topic, qos=2)
    client.publish(topic, b"x", qos=2)
    got = client.expect_publish(topic, b"x", qos=2, ack=False)
    client.ack(T.PUBACK, got.packet_id)
    client.send(ack_packet(T.PUBREC, got.packet_id))
    answer = client.expect_any()
    assert answer.kind in (T.PUBREL, T.DISCONNECT)


@pytest.mark.mosquitto_differs("takes it for a new message")
def test_qos_2_identifier_in_use_with_another_message(broker, topic):
    """Until PUBREL it is the same message, whatever it looks like; 0x91 is the other answer that the standard gives."""
    subscriber, publisher = broker.connect(), broker.connect()
    subscriber.subscribe(topic, qos=2)
    publisher.send(publish_packet(topic, b"first", 2, 5))
    publisher.expect(T.PUBREC, packet_id=5)
    publisher.send(publish_packet(topic, b"other", 2, 5))
    assert publisher.expect(T.PUBREC, packet_id=5).reason in (0, R.ID_IN_USE, R.NO_SUBSCRIBERS)
    publisher.ack(T.PUBREL, 5)
    publisher.expect(T.PUBCOMP, packet_id=5)
    subscriber.expect_publish(topic, b"first")
    settle(publisher, subscriber)


@pytest.mark.skerry_only
def test_qos_2_identifier_is_free_after_a_refusal(make_broker, topic):
    """[MQTT-4.3.3-9]: PUBREC with 0x80 or more ends the flow; the same identifier is a new message."""
    broker = make_broker(options={"limits": {"retained_messages": 1}, "sys": {"interval": "off"}})
    client = broker.connect()
    client.subscribe(topic + "/#", qos=2)
    client.publish(topic + "/0", b"fills the place", qos=1, retain=True)
    client.expect_publish(topic + "/0")
    refused = client.publish(topic + "/1", b"over", qos=2, packet_id=9, retain=True)
    assert refused.kind == T.PUBREC and refused.reason == R.QUOTA
    client.publish(topic + "/2", b"new", qos=2, packet_id=9)
    client.expect_publish(topic + "/2", b"new", qos=2)
    client.ping()


def test_topic_names_are_not_normalised(broker, version):
    """[MQTT-4.7.3-4]: case, empty levels, spaces and look-alike characters all count."""
    base = unique()
    names = [f"{base}/A", f"{base}/a", f"{base}/a/", f"{base}//a", f"/{base}/a", f"{base}/ a", f"{base}/å", f"{base}/å"]
    client = broker.connect(version)
    for name in names:
        client.subscribe(name)
    for name in names:
        client.publish(name, name)
    for name in names:
        client.expect_publish(name, name)
    client.ping()


def test_longest_topic(broker, version):
    """65,535 bytes, the most that a string can have."""
    name = unique()
    name += "/" + "x" * (65535 - len(name) - 1)
    client = broker.connect(version)
    client.subscribe(name, qos=1)
    client.publish(name, b"far", qos=1)
    client.expect_publish(name, b"far")


@pytest.mark.mosquitto_differs("takes no more than 200 levels")
def test_deep_levels(broker, version):
    """As many levels as the limit allows are matched and delivered; more are refused, and the broker stays up."""
    base = unique()
    client = broker.connect(version)
    name = base + "/x" * 100
    client.subscribe(base + "/#", qos=1)
    client.subscribe(base + "/+" * 100, qos=1)
    client.publish(name, b"deep", qos=1)
    client.expect_publish(name, b"deep")
    settle(client, client)


@pytest.mark.mosquitto_differs("closes")
def test_too_many_levels(broker):
    name = "/" * 65535
    client = broker.connect()
    packet_id = client.publish(name, b"x", qos=1, wait=False)
    got = client.expect_any()
    if got.kind == T.PUBACK:
        assert got.packet_id == packet_id and (got.reason in (0, R.NO_SUBSCRIBERS) or got.reason >= 0x80)
        client.ping()
    else:
        assert got.kind == T.DISCONNECT and got.reason in (R.TOPIC_INVALID, R.QUOTA)
    broker.alive()


def test_dup_is_not_passed_on(broker, version, topic):
    """[MQTT-3.3.1-3]"""
    subscriber, publisher = broker.connect(version), broker.connect(version)
    subscriber.subscribe(topic, qos=2)
    for qos in (1, 2):
        publisher.publish(topic, b"x", qos=qos, dup=True)
        subscriber.expect_publish(topic, b"x", dup=False)


def test_one_publisher_many_subscribers(broker, version, topic):
    subscribers = [broker.connect(version) for _ in range(20)]
    for n, subscriber in enumerate(subscribers):
        subscriber.subscribe(topic, qos=n % 3)
    publisher = broker.connect(version)
    for n in range(10):
        publisher.publish(topic, str(n), qos=2)
    for m, subscriber in enumerate(subscribers):
        for n in range(10):
            subscriber.expect_publish(topic, str(n), qos=m % 3)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order_of_each_publisher(broker, version, topic, qos):
    """[MQTT-4.6.0-5]: messages of one publisher on one topic arrive in order, whoever else publishes."""
    subscriber = broker.connect(version)
    subscriber.subscribe(topic, qos=qos)
    publishers = [broker.connect(version) for _ in range(4)]
    for n in range(25):
        for m, publisher in enumerate(publishers):
            publisher.publish(topic, f"{m} {n}", qos=qos)
    last = [-1] * 4
    for _ in range(100):
        m, n = map(int, subscriber.expect_publish(topic, qos=qos).payload.split())
        assert n == last[m] + 1
        last[m] = n


def test_acknowledgements_come_in_order(broker, version, topic):
    """[MQTT-4.6.0-2..4] bind clients; the broker keeps to them as well."""
    publisher = broker.connect(version)
    publisher.send(*[publish_packet(topic, b"x", 1, n, version=version) for n in range(1, 31)])
    for n in range(1, 31):
        publisher.expect(T.PUBACK, packet_id=n)
    publisher.send(*[publish_packet(topic, b"x", 2, n, version=version) for n in range(1, 31)])
    for n in range(1, 31):
        publisher.expect(T.PUBREC, packet_id=n)
    publisher.send(*[ack_packet(T.PUBREL, n, version=version) for n in range(1, 31)])
    for n in range(1, 31):
        publisher.expect(T.PUBCOMP, packet_id=n)


def test_pipelined_packets_of_all_kinds(broker, version, topic):
    """Messages keep their order among themselves, and so do answers; which of the two goes first is left open."""
    client = broker.connect(version)
    client.send(
        subscribe_packet(1, [(topic, 2)], version=version),
        publish_packet(topic, b"a", version=version),
        packet(T.PINGREQ, 0, b""),
        publish_packet(topic, b"b", version=version),
    )
    got = [client.expect_any() for _ in range(4)]
    assert [g.payload for g in got if g.kind == T.PUBLISH] == [b"a", b"b"]
    assert [g.kind for g in got if g.kind != T.PUBLISH] == [T.SUBACK, T.PINGRESP]


def test_publish_of_qos_0_has_no_packet_identifier(broker, version, topic):
    """[MQTT-2.2.1-2]: what stands where the identifier would be is payload (or, in 5.0, the property length)."""
    client = broker.connect(version)
    client.subscribe(topic)
    body = text(topic) + (b"\0" if version == 5 else b"") + u16(1) + b"rest"
    client.send(packet(T.PUBLISH, 0, body))
    client.expect_publish(topic, b"\0\1rest", qos=0)
