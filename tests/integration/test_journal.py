"""The journal of a running broker: what survives a restart and a kill."""

import time

import pytest
from broker import eventually, settle
from journaled import SMALL, SOME, STEADY, absent, broker, how, restart, resume  # noqa: F401
from wire import SLOW, T, publish_packet, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads, pytest.mark.timeout(120)]


# ------------------------------------------------------------------------------------------------------- what survives


def test_session_without_anything(broker, how, version):
    client = broker.persistent(version, session_present=False)
    client.subscribe(unique(), qos=1)  # its acknowledgement is the first thing that waits for the disk
    client.disconnect()
    clean = broker.connect(version)
    restart(broker, how)
    resume(broker, client)
    resume(broker, clean, present=False)


def test_subscriptions_and_their_options(broker, how, topic):
    client = broker.persistent(5)
    client.subscribe(f"{topic}/own", qos=1, no_local=True)
    client.subscribe(f"{topic}/as", qos=2, retain_as_published=True)
    client.subscribe(f"{topic}/id/+", qos=1, props={"subscription_id": 268435455})
    client.subscribe(f"{topic}/plain", qos=0)
    client.subscribe(f"{topic}/gone", qos=1)
    client.unsubscribe(f"{topic}/gone")
    client.subscribe(f"{topic}/id/+", qos=2, props={"subscription_id": 7})  # replaces
    restart(broker, how)
    client = resume(broker, client)
    client.publish(f"{topic}/own", b"not for me", qos=1)
    other = broker.connect(5)
    other.publish(f"{topic}/own", b"for you", qos=1)
    other.publish(f"{topic}/as", b"1", qos=2, retain=True)
    other.publish(f"{topic}/id/x", b"2", qos=2)
    other.publish(f"{topic}/plain", b"3", qos=2)
    other.publish(f"{topic}/gone", b"4", qos=1)
    client.expect_publish(f"{topic}/own", b"for you", qos=1, retain=False)
    client.expect_publish(f"{topic}/as", b"1", qos=2, retain=True)
    assert client.expect_publish(f"{topic}/id/x", b"2", qos=2).all("subscription_id") == [7]
    client.expect_publish(f"{topic}/plain", b"3", qos=0)
    settle(other, client)


def test_shared_subscriptions(broker, how, topic):
    """Members that are back share; what waits for one that is away stays with it."""
    filters = f"$share/group/{topic}"
    members = [broker.persistent(version) for version in (4, 5)]
    for one in members:
        one.subscribe(filters, qos=1)
    restart(broker, how)
    members = [resume(broker, one) for one in members]
    publisher = broker.connect()
    for number in range(10):
        publisher.publish(topic, str(number), qos=1)
    got = []
    for one in members:
        for _ in range(5):
            got.append(int(one.expect_publish(topic, qos=1).payload))
    assert sorted(got) == list(range(10))
    for one in members:
        one.ping()


PROPERTIES = [
    ("payload_format", 1), ("content_type", "text/plain"), ("response_topic", "answers/here"),
    ("correlation_data", b"\0\xff\x01"), ("user", ("a", "1")), ("user", ("b", "")), ("user", ("a", "2")),
]


@SOME
def test_queued_messages_with_properties(broker, how, topic):
    client = broker.persistent(5)
    client.subscribe(f"{topic}/#", qos=2, props={"subscription_id": 11})
    client.disconnect()
    older = absent(broker, 4, f"{topic}/#", qos=1)
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/1", "first", qos=1, props=[*PROPERTIES, ("message_expiry", 1000)])
    publisher.publish(f"{topic}/2", b"", qos=2, props=PROPERTIES)
    publisher.publish(f"{topic}/soon", "gone", qos=1, props={"message_expiry": 1})
    publisher.publish(f"{topic}/3", bytes(130_000), qos=1)  # nearly the largest, half a segment
    publisher.publish(f"{topic}/4", "last", qos=2, retain=True)
    restart(broker, how, down_s=1.2)
    restart(broker, how)
    client, older = resume(broker, client), resume(broker, older)
    first = client.expect_publish(f"{topic}/1", "first", qos=1, dup=False, retain=False)
    assert [one for one in first.props if one[0] not in ("message_expiry", "subscription_id")] == PROPERTIES
    assert 980 <= first.prop("message_expiry") <= 999
    second = client.expect_publish(f"{topic}/2", b"", qos=2, dup=False)
    assert [one for one in second.props if one[0] != "subscription_id"] == PROPERTIES
    client.expect_publish(f"{topic}/3", bytes(130_000), qos=1)
    last = client.expect_publish(f"{topic}/4", "last", qos=2, retain=False)
    assert all(one.all("subscription_id") == [11] for one in (first, second, last))
    older.expect_publish(f"{topic}/1", "first", qos=1)
    older.expect_publish(f"{topic}/2", b"", qos=1)
    older.expect_publish(f"{topic}/3", bytes(130_000), qos=1)
    older.expect_publish(f"{topic}/4", "last", qos=1)
    settle(broker.connect(), client, older)


