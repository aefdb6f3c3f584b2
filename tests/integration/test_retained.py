"""Retained messages: set, replaced, cleared, sent at SUBSCRIBE. [MQTT-3.3.1-5] to [MQTT-3.3.1-13]."""

import pytest
from broker import elapse, settle
from wire import options, unique

pytestmark = pytest.mark.threads


def expect_retained(broker, filter_name, *names, version=5, payloads=None):
    """A new subscriber is sent exactly the messages of these topics at once, each with its topic as payload if not said."""
    client = broker.connect(version)
    client.subscribe(filter_name, qos=2)
    got = {}
    for _ in names:
        one = client.expect_publish(retain=True)
        assert one.topic not in got
        got[one.topic] = one.payload
    client.ping()
    client.stream.close()
    assert got == {n: (payloads or {}).get(n, n.encode()) for n in names}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_is_sent_to_a_new_subscriber(broker, version, topic, qos):
    publisher = broker.connect(version)
    publisher.publish(topic, b"state", qos=qos, retain=True)
    publisher.ping()
    subscriber = broker.connect(version)
    subscriber.subscribe(topic, qos=2)
    subscriber.expect_publish(topic, b"state", qos=qos, retain=True, dup=False)
    subscriber.ping()


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_retained_qos_is_lowered_to_the_granted_one(broker, version, topic, granted):
    broker.connect(version).publish(topic, b"x", qos=2, retain=True)
    subscriber = broker.connect(version)
    subscriber.subscribe(topic, qos=granted)
    subscriber.expect_publish(topic, b"x", qos=granted, retain=True)


def test_the_last_one_counts(broker, version, topic):
    publisher = broker.connect(version)
    for n, qos in ((1, 1), (2, 2), (3, 0), (4, 1)):
        publisher.publish(topic, str(n), qos=qos, retain=True)
        publisher.ping()
    expect_retained(broker, topic, topic, version=version, payloads={topic: b"4"})


def test_empty_payload_clears(broker, version, topic):
    """Cleared for who comes later, delivered like any message to who is there, never stored."""
    publisher, watcher = broker.connect(version), broker.connect(version)
    publisher.publish(topic, b"x", qos=1, retain=True)
    watcher.subscribe(topic, qos=1)
    watcher.expect_publish(topic, b"x", retain=True)
    publisher.publish(topic, b"", qos=1, retain=True)
    watcher.expect_publish(topic, b"", retain=False)
    expect_retained(broker, topic)
    publisher.publish(topic, b"", qos=1, retain=True)
    watcher.expect_publish(topic, b"")
    publisher.publish(topic, b"y", qos=1, retain=True)
    expect_retained(broker, topic, topic, payloads={topic: b"y"})


def test_without_the_flag_nothing_changes(broker, version, topic):
    publisher = broker.connect(version)
    publisher.publish(topic, b"kept", qos=1, retain=True)
    publisher.publish(topic, b"passing", qos=1)
    publisher.publish(topic, b"", qos=1)
    expect_retained(broker, topic, topic, payloads={topic: b"kept"})


def test_live_messages_have_no_retain_flag(broker, version, topic):
    """[MQTT-3.3.1-12], 3.1.1 [MQTT-3.3.1-9]"""
    subscriber = broker.connect(version)
    subscriber.subscribe(topic, qos=1)
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    subscriber.expect_publish(topic, b"x", retain=False)


def test_retain_as_published(broker, topic):
    subscriber, publisher = broker.connect(), broker.connect()
    subscriber.subscribe((topic, options(1, retain_as_published=True)))
    publisher.publish(topic, b"1", qos=1, retain=True)
    publisher.publish(topic, b"2", qos=1, retain=False)
    subscriber.expect_publish(topic, b"1", retain=True)
    subscriber.expect_publish(topic, b"2", retain=False)


def test_retain_as_published_per_subscriber(broker, topic):
    with_flag, without, publisher = broker.connect(), broker.connect(), broker.connect()
    with_flag.subscribe((topic, options(1, retain_as_published=True)))
    without.subscribe((topic, options(1)))
    publisher.publish(topic, b"x", qos=1, retain=True)
    with_flag.expect_publish(topic, b"x", retain=True)
    without.expect_publish(topic, b"x", retain=False)


