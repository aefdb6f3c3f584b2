"""Message expiry: [MQTT-3.3.2-5], [MQTT-3.3.2-6], [MQTT-4.3.3-7], [MQTT-4.3.3-13]."""

import pytest
from broker import elapse, settle
from wire import T, publish_packet

pytestmark = pytest.mark.threads


def away(broker, topic, version=5):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    client.drop()
    return client


def back(broker, client):
    return broker.client(client.version, client.client_id).connect(clean=False, session_present=True)


def test_live_message_keeps_its_interval(broker, topic):
    client = broker.connect()
    client.subscribe(topic)
    client.publish(topic, b"x", props={"message_expiry": 100})
    assert client.expect_publish(topic, b"x").prop("message_expiry") in range(80, 101)
    client.publish(topic, b"y")
    assert client.expect_publish(topic, b"y").prop("message_expiry") is None


def test_waiting_messages_expire_and_count_down(broker, topic):
    client, publisher = away(broker, topic), broker.connect()
    publisher.publish(topic, b"short", qos=1, props={"message_expiry": 1})
    publisher.publish(topic, b"long", qos=1, props={"message_expiry": 100})
    publisher.publish(topic, b"ever", qos=1)
    elapse(2.1)
    client = back(broker, client)
    got = client.expect_publish(topic, b"long")
    assert 60 <= got.prop("message_expiry") <= 98
    assert client.expect_publish(topic, b"ever").prop("message_expiry") is None
    settle(publisher, client)


@pytest.mark.mosquitto_differs("counts whole seconds")
def test_expiry_counts_for_3_subscribers_too(broker, topic):
    """They are not told, but what has expired is not sent to them."""
    client, publisher = away(broker, topic, 4), broker.connect()
    publisher.publish(topic, b"short", qos=1, props={"message_expiry": 1})
    publisher.publish(topic, b"ever", qos=1)
    elapse(1.6)
    client = back(broker, client)
    client.expect_publish(topic, b"ever")
    settle(publisher, client)


@pytest.mark.mosquitto_differs("loses the place")
def test_messages_behind_a_full_window_expire(broker, topic):
    client, publisher = broker.connect(props={"receive_maximum": 1}), broker.connect()
    client.subscribe(topic, qos=1)
    publisher.publish(topic, b"first", qos=1)
    publisher.publish(topic, b"expires", qos=1, props={"message_expiry": 1})
    publisher.publish(topic, b"last", qos=1)
    held = client.expect_publish(topic, b"first", ack=False)
    elapse(1.6)
    client.ack(T.PUBACK, held.packet_id)
    client.expect_publish(topic, b"last")
    settle(publisher, client)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.mosquitto_differs("drops what is in flight")
def test_what_has_been_sent_does_not_expire(broker, topic, qos):
    """[MQTT-4.3.3-7]: a message whose delivery has begun is sent again, expired or not."""
    client, publisher = broker.persistent(), broker.connect()
    client.subscribe(topic, qos=2)
    publisher.publish(topic, b"begun", qos=qos, props={"message_expiry": 1})
    held = client.expect_publish(topic, b"begun", ack=False)
    client.drop()
    elapse(1.6)
    back(broker, client).expect_publish(topic, b"begun", dup=True, packet_id=held.packet_id)


def test_flow_completes_after_expiry(broker, topic):
    """[MQTT-4.3.3-13]: the exchange of a received QoS 2 message goes on."""
    client = broker.connect()
    client.send(publish_packet(topic, b"x", 2, 1, props={"message_expiry": 1}))
    client.expect(T.PUBREC, packet_id=1)
    elapse(1.2)
    client.ack(T.PUBREL, 1)
    client.expect(T.PUBCOMP, packet_id=1, reason=0)


@pytest.mark.mosquitto_differs("takes 0 for no expiry")
def test_zero_expires_at_once_for_those_away(broker, topic):
    client, publisher = away(broker, topic), broker.connect()
    publisher.publish(topic, b"gone", qos=1, props={"message_expiry": 0})
    publisher.publish(topic, b"kept", qos=1)
    elapse(0.1)
    client = back(broker, client)
    client.expect_publish(topic, b"kept")
    settle(publisher, client)


def test_longest_interval(broker, topic):
    client, publisher = away(broker, topic), broker.connect()
    publisher.publish(topic, b"x", qos=1, props={"message_expiry": 0xFFFFFFFF})
    client = back(broker, client)
    assert client.expect_publish(topic, b"x").prop("message_expiry") >= 0xFFFFFFFF - 5