def test_retained_messages_promised_by_suback(broker, how, version, topic):
    """Whoever has its SUBACK gets the retained messages, though the broker dies before it could send them."""
    publisher = broker.connect(5)
    for number in range(50):
        publisher.publish(f"{topic}/r/{number}", str(number), qos=number % 2 + 1, retain=True)
    client = broker.persistent(version)
    client.subscribe(f"{topic}/live", qos=1)
    for number in range(40):  # more than may be in flight: the retained ones have to wait
        publisher.publish(f"{topic}/live", str(number), qos=1)
    for number in range(32):
        client.expect_publish(f"{topic}/live", ack=False)
    client.subscribe(f"{topic}/r/+", qos=2)
    restart(broker, how)
    client = resume(broker, client)
    for number in range(40):
        client.expect_publish(f"{topic}/live", str(number))
    got = [client.expect_publish(retain=True) for _ in range(50)]
    assert sorted(int(one.payload) for one in got) == list(range(50))
    assert all(one.qos == int(one.payload) % 2 + 1 for one in got)
    settle(broker.connect(), client)


def test_in_flight_to_a_subscriber(broker, how, version, topic):
    """Packet identifiers go on; DUP where something was sent; PUBREL where PUBREC had come [MQTT-4.4.0-1]."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    for number, qos in enumerate((1, 2, 2, 2)):
        publisher.publish(topic, str(number), qos=qos)
    one, two, three, four = (client.expect_publish(topic, str(number), ack=False, dup=False) for number in range(4))
    client.ack(T.PUBREC, three.packet_id)
    client.expect(T.PUBREL, packet_id=three.packet_id)
    client.ack(T.PUBREC, four.packet_id)
    client.expect(T.PUBREL, packet_id=four.packet_id)
    client.ack(T.PUBCOMP, four.packet_id)
    client.ping()
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 3, "the fourth is done")
    for _ in range(2):
        restart(broker, how)
        client = resume(broker, client)
        got = [client.expect_any() for _ in range(3)]
        published = {p.packet_id: p for p in got if p.kind == T.PUBLISH}
        assert [p.packet_id for p in got if p.kind == T.PUBREL][:1] == [three.packet_id], got
        assert list(published) == [one.packet_id, two.packet_id]
        assert all(p.dup for p in published.values())
        assert [p.qos for p in published.values()] == [1, 2]
        if how == "stop":
            client.ping()
    client.ack(T.PUBACK, one.packet_id)
    client.ack(T.PUBREC, two.packet_id)
    client.expect(T.PUBREL, packet_id=two.packet_id)
    client.ack(T.PUBCOMP, two.packet_id)
    client.ack(T.PUBCOMP, three.packet_id)
    client.ping()
    broker.stop()
    broker.start()
    client = resume(broker, client)
    settle(broker.connect(), client)


def test_acknowledged_before_a_kill_with_more_behind(broker, topic):
    """What was not acknowledged comes again in its order, then what had never been sent, without DUP after a clean stop."""
    client = broker.persistent(5, props={"receive_maximum": 3})
    client.subscribe(topic, qos=1)
    publisher = broker.connect()
    for number in range(10):
        publisher.publish(topic, str(number), qos=1)
    first = [client.expect_publish(topic, str(number), ack=False) for number in range(3)]
    client.ack(T.PUBACK, first[0].packet_id)
    fourth = client.expect_publish(topic, "3", ack=False)
    client.ping()
    restart(broker, "stop")
    client = resume(broker, client, props={"receive_maximum": 10})
    for number in range(1, 10):
        got = client.expect_publish(topic, str(number), dup=number < 4)
        if number < 4:
            assert got.packet_id == [first[1], first[2], fourth][number - 1].packet_id
    settle(broker.connect(), client)


def test_qos_2_of_a_publisher(broker, how, version, topic):
    """A packet identifier that was received stays received until PUBREL, and is free after PUBCOMP."""
    subscriber = absent(broker, 4, topic, qos=2)
    publisher = broker.persistent(version)
    packet = dict(qos=2, packet_id=5, version=version)
    publisher.send(publish_packet(topic, "once", **packet))
    publisher.expect_ack(T.PUBREC, 5)
    publisher.send(publish_packet(f"{topic}/nobody", "x", qos=2, packet_id=6, version=version))
    publisher.expect_ack(T.PUBREC, 6)
    restart(broker, how)
    publisher = resume(broker, publisher)
    publisher.send(publish_packet(topic, "once", dup=True, **packet))
    publisher.expect_ack(T.PUBREC, 5)
    publisher.ack(T.PUBREL, 5)
    publisher.expect_ack(T.PUBCOMP, 5)
    restart(broker, how)
    publisher = resume(broker, publisher)
    publisher.send(publish_packet(topic, "another", **packet))
    publisher.expect_ack(T.PUBREC, 5)
    publisher.ack(T.PUBREL, 5)
    publisher.expect_ack(T.PUBCOMP, 5)
    publisher.ack(T.PUBREL, 6)
    assert publisher.expect_ack(T.PUBCOMP, 6).reason == 0, "6 was forgotten"
    subscriber = resume(broker, subscriber)
    subscriber.expect_publish(topic, "once", qos=2)
    subscriber.expect_publish(topic, "another", qos=2)
    settle(publisher, subscriber)


def test_take_over_of_place_by_a_new_session(broker, how, topic):
    """Clean Start, or an expiry of 0 at DISCONNECT, ends what was stored, too."""
    fresh = absent(broker, 5, topic, qos=1)
    ended = broker.persistent(5)
    ended.subscribe(topic, qos=1)
    ended.disconnect(0, {"session_expiry": 0})
    broker.connect().publish(topic, "old", qos=1)
    broker.connect(5, fresh.client_id, clean=True, props={"session_expiry": 3600}).disconnect()
    restart(broker, how)
    resume(broker, ended, present=False)
    client = resume(broker, fresh)
    publisher = broker.connect()
    publisher.publish(topic, "new", qos=1)
    settle(publisher, client)


# ---------------------------------------------------------------------------------------------------------------- wills


def will(topic, payload=b"will", qos=1, **kw):
    return {"topic": topic, "payload": payload, "qos": qos, **kw}


def test_will(broker, how, version, topic):
    """The broker's death breaks the connection as any other: the will is sent, once, at the latest after the restart."""
    watcher = absent(broker, 4, topic, qos=2)
    owner = broker.persistent(version, will=will(topic, qos=2, retain=version == 4))
    owner.subscribe(unique(), qos=1)
    for _ in range(2):
        restart(broker, how)
    watcher = resume(broker, watcher)
    watcher.expect_publish(topic, b"will", qos=2, timeout=5 * SLOW)
    settle(broker.connect(), watcher)
    if version == 4:
        late = broker.connect()
        late.subscribe(topic)
        late.expect_publish(topic, b"will", retain=True)
    resume(broker, owner)


