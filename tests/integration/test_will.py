"""Wills: [MQTT-3.1.2-7] to [MQTT-3.1.2-17], [MQTT-3.1.3-9], [MQTT-3.14.4-3]."""

import time

import pytest
from broker import settle
from wire import R, T, disconnect_packet, packet, unique

pytestmark = pytest.mark.threads


@pytest.fixture
def watcher(broker, topic):
    client = broker.connect()
    client.subscribe((topic + "/#", 2 | 8))
    return client


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_lost_connection_sends_the_will(broker, watcher, version, topic, qos, retain):
    name = f"{topic}/{version}"
    broker.connect(version, will={"topic": name, "payload": b"gone", "qos": qos, "retain": retain}).drop()
    watcher.expect_publish(name, b"gone", qos=qos, retain=retain)
    late = broker.connect()
    late.subscribe(name)
    if retain:
        late.expect_publish(name, b"gone", retain=True)
        late.publish(name, b"", retain=True)
        late.expect_publish(name, b"")
    late.ping()


def test_no_will_after_disconnect(broker, watcher, version, topic):
    broker.connect(version, will={"topic": topic + "/w"}).disconnect()
    settle(broker.connect(), watcher)


def test_disconnect_with_will(broker, watcher, topic):
    broker.connect(will={"topic": topic + "/w", "payload": b"asked for"}).disconnect(R.WITH_WILL)
    watcher.expect_publish(topic + "/w", b"asked for")


@pytest.mark.mosquitto_differs("discards the will on any DISCONNECT but 0x04")
@pytest.mark.parametrize("reason", [0x80, 0x81, 0x93, 0x98])
def test_disconnect_with_an_error_sends_the_will(broker, watcher, topic, reason):
    broker.connect(will={"topic": topic + "/w", "payload": b"x"}).disconnect(reason)
    watcher.expect_publish(topic + "/w", b"x")


def test_protocol_error_sends_the_will(broker, watcher, version, topic):
    client = broker.connect(version, will={"topic": topic + "/w", "payload": b"error"})
    client.send(packet(0, 0, b""))
    client.expect_disconnect(R.MALFORMED)
    watcher.expect_publish(topic + "/w", b"error")


def test_take_over_sends_the_will(broker, watcher, version, topic):
    first = broker.connect(version, will={"topic": topic + "/w", "payload": b"first"})
    broker.client(version, first.client_id).connect()
    watcher.expect_publish(topic + "/w", b"first")


def test_no_will_without_the_flag(broker, watcher, version):
    broker.connect(version).drop()
    settle(broker.connect(), watcher)


def test_will_is_sent_once(broker, watcher, version, topic):
    """Once sent, or discarded by DISCONNECT, it is gone from the session too. [MQTT-3.1.2-10]"""
    client = broker.persistent(version, will={"topic": topic + "/w", "payload": b"once"})
    client.drop()
    watcher.expect_publish(topic + "/w", b"once")
    again = broker.persistent(version, client.client_id)
    again.drop()
    broker.persistent(version, client.client_id).disconnect()
    settle(broker.connect(), watcher)


def test_a_new_connection_brings_its_own_will(broker, watcher, version, topic):
    first = broker.persistent(version, will={"topic": topic + "/w", "payload": b"one"})
    first.disconnect()
    broker.persistent(version, first.client_id, will={"topic": topic + "/w", "payload": b"two"}).drop()
    watcher.expect_publish(topic + "/w", b"two")
    settle(broker.connect(), watcher)


def test_empty_will_with_retain_clears(broker, watcher, version, topic):
    name = topic + "/state"
    broker.connect().publish(name, b"online", qos=1, retain=True)
    watcher.expect_publish(name, b"online")
    broker.connect(version, will={"topic": name, "payload": b"", "retain": True}).drop()
    watcher.expect_publish(name, b"")
    late = broker.connect()
    late.subscribe(name)
    late.ping()


def test_will_properties_are_forwarded(broker, watcher, topic):
    props = [
        ("payload_format", 1),
        ("content_type", "text/plain"),
        ("response_topic", "back"),
        ("correlation_data", b"\0\1\2"),
        ("user", ("a", "1")),
        ("user", ("b", "2")),
        ("user", ("a", "1")),
        ("will_delay", 0),
    ]
    broker.connect(will={"topic": topic + "/w", "payload": b"x", "props": props}).drop()
    got = watcher.expect_publish(topic + "/w", b"x")
    assert got.all("user") == [("a", "1"), ("b", "2"), ("a", "1")]
    for name, value in props[:4]:
        assert got.prop(name) == value
    assert got.prop("will_delay") is None


def test_will_message_expiry(broker, watcher, topic):
    broker.connect(will={"topic": topic + "/w", "payload": b"x", "props": {"message_expiry": 77}}).drop()
    assert watcher.expect_publish(topic + "/w").prop("message_expiry") in range(60, 78)


def test_will_delay(broker, watcher, topic):
    started = time.monotonic()
    broker.connect(
        props={"session_expiry": 60}, will={"topic": topic + "/w", "payload": b"late", "props": {"will_delay": 1}}
    ).drop()
    watcher.expect_publish(topic + "/w", b"late")
    assert time.monotonic() - started >= 0.95