def test_wildcards_send_all_that_match(broker, version):
    base = unique()
    publisher = broker.connect(version)
    names = [f"{base}/a", f"{base}/a/b", f"{base}/c/b", f"{base}//b", f"{base}"]
    for name in names:
        publisher.publish(name, name, qos=1, retain=True)
    expect_retained(broker, f"{base}/#", *names, version=version)
    expect_retained(broker, f"{base}/+/b", f"{base}/a/b", f"{base}/c/b", f"{base}//b", version=version)
    expect_retained(broker, f"{base}/+", f"{base}/a", version=version)
    expect_retained(broker, f"+/{base}", version=version)
    expect_retained(broker, f"{base}/a", f"{base}/a", version=version)


def test_every_subscribe_sends_again(broker, version, topic):
    """[MQTT-3.8.4-4]: replacing a subscription sends retained messages again (retain handling 0)."""
    broker.connect(version).publish(topic, b"x", qos=1, retain=True)
    client = broker.connect(version)
    for qos in (0, 0, 1, 2):
        client.subscribe(topic, qos=qos)
        client.expect_publish(topic, b"x", retain=True, qos=min(qos, 1))


def test_retain_handling_1_sends_only_for_a_new_subscription(broker, topic):
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    client = broker.connect()
    client.subscribe((topic, options(1, retain_handling=1)))
    client.expect_publish(topic, b"x", retain=True)
    client.subscribe((topic, options(1, retain_handling=1)))
    client.ping()
    client.subscribe((topic, options(2, retain_handling=1)))
    client.ping()
    client.unsubscribe(topic)
    client.subscribe((topic, options(1, retain_handling=1)))
    client.expect_publish(topic, b"x", retain=True)


def test_retain_handling_2_sends_nothing(broker, topic):
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    client = broker.connect()
    for _ in range(2):
        client.subscribe((topic, options(1, retain_handling=2)))
        client.ping()


@pytest.mark.parametrize("handling", [0, 1, 2])
def test_retain_handling_after_resuming(broker, topic, handling):
    """A resumed session's subscriptions exist: 1 sends nothing."""
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    client = broker.persistent()
    client.subscribe((topic, options(1, retain_handling=2)))
    client.drop()
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    again.ping()
    again.subscribe((topic, options(1, retain_handling=handling)))
    if handling == 0:
        again.expect_publish(topic, b"x", retain=True)
    again.ping()


@pytest.mark.mosquitto_differs("sends them")
def test_no_retained_messages_for_shared_subscriptions(broker, topic):
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    client = broker.connect()
    client.subscribe(f"$share/{unique('g')}/{topic}", qos=1)
    client.ping()


def test_overlapping_filters_in_one_subscribe_each_send(broker, version):
    """A SUBSCRIBE of two filters is two subscriptions: each sends what it matches."""
    base = unique()
    broker.connect().publish(f"{base}/a", b"x", qos=1, retain=True)
    client = broker.connect(version)
    client.subscribe(f"{base}/a", f"{base}/+", qos=1)
    for _ in range(2):
        client.expect_publish(f"{base}/a", b"x", retain=True)
    client.ping()


def test_retained_with_subscription_identifier(broker, topic):
    broker.connect().publish(topic, b"x", qos=1, retain=True)
    client = broker.connect()
    client.subscribe(topic, qos=1, props={"subscription_id": 1234})
    assert client.expect_publish(topic, b"x", retain=True).all("subscription_id") == [1234]


def test_retained_keeps_its_properties(broker, topic):
    props = [
        ("payload_format", 1),
        ("content_type", "a"),
        ("response_topic", "b"),
        ("correlation_data", b"c"),
        ("user", ("d", "e")),
    ]
    broker.connect().publish(topic, b"x", qos=1, retain=True, props=props)
    client = broker.connect()
    client.subscribe(topic)
    assert sorted(client.expect_publish(topic, b"x", retain=True).props) == sorted(props)


