"""Sessions: Clean Start, Session Present, expiry, take-over, DISCONNECT."""

import pytest
from broker import settle
from wire import R, disconnect_packet, publish_packet, unique

pytestmark = pytest.mark.threads


def test_session_is_resumed(broker, version, topic):
    client = broker.persistent(version, session_present=False)
    client.subscribe(topic, qos=1)
    client.disconnect()
    broker.connect().publish(topic, b"while away", qos=1)
    again = broker.resume(client)
    again.expect_publish(topic, b"while away", qos=1, dup=False)


def test_session_survives_a_lost_connection(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    client.drop()
    broker.connect().publish(topic, b"while away", qos=2)
    broker.resume(client).expect_publish(topic, b"while away", qos=2)


def test_qos_0_is_not_queued_for_the_absent(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = broker.connect()
    publisher.publish(topic, b"lost")
    publisher.publish(topic, b"kept", qos=1)
    again = broker.resume(client)
    again.expect_publish(topic, b"kept", qos=1)
    settle(publisher, again)


def test_clean_start_discards_the_session(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = broker.connect()
    publisher.publish(topic, b"old", qos=1)
    again = broker.resume(client, session_present=False, clean=True)
    publisher.publish(topic, b"new", qos=1)
    settle(publisher, again)
    again.disconnect()


def test_clean_session_of_3_ends_with_the_connection(broker, topic):
    for version in (3, 4):
        client = broker.connect(version)
        client.subscribe(topic, qos=1)
        client.disconnect()
        publisher = broker.connect()
        publisher.publish(topic, b"nobody's", qos=1)
        again = broker.resume(client, session_present=False)
        publisher.publish(topic, b"nobody's", qos=1)
        settle(publisher, again)


def test_no_expiry_interval_means_the_session_ends_with_the_connection(broker, topic):
    client = broker.connect(clean=False)
    client.subscribe(topic, qos=1)
    client.drop()
    watch_end_of(broker, client)
    broker.resume(client, session_present=False)


def watch_end_of(broker, client):
    """Connects once as the client and away again, which is ordered behind the end of its connection."""
    broker.client(client.version, client.client_id).connect(clean=False).disconnect()


def test_session_ends_when_its_interval_has_passed(broker, topic):
    """The will, delayed for longer, is sent at the session's end: that tells when it is over."""
    watcher = broker.connect()
    watcher.subscribe(topic)
    client = broker.connect(
        props={"session_expiry": 1}, will={"topic": topic, "payload": b"over", "props": {"will_delay": 30}}
    )
    client.drop()
    watcher.expect_publish(topic, b"over")
    broker.resume(client, session_present=False)


def test_expiry_counts_from_the_end_of_the_connection(broker):
    """Reconnecting in time starts the interval anew."""
    client = broker.connect(props={"session_expiry": 60})
    for _ in range(3):
        client.drop()
        client = broker.resume(client, expiry_s=60)


def test_interval_can_change_with_a_new_connection(broker):
    client = broker.persistent()
    client.drop()
    again = broker.resume(client, expiry_s=0)
    again.disconnect()
    broker.resume(client, session_present=False)


@pytest.mark.parametrize("reason", [None, 0, R.WITH_WILL])
def test_disconnect_can_shorten_the_interval(broker, reason):
    client = broker.persistent()
    client.disconnect(reason or 0, {"session_expiry": 0})
    broker.resume(client, session_present=False)


def test_disconnect_can_lengthen_the_interval(broker):
    client = broker.connect(props={"session_expiry": 1})
    client.disconnect(0, {"session_expiry": 3600})
    broker.resume(client, session_present=True)


def test_disconnect_cannot_make_an_interval_out_of_zero(broker):
    client = broker.connect()
    client.send(disconnect_packet(0, {"session_expiry": 10}))
    client.expect_disconnect(R.PROTOCOL_ERROR)
    broker.resume(client, session_present=False)


def test_disconnect_in_3_has_no_body(broker):
    client = broker.connect(4)
    client.send(b"\xe0\x01\x00")
    client.expect_closed()


def test_take_over(broker, version):
    first = broker.connect(version)
    second = broker.client(version, first.client_id).connect()
    first.expect_disconnect(R.TAKEN_OVER)
    second.ping()


def test_take_over_keeps_the_session(broker, version, topic):
    first = broker.persistent(version)
    first.subscribe(topic, qos=1)
    second = broker.resume(first)
    first.expect_disconnect(R.TAKEN_OVER)
    broker.connect().publish(topic, b"x", qos=1)
    second.expect_publish(topic, b"x", qos=1)


def test_take_over_by_another_version(broker, topic):
    first = broker.persistent(5)
    first.subscribe(topic, qos=1)
    second = broker.client(4, first.client_id).connect(clean=False, session_present=True)
    first.expect_disconnect(R.TAKEN_OVER)
    publisher = broker.connect()
    publisher.publish(topic, b"to 3.1.1", qos=1)
    second.expect_publish(topic, b"to 3.1.1", qos=1)
    third = broker.client(5, first.client_id).connect(clean=False, session_present=True)
    second.expect_closed()
    publisher.publish(topic, b"to 5", qos=1)
    third.expect_publish(topic, b"to 5", qos=1)


def test_take_over_with_clean_start(broker, topic):
    first = broker.persistent()
    first.subscribe(topic)
    second = broker.client(5, first.client_id).connect(clean=True, session_present=False)
    first.expect_disconnect(R.TAKEN_OVER)
    publisher = broker.connect()
    publisher.publish(topic, b"nobody's")
    settle(publisher, second)


def test_take_over_in_a_row(broker):
    """Twenty connections for one client identifier: each new one wins, and only the last is left."""
    name = unique()
    clients = [broker.client(5, name).connect() for _ in range(20)]
    for client in clients[:-1]:
        client.expect_disconnect(R.TAKEN_OVER)
    clients[-1].ping()


def test_identifiers_differ_by_case_and_are_not_trimmed(broker):
    name = unique("Case")
    clients = [broker.client(5, n).connect() for n in (name, name.lower(), name + " ", " " + name)]
    for client in clients:
        client.ping()


def test_retained_messages_outlive_the_session(broker, version, topic):
    client = broker.connect(version)
    client.publish(topic, b"stays", retain=True)
    client.disconnect()
    reader = broker.connect()
    reader.subscribe(topic)
    reader.expect_publish(topic, b"stays", retain=True)


def test_nothing_is_taken_behind_disconnect(broker, version, topic):
    watcher = broker.connect()
    watcher.subscribe(topic)
    client = broker.connect(version)
    client.send(disconnect_packet(version=version), publish_packet(topic, b"too late", version=version))
    client.expect_closed()
    settle(broker.connect(), watcher)


def test_disconnect_reasons_of_clients(broker):
    """[MQTT-3.14.2-1]: the reasons that a client may give are taken without a word."""
    for reason in (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99):
        broker.connect().disconnect(reason)
    broker.connect().disconnect(0, {"reason_string": "bye", "user": ("k", "v")})


@pytest.mark.mosquitto_differs("takes any reason")
@pytest.mark.parametrize("reason", [0x01, 0x03, 0x42, 0x8E, 0x9C])
def test_disconnect_reasons_that_clients_do_not_have(broker, reason):
    """Servers' reasons (0x8E, 0x9C, ...) and unknown ones."""
    client = broker.connect()
    client.send(disconnect_packet(reason))
    client.expect_disconnect(R.MALFORMED, R.PROTOCOL_ERROR)


def test_subscriptions_stay_and_can_change_after_resuming(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic + "/a", topic + "/b", qos=1)
    client.drop()
    again = broker.resume(client)
    again.unsubscribe(topic + "/a")
    again.drop()
    third = broker.resume(client)
    publisher = broker.connect()
    publisher.publish(topic + "/a", b"x", qos=1)
    publisher.publish(topic + "/b", b"y", qos=1)
    third.expect_publish(topic + "/b", b"y")
    settle(publisher, third)


def test_order_is_kept_while_away_and_after(broker, version, topic):
    client = broker.persistent(version)
    client.subscribe(topic, qos=1)
    client.drop()
    publisher = broker.connect()
    for n in range(100):
        publisher.publish(topic, str(n), qos=1)
    again = broker.resume(client)
    for n in range(100, 120):
        publisher.publish(topic, str(n), qos=1)
    for n in range(120):
        again.expect_publish(topic, str(n), qos=1)


@pytest.mark.mosquitto_differs("says 0x8B only from 2.1 on")
@pytest.mark.skerry_only
@pytest.mark.parametrize("drop, first", [("oldest", 5), ("newest", 0)])
def test_queue_limit(make_broker, topic, drop, first):
    broker = make_broker(options={"limits": {"queue_messages": 10, "queue_drop": drop}})
    client = broker.persistent()
    client.subscribe(topic, qos=1)
    client.drop()
    publisher = broker.connect()
    for n in range(15):
        publisher.publish(topic, str(n), qos=1)
    again = broker.resume(client)
    for n in range(10):
        again.expect_publish(topic, str(n + first))
    settle(publisher, again)
    assert broker.metrics().total("skerry_copies_dropped_total", reason="queue_full") == 5