def test_will_of_a_client_that_said_goodbye(broker, how, topic):
    watcher = absent(broker, 4, topic, qos=1)
    owner = broker.persistent(5, will=will(topic))
    owner.disconnect()
    broker.persistent(5).subscribe(unique(), qos=1)  # behind it in the journal, and acknowledged
    restart(broker, how)
    watcher = resume(broker, watcher)
    settle(broker.connect(), watcher)


@SOME
def test_will_delay_goes_on(broker, how, topic):
    """Not before its time, and not at all when the client comes back before."""
    watcher = broker.persistent(5)
    watcher.subscribe(f"{topic}/#", qos=1)
    props = {"will_delay": 6, "content_type": "c", "user": ("k", "v")}
    owner = broker.persistent(5, will=will(f"{topic}/late", props=props))
    back = broker.persistent(5, will=will(f"{topic}/never", props={"will_delay": 5}))
    lost = time.monotonic()
    owner.drop()
    back.drop()
    eventually(lambda: broker.metrics().total("skerry_connections") == 1, "both are away")
    restart(broker, how)
    watcher = resume(broker, watcher)
    back = resume(broker, back)
    got = watcher.expect_publish(f"{topic}/late", b"will", qos=1, timeout=20 * SLOW)
    assert time.monotonic() - lost > 5.5
    assert got.prop("content_type") == "c" and got.all("user") == [("k", "v")]
    settle(broker.connect(), watcher)