def test_will_delays_fire_in_order_of_their_absolute_time(broker, watcher, topic):
    def leave(name, delay):
        will = {"topic": f"{topic}/{name}", "props": {"will_delay": delay}}
        broker.connect(props={"session_expiry": 60}, will=will).drop()

    leave("third", 5)
    leave("second", 3)
    leave("first", 1)
    for name in ("first", "second", "third"):
        watcher.expect_publish(f"{topic}/{name}")


def test_reconnecting_in_time_cancels_the_delayed_will(broker, watcher, topic):
    will = {"topic": topic + "/w", "payload": b"never", "props": {"will_delay": 3}}
    client = broker.connect(props={"session_expiry": 60}, will=will)
    client.drop()
    again = broker.client(5, client.client_id).connect(
        clean=False, session_present=True, props={"session_expiry": 60}
    )
    # A second will, due later than the first, comes alone.
    other = {"topic": topic + "/other", "payload": b"due later", "props": {"will_delay": 3}}
    broker.connect(props={"session_expiry": 60}, will=other).drop()
    watcher.expect_publish(topic + "/other", b"due later")
    again.disconnect()
    settle(broker.connect(), watcher)


@pytest.mark.mosquitto_differs("does not send delayed wills at the end of the session")
def test_reconnecting_with_clean_start_ends_the_session_and_sends_the_will_at_once(broker, watcher, topic):
    will = {"topic": topic + "/w", "payload": b"session over", "props": {"will_delay": 3600}}
    client = broker.connect(props={"session_expiry": 7200}, will=will)
    client.drop()
    broker.client(5, client.client_id).connect(clean=True, session_present=False)
    watcher.expect_publish(topic + "/w", b"session over")


@pytest.mark.mosquitto_differs("does not send delayed wills at the end of the session")
def test_delayed_will_is_sent_at_the_sessions_end(broker, watcher, topic):
    """No expiry interval: the session ends with the connection, whatever the delay says."""
    will = {"topic": topic + "/w", "payload": b"at once", "props": {"will_delay": 3600}}
    broker.connect(will=will).drop()
    watcher.expect_publish(topic + "/w", b"at once")


def test_delayed_will_is_sent_when_the_session_expires_first(broker, watcher, topic):
    will = {"topic": topic + "/w", "payload": b"expired", "props": {"will_delay": 3600}}
    broker.connect(props={"session_expiry": 1}, will=will).drop()
    watcher.expect_publish(topic + "/w", b"expired")


def test_disconnect_with_will_and_delay(broker, watcher, topic):
    will = {"topic": topic + "/w", "payload": b"x", "props": {"will_delay": 1}}
    client = broker.connect(props={"session_expiry": 60}, will=will)
    started = time.monotonic()
    client.disconnect(R.WITH_WILL)
    watcher.expect_publish(topic + "/w", b"x")
    assert time.monotonic() - started >= 0.95


def test_will_goes_to_shared_and_persistent_subscribers(broker, topic):
    away = broker.persistent()
    away.subscribe(topic, qos=1)
    away.drop()
    shared = broker.connect()
    shared.subscribe(f"$share/{unique('g')}/{topic}", qos=1)
    broker.connect(will={"topic": topic, "payload": b"x", "qos": 1}).drop()
    shared.expect_publish(topic, b"x")
    broker.client(5, away.client_id).connect(clean=False).expect_publish(topic, b"x")


def test_no_local_applies_to_wills(broker, topic):
    """The will is the publishing client's own message."""
    client = broker.persistent(will={"topic": topic, "payload": b"mine", "qos": 1})
    client.subscribe((topic, 1 | 4))
    client.drop()
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    settle(broker.connect(), again)


def test_a_will_over_the_client_s_own_session(broker, version, topic):
    """Subscribed to one's own will: it waits in the session."""
    client = broker.persistent(version, will={"topic": topic, "payload": b"to myself", "qos": 1})
    client.subscribe(topic, qos=1)
    client.drop()
    watch = broker.connect()
    watch.ping()
    again = broker.client(version, client.client_id)
    again.connect(clean=False, session_present=True)
    again.expect_publish(topic, b"to myself")


def test_disconnect_flags(broker, watcher, version, topic):
    """[MQTT-3.14.1-1]: a malformed DISCONNECT is none: the will is sent."""
    client = broker.connect(version, will={"topic": topic + "/w", "payload": b"x"})
    client.send(disconnect_packet(version=version, flags=1))
    if version == 3:
        # 3.1 does not use these bits of DISCONNECT: ignored.
        client.expect_closed()
        return
    client.expect_disconnect(R.MALFORMED)
    watcher.expect_publish(topic + "/w", b"x")


def test_will_larger_than_the_watcher_takes(broker, topic):
    small = broker.connect(props={"maximum_packet_size": 100})
    small.subscribe(topic)
    broker.connect(will={"topic": topic, "payload": b"x" * 200}).drop()
    big = broker.connect(will={"topic": topic, "payload": b"fits"})
    big.drop()
    small.expect(T.PUBLISH, payload=b"fits")