def test_retained_expires(broker, topic):
    """Gone when its time has passed, counted down before."""
    publisher = broker.connect()
    publisher.publish(topic + "/short", b"x", qos=1, retain=True, props={"message_expiry": 3})
    publisher.publish(topic + "/long", b"x", qos=1, retain=True, props={"message_expiry": 100})
    publisher.publish(topic + "/ever", b"x", qos=1, retain=True)
    early = broker.connect()
    early.subscribe(topic + "/#")
    for _ in range(3):
        early.expect_publish(retain=True)
    elapse(4.1)
    client = broker.connect()
    client.subscribe(topic + "/#")
    got = {}
    for _ in range(2):
        one = client.expect_publish()
        got[one.topic] = one.prop("message_expiry")
    client.ping()
    assert got.keys() == {topic + "/long", topic + "/ever"}
    assert 60 <= got[topic + "/long"] <= 96 and got[topic + "/ever"] is None


def test_no_local_does_not_hold_for_retained_at_subscribe_of_another(broker, topic):
    """One's own retained message is sent to others; whether to oneself with No Local is left open by the standard."""
    publisher, other = broker.connect(), broker.connect()
    publisher.publish(topic, b"x", qos=1, retain=True)
    other.subscribe((topic, options(1, no_local=True)))
    other.expect_publish(topic, b"x", retain=True)


def test_many_retained(broker, version):
    """More than a window of them: all arrive, in whatever order."""
    base, publisher = unique(), broker.connect(version)
    names = {f"{base}/{n}" for n in range(200)}
    for name in names:
        publisher.publish(name, name, qos=n_qos(name), retain=True)
    client = broker.connect(version)
    client.subscribe(base + "/#", qos=2)
    got = {client.expect_publish(retain=True).topic for _ in range(200)}
    assert got == names
    client.ping()


def n_qos(name):
    return int(name.rpartition("/")[2]) % 3


def test_retained_across_versions(broker, topic):
    for n, (writer, reader) in enumerate(((3, 5), (5, 3), (4, 5), (5, 4), (3, 4), (4, 3))):
        broker.connect(writer).publish(f"{topic}/{n}", str(n), qos=1, retain=True)
        name = f"{topic}/{n}"
        expect_retained(broker, name, name, version=reader, payloads={name: str(n).encode()})


def test_dollar_topics_are_not_sent_for_leading_wildcards(broker, version):
    name = unique("$own/")
    broker.connect(version).publish(name, b"x", qos=1, retain=True)
    client = broker.connect(version)
    tail = name.partition("/")[2]
    client.subscribe("+/" + tail)
    client.ping()
    expect_retained(broker, "$own/" + tail, name, version=version, payloads={name: b"x"})


@pytest.mark.skerry_only
def test_retained_limit(make_broker, topic):
    """Over the limit a new one is refused with 0x97; replacing and clearing go on."""
    broker = make_broker(options={"limits": {"retained_messages": 3}, "sys": {"interval": "off"}})
    client = broker.connect()
    for n in range(3):
        assert client.publish(f"{topic}/{n}", b"x", qos=1, retain=True).reason < 0x80
    assert client.publish(f"{topic}/over", b"x", qos=1, retain=True).reason == 0x97
    assert client.publish(f"{topic}/0", b"y", qos=1, retain=True).reason < 0x80
    client.publish(f"{topic}/0", b"", qos=1, retain=True)
    assert client.publish(f"{topic}/over", b"x", qos=1, retain=True).reason < 0x80


def test_subscribe_races_with_publish(broker, version, topic):
    """While a retained message changes, a new subscriber sees each value once at most and ends with the last."""
    publisher = broker.connect(version)
    publisher.publish(topic, b"0", qos=1, retain=True)
    subscribers = []
    for n in range(1, 40):
        client = broker.connect(version)
        publisher.publish(topic, str(n), qos=0, retain=True)
        client.subscribe(topic)
        subscribers.append(client)
    publisher.publish(topic, b"last", qos=1, retain=True)
    for client in subscribers:
        seen = [-1]
        while True:
            got = client.expect_publish(topic)
            if got.payload == b"last":
                break
            # Never back in time. The same value twice is a live copy that crossed the retained one.
            assert int(got.payload) >= seen[-1]
            seen.append(int(got.payload))
        assert len(seen) == len(set(seen)) or seen.count(seen[1]) <= 2
    settle(publisher, *subscribers)
