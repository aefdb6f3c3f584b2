"""What is sent again on a new connection, and in which order: [MQTT-4.4.0-1], [MQTT-4.6.0]."""

import pytest
from broker import settle
from wire import T, ack_packet, publish_packet

pytestmark = pytest.mark.threads


def test_unacknowledged_qos_1_is_sent_again_with_dup(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    publisher.publish(topic, b"x", qos=1)
    first = client.expect_publish(topic, b"x", dup=False, ack=False)
    client.drop()
    client = broker.resume(client)
    client.expect_publish(topic, b"x", dup=True, qos=1, packet_id=first.packet_id)
    client.ping()
    client.drop()
    settle(publisher, broker.resume(client))


def test_qos_2_without_pubrec_is_sent_again(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    broker.connect().publish(topic, b"x", qos=2)
    first = client.expect_publish(topic, b"x", dup=False, ack=False)
    client.drop()
    broker.resume(client).expect_publish(topic, b"x", dup=True, qos=2, packet_id=first.packet_id)


def test_qos_2_after_pubrec_goes_on_with_pubrel(broker, version, topic):
    """[MQTT-4.3.3-6]: the PUBLISH is never sent again."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    publisher.publish(topic, b"x", qos=2)
    first = client.expect_publish(topic, b"x", ack=False)
    client.ack(T.PUBREC, first.packet_id)
    client.expect(T.PUBREL, packet_id=first.packet_id)
    for _ in range(3):
        client.drop()
        client = broker.resume(client)
        client.expect(T.PUBREL, packet_id=first.packet_id)
    client.ack(T.PUBCOMP, first.packet_id)
    client.ping()
    client.drop()
    settle(publisher, broker.resume(client))


def test_qos_2_received_is_remembered(broker, version, topic):
    """Sent before the break and again after it: one delivery."""
    subscriber = broker.connect()
    subscriber.subscribe(topic, qos=2)
    client = broker.persistent(version)
    client.send(publish_packet(topic, b"once", 2, 11, version=version))
    client.expect(T.PUBREC, packet_id=11)
    client.drop()
    client = broker.resume(client)
    client.send(publish_packet(topic, b"once", 2, 11, dup=True, version=version))
    assert client.expect(T.PUBREC, packet_id=11).reason < 0x80
    client.drop()
    client = broker.resume(client)
    client.ack(T.PUBREL, 11)
    client.expect(T.PUBCOMP, packet_id=11, reason=0)
    subscriber.expect_publish(topic, b"once")
    client.publish(topic, b"next", qos=2, packet_id=11)
    subscriber.expect_publish(topic, b"next")
    settle(client, subscriber)


@pytest.mark.mosquitto_differs("delivers at PUBREL")
def test_qos_2_received_is_forgotten_with_the_session(broker, version, topic):
    subscriber = broker.connect()
    subscriber.subscribe(topic, qos=2)
    client = broker.persistent(version)
    client.send(publish_packet(topic, b"one", 2, 11, version=version))
    client.expect(T.PUBREC, packet_id=11)
    client.drop()
    fresh = broker.client(version, client.client_id).connect(clean=True, session_present=False)
    fresh.publish(topic, b"two", qos=2, packet_id=11)
    subscriber.expect_publish(topic, b"one")
    subscriber.expect_publish(topic, b"two")


def test_order_of_redelivery(broker, version, topic):
    """First what was in flight, in its order and with DUP, then what waited, without."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for n in range(6):
        publisher.publish(topic, str(n), qos=1 + n % 2)
    sent = [client.expect_publish(topic, str(n), ack=False, dup=False) for n in range(6)]
    client.drop()
    for n in range(6, 10):
        publisher.publish(topic, str(n), qos=1 + n % 2)
    client = broker.resume(client)
    for n in range(6):
        client.expect_publish(topic, str(n), ack=False, dup=True, packet_id=sent[n].packet_id)
    for n in range(6, 10):
        client.expect_publish(topic, str(n), ack=False, dup=False)


def test_order_of_redelivery_with_releases(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for n in range(4):
        publisher.publish(topic, str(n), qos=2)
    sent = [client.expect_publish(topic, str(n), ack=False) for n in range(4)]
    for n in (0, 2):
        client.ack(T.PUBREC, sent[n].packet_id)
        client.expect(T.PUBREL, packet_id=sent[n].packet_id)
    client.drop()
    client = broker.resume(client)
    got = [client.receive() for _ in range(4)]
    assert [g.packet_id for g in got if g.kind == T.PUBLISH] == [sent[1].packet_id, sent[3].packet_id]
    assert [g.packet_id for g in got if g.kind == T.PUBREL] == [sent[0].packet_id, sent[2].packet_id]
    assert all(g.dup for g in got if g.kind == T.PUBLISH)


def test_nothing_is_sent_again_within_a_connection(broker, version, topic):
    """[MQTT-4.4.0-1]: only a reconnect makes it."""
    client = broker.persistent(version, keep_alive=1)
    client.subscribe(topic, qos=1)
    broker.connect().publish(topic, b"x", qos=1)
    client.expect_publish(topic, b"x", ack=False)
    client.ping()
    client.ping()


def test_acknowledged_messages_are_gone(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for n in range(10):
        publisher.publish(topic, str(n), qos=1 + n % 2)
    for n in range(10):
        client.expect_publish(topic, str(n))
    client.ping()
    client.drop()
    settle(publisher, broker.resume(client))


def test_acknowledgements_out_of_order(broker, version, topic):
    """A client that acknowledges in another order is served all the same; the rest is sent again."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for n in range(5):
        publisher.publish(topic, str(n), qos=1)
    sent = [client.expect_publish(topic, str(n), ack=False) for n in range(5)]
    for n in (3, 1):
        client.ack(T.PUBACK, sent[n].packet_id)
    client.ping()
    client.drop()
    client = broker.resume(client)
    for n in (0, 2, 4):
        client.expect_publish(topic, str(n), dup=True, packet_id=sent[n].packet_id)
    settle(publisher, client)


def test_packet_identifiers_are_not_reused_while_in_use(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    publisher.publish(topic, b"held", qos=1)
    held = client.expect_publish(topic, b"held", ack=False)
    seen = set()
    for n in range(100):
        publisher.publish(topic, str(n), qos=1)
        got = client.expect_publish(topic, str(n))
        assert got.packet_id != held.packet_id
        seen.add(got.packet_id)
    client.drop()
    broker.resume(client).expect_publish(topic, b"held", packet_id=held.packet_id, dup=True)


@pytest.mark.mosquitto_differs("exceeds it")
def test_redelivery_to_a_client_with_a_smaller_receive_maximum(broker, topic):
    """The new connection's Receive Maximum holds for what is sent again, too."""
    client = broker.persistent()
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for n in range(6):
        publisher.publish(topic, str(n), qos=1)
    for n in range(6):
        client.expect_publish(topic, str(n), ack=False)
    client.drop()
    client = broker.resume(client, props=[("receive_maximum", 2)])
    for n in range(0, 6, 2):
        one = client.expect_publish(topic, str(n), dup=True, ack=False)
        two = client.expect_publish(topic, str(n + 1), dup=True, ack=False)
        client.ping()
        client.send(ack_packet(T.PUBACK, one.packet_id), ack_packet(T.PUBACK, two.packet_id))
    client.ping()


def test_resumed_by_another_version(broker, topic):
    """A message in flight to a 5.0 client goes on to the same client speaking 3.1.1."""
    client = broker.persistent(5)
    client.subscribe(topic, qos=1)
    broker.connect().publish(topic, b"x", qos=1, props={"content_type": "text/plain", "user": ("a", "b")})
    first = client.expect_publish(topic, b"x", ack=False)
    client.drop()
    old = broker.client(4, client.client_id).connect(clean=False, session_present=True)
    old.expect_publish(topic, b"x", dup=True, packet_id=first.packet_id)