@SOME
def test_will_that_became_due_while_down(broker, how, topic):
    """It comes at once: before one that is due a second later, while its own delay, begun anew, would be three."""
    watcher = absent(broker, 4, topic, qos=1)
    owner = broker.persistent(5, will=will(topic, props={"will_delay": 3}))
    owner.drop()
    eventually(lambda: broker.metrics().total("skerry_connections") == 0, "away")
    broker.alive()
    restart(broker, how, down_s=3.3)
    broker.persistent(5, will=will(topic, b"later", props={"will_delay": 1})).drop()
    watcher = resume(broker, watcher)
    for payload in b"will", b"later":
        watcher.expect_publish(topic, payload, qos=1)


# -------------------------------------------------------------------------------------------------------------- expiries


@SOME
def test_session_expires_while_down(broker, how, topic):
    short = broker.persistent(5, expiry_s=1)
    short.subscribe(topic, qos=1)
    connected = broker.persistent(5, expiry_s=1)
    connected.subscribe(topic, qos=1)
    short.disconnect()
    long = absent(broker, 5, topic, qos=1)
    broker.connect().publish(topic, "x", qos=1)
    restart(broker, how, down_s=1.5)
    eventually(lambda: broker.metrics().total("skerry_sessions") == 1, "only one session is left")
    resume(broker, short, present=False).disconnect()
    resume(broker, connected, present=False).disconnect()
    resume(broker, long).expect_publish(topic, "x", qos=1)


@SOME
def test_session_expiry_goes_on_after_a_restart(broker, how):
    client = broker.persistent(5, expiry_s=5)
    client.subscribe(unique(), qos=1)
    client.disconnect()
    restart(broker, how)
    assert broker.metrics().total("skerry_sessions") == 1
    eventually(lambda: broker.metrics().total("skerry_sessions") == 0, "expired", timeout=20 * SLOW)


# -------------------------------------------------------------------------------------------------------------- retained


@SOME
def test_retained_messages(broker, how, topic):
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/a", "old", qos=1, retain=True)
    publisher.publish(f"{topic}/a", "new", qos=1, retain=True, props=PROPERTIES)
    publisher.publish(f"{topic}/b/c", "two", qos=2, retain=True)
    publisher.publish(f"{topic}/gone", "x", qos=1, retain=True)
    publisher.publish(f"{topic}/gone", b"", qos=1, retain=True)
    publisher.publish(f"{topic}/long", "x", qos=1, retain=True, props={"message_expiry": 1000})
    publisher.publish(f"{topic}/short", "x", qos=1, retain=True, props={"message_expiry": 1})
    publisher.publish(f"{topic}/large", bytes(130_000), qos=1, retain=True)
    publisher.publish(f"{topic}/zero", "qos 0", qos=0, retain=True)
    publisher.publish(f"{topic}/after", "1", qos=1, retain=True)  # behind it in order
    restart(broker, how, down_s=1.2)
    client = broker.connect(5)
    client.subscribe(f"{topic}/a", f"{topic}/b/+", f"{topic}/long", f"{topic}/large", f"{topic}/zero", qos=2)
    got = {one.topic: one for one in (client.expect_publish(retain=True) for _ in range(5))}
    assert got[f"{topic}/a"].payload == b"new" and got[f"{topic}/a"].props == PROPERTIES
    assert got[f"{topic}/b/c"].payload == b"two" and got[f"{topic}/b/c"].qos == 2
    assert 980 <= got[f"{topic}/long"].prop("message_expiry") <= 999
    assert got[f"{topic}/large"].payload == bytes(130_000)
    client.subscribe(f"{topic}/gone", f"{topic}/short", qos=2)
    client.ping()


def test_budgets_of_retained_messages(make_broker, how, topic):
    broker = make_broker(1, {"journal": SMALL, "limits": {"retained_messages": 3}, **STEADY})
    publisher = broker.connect(5)
    for number in range(5):
        publisher.publish(f"{topic}/{number}", str(number), qos=1, retain=True)
    restart(broker, how)
    assert broker.metrics().total("skerry_retained_messages") == 3
    assert broker.metrics().total("skerry_journal_retained_messages") == 3
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/0", b"", qos=1, retain=True)
    publisher.publish(f"{topic}/9", "9", qos=1, retain=True)
    restart(broker, how)
    client = broker.connect()
    client.subscribe(f"{topic}/#", qos=1)
    assert sorted(client.expect_publish(retain=True).topic[-1] for _ in range(3)) == ["1", "2", "9"]
