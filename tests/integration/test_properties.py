"""Properties of PUBLISH that pass through the broker, and those that must not be there."""

import pytest
from wire import R, publish_packet, unique

pytestmark = pytest.mark.threads

ALL = [
    ("payload_format", 1),
    ("content_type", "application/json"),
    ("response_topic", "reply/here"),
    ("correlation_data", bytes(range(256))),
    ("user", ("first", "1")),
    ("user", ("second", "2")),
    ("user", ("first", "again")),
    ("user", ("", "")),
    ("user", ("ключ", "значение")),
]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_pass_unaltered(broker, topic, qos):
    subscriber, publisher = broker.connect(), broker.connect()
    subscriber.subscribe(topic, qos=2)
    publisher.publish(topic, '{"t": 1}', qos=qos, props=ALL)
    got = subscriber.expect_publish(topic, '{"t": 1}')
    assert sorted(map(str, got.props)) == sorted(map(str, ALL))
    assert got.all("user") == [value for name, value in ALL if name == "user"]


def test_properties_wait_with_their_message(broker, topic):
    client = broker.persistent()
    client.subscribe(topic, qos=1)
    client.drop()
    broker.connect().publish(topic, b"x", qos=1, props=ALL)
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    got = again.expect_publish(topic, b"x")
    assert sorted(map(str, got.props)) == sorted(map(str, ALL))


def test_properties_do_not_disturb_3_clients(broker, topic):
    for version in (3, 4):
        subscriber = broker.connect(version)
        subscriber.subscribe(topic, qos=1)
        broker.connect().publish(topic, b"payload", qos=1, props=ALL)
        subscriber.expect_publish(topic, b"payload", qos=1)
        subscriber.ping()


@pytest.mark.parametrize("value", [0, 1])
def test_payload_format_indicator(broker, topic, value):
    client = broker.connect()
    client.subscribe(topic)
    client.publish(topic, b"\xff" if value == 0 else b"text", props={"payload_format": value})
    assert client.expect_publish(topic).prop("payload_format") == value


@pytest.mark.mosquitto_differs("does not look at the value")
def test_payload_format_indicator_out_of_range(broker, topic):
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props={"payload_format": 2}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.MALFORMED)


@pytest.mark.mosquitto_differs("does not look at the response topic")
@pytest.mark.parametrize("name", ["a/#", "+", "a/+/b"])
def test_response_topic_has_no_wildcards(broker, topic, name):
    """[MQTT-3.3.2-14]"""
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props={"response_topic": name}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.TOPIC_INVALID, R.MALFORMED)


@pytest.mark.parametrize("name", ["response_topic", "content_type", "user"])
def test_strings_of_properties_must_be_utf8(broker, topic, name):
    """[MQTT-3.3.2-13], [MQTT-3.3.2-19], [MQTT-1.5.7-1]"""
    for bad in (b"\xc0\x80", b"a\x00", b"\xed\xa0\x80"):
        for value in ((bad, b"x"), (b"x", bad)) if name == "user" else (bad,):
            client = broker.connect()
            client.send(publish_packet(topic, b"x", props=[(name, value)]))
            client.expect_disconnect(R.MALFORMED)


def test_request_and_response(broker, topic):
    """The pattern that these properties are for."""
    asking, answering = broker.connect(), broker.connect()
    reply_to = unique("reply/")
    answering.subscribe(topic, qos=1)
    asking.subscribe(reply_to, qos=1)
    asking.publish(topic, b"21*2", qos=1, props={"response_topic": reply_to, "correlation_data": b"\x2a"})
    question = answering.expect_publish(topic, b"21*2")
    answering.publish(
        question.prop("response_topic"), b"42", qos=1, props={"correlation_data": question.prop("correlation_data")}
    )
    assert asking.expect_publish(reply_to, b"42").prop("correlation_data") == b"\x2a"


@pytest.mark.parametrize(
    "props",
    [
        {"session_expiry": 1},
        {"reason_string": "x"},
        {"receive_maximum": 5},
        {"will_delay": 1},
        {"server_keep_alive": 1},
        {"assigned_client_id": "x"},
        {"maximum_qos": 1},
    ],
    ids=lambda p: next(iter(p)),
)
def test_properties_that_publish_does_not_have(broker, topic, props):
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props=props))
    client.expect_disconnect(R.MALFORMED, R.PROTOCOL_ERROR)


@pytest.mark.mosquitto_differs("takes it")
def test_subscription_identifier_from_a_client(broker, topic):
    """[MQTT-3.3.4-6]"""
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props={"subscription_id": 1}))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.MALFORMED)


@pytest.mark.parametrize(
    "props",
    [
        [("payload_format", 1), ("payload_format", 1)],
        [("message_expiry", 1), ("message_expiry", 1)],
        [("content_type", "a"), ("content_type", "a")],
        [("response_topic", "a"), ("response_topic", "a")],
        [("correlation_data", b"a"), ("correlation_data", b"a")],
    ],
    ids=lambda p: p[0][0],
)
def test_properties_that_come_once(broker, topic, props):
    client = broker.connect()
    client.send(publish_packet(topic, b"x", props=props))
    client.expect_disconnect(R.PROTOCOL_ERROR)
