"""Shared subscriptions: [MQTT-4.8.2]."""

import select

import pytest
from broker import settle
from wire import TIMEOUT_S, R, T, options, subscribe_packet, unique

pytestmark = pytest.mark.threads


def members(broker, count, name, qos=1, version=5, **kw):
    made = [broker.connect(version, **kw) for _ in range(count)]
    for client in made:
        client.subscribe(name, qos=qos)
    return made


def collect(clients, publisher, group_topic, total):
    """What each member got until `total` messages have come in all; then nothing more may come."""
    got = [[] for _ in clients]
    while sum(map(len, got)) < total:
        waiting = [c for c in clients if not c.input and not c.stash]
        all_wait = len(waiting) == len(clients)
        ready, _, _ = select.select([c.stream.socket for c in waiting], [], [], TIMEOUT_S if all_wait else 0)
        assert ready or not all_wait, f"only {sum(map(len, got))} of {total}"
        for n, client in enumerate(clients):
            if client.stash or client.input or client.stream.socket in ready:
                got[n].append(client.expect_publish(group_topic).payload)
    for client in clients:
        client.ping()
    return got


@pytest.mark.parametrize(
    "name",
    [
        "$share//a", "$share/+/a", "$share/#/a", "$share/g+/a", "$share/g#x/a", "$share/g", "$share/g/", "$share/",
        "$share/g/a#", "$share/g/a/#/b",
    ],
)  # fmt: skip
@pytest.mark.mosquitto_differs("closes")
def test_invalid_names(broker, name):
    """[MQTT-4.8.2-1], [MQTT-4.8.2-2]"""
    broker.connect().subscribe((name, 0), reasons=[R.FILTER_INVALID])


@pytest.mark.parametrize("filter_name", ["a", "+", "#", "/", "a/+/#", "$SYS/x"])
def test_valid_names(broker, filter_name):
    client = broker.connect()
    name = f"$share/{unique('g')} ünï/{filter_name}"
    client.subscribe(name)
    assert client.unsubscribe(name).reasons == [0]


def test_each_message_goes_to_one_member(broker, version, topic):
    clients = members(broker, 4, f"$share/{unique('g')}/{topic}", version=version)
    publisher = broker.connect()
    for n in range(100):
        publisher.publish(topic, str(n), qos=1)
    got = collect(clients, publisher, topic, 100)
    assert sorted(int(p) for each in got for p in each) == list(range(100))
    for each in got:
        assert [int(p) for p in each] == sorted(int(p) for p in each)


@pytest.mark.skerry_only
def test_round_robin_is_even(broker, topic):
    clients = members(broker, 4, f"$share/{unique('g')}/{topic}")
    publisher = broker.connect()
    for n in range(100):
        publisher.publish(topic, str(n), qos=1)
    assert [len(each) for each in collect(clients, publisher, topic, 100)] == [25] * 4


@pytest.mark.parametrize("strategy", ["round_robin", "random", "least_in_flight", "sticky"])
@pytest.mark.skerry_only
def test_strategies(make_broker, topic, strategy):
    for shards in (1, 2):
        broker = make_broker(shards, options={"shared_subscriptions": {"strategy": strategy}})
        clients = members(broker, 3, f"$share/{unique('g')}/{topic}/+")
        publisher = broker.connect()
        for n in range(60):
            publisher.publish(f"{topic}/{n % 6}", str(n), qos=1)
        seen = {}
        for n, each in enumerate(collect(clients, publisher, None, 60)):
            for payload in each:
                seen.setdefault(int(payload) % 6, set()).add(n)
        if strategy == "sticky":
            assert all(len(who) == 1 for who in seen.values())
        else:
            assert len(set().union(*seen.values())) > 1


def test_groups_are_independent(broker, topic):
    """Two groups and an ordinary subscriber: one copy for each."""
    publisher = broker.connect()
    one = members(broker, 2, f"$share/{unique('g')}/{topic}")
    two = members(broker, 3, f"$share/{unique('g')}/{topic}")
    plain = broker.connect()
    plain.subscribe(topic, qos=1)
    for n in range(12):
        publisher.publish(topic, str(n), qos=1)
    for group in (one, two, [plain]):
        assert sorted(int(p) for each in collect(group, publisher, topic, 12) for p in each) == list(range(12))


def test_same_group_name_with_another_filter_is_another_group(broker):
    base, group = unique(), unique("g")
    publisher = broker.connect()
    one = members(broker, 2, f"$share/{group}/{base}/a")
    two = members(broker, 2, f"$share/{group}/{base}/+")
    for n in range(6):
        publisher.publish(f"{base}/a", str(n), qos=1)
    for clients in (one, two):
        assert sum(map(len, collect(clients, publisher, f"{base}/a", 6))) == 6


def test_member_of_a_group_and_subscribed_too(broker, topic):
    """Both subscriptions of one client match: a message for each."""
    client, publisher = broker.connect(), broker.connect()
    client.subscribe(topic, qos=1, props={"subscription_id": 1})
    client.subscribe(f"$share/{unique('g')}/{topic}", qos=1, props={"subscription_id": 2})
    publisher.publish(topic, b"x", qos=1)
    ids = sorted(client.expect_publish(topic, b"x").all("subscription_id") for _ in range(2))
    assert ids == [[1], [2]]
    client.ping()


def test_granted_qos_of_the_chosen_member(broker, topic):
    """[MQTT-4.8.2-3]"""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    clients = [broker.connect() for _ in range(3)]
    for qos, client in enumerate(clients):
        client.subscribe(name, qos=qos)
    for n in range(9):
        publisher.publish(topic, str(n), qos=2)
    seen = 0
    for qos, client in enumerate(clients):
        for _ in range(2):
            client.send(b"\xc0\x00")
            while (got := client.expect_any()).kind == T.PUBLISH:
                assert got.qos == qos
                seen += 1
    assert seen >= 3


@pytest.mark.mosquitto_differs("grants it")
def test_no_local_is_refused(broker, topic):
    """[MQTT-3.8.3-4]"""
    client = broker.connect()
    client.send(subscribe_packet(1, [(f"$share/g/{topic}", options(1, no_local=True))]))
    client.expect_disconnect(R.PROTOCOL_ERROR)


def test_leaving_members_are_not_chosen(broker, topic):
    """By UNSUBSCRIBE and by the end of the session."""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    stays, leaves, goes = members(broker, 3, name)
    leaves.unsubscribe(name)
    goes.disconnect()
    for n in range(10):
        publisher.publish(topic, str(n), qos=1)
    for n in range(10):
        stays.expect_publish(topic, str(n))
    settle(publisher, leaves, stays)


@pytest.mark.mosquitto_differs("loses QoS 1")
@pytest.mark.parametrize("qos", [1, 2])
def test_messages_of_a_member_that_is_gone_for_good(broker, topic, qos):
    """Sent to a member but not acknowledged when its session ends: at QoS 1 another one should get it; at QoS 2 nobody else
    must. [MQTT-4.8.2-5]"""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    clients = members(broker, 2, name, qos=2)
    publisher.publish(topic, b"x", qos=qos)
    ready, _, _ = select.select([c.stream.socket for c in clients], [], [], TIMEOUT_S)
    taker = next(c for c in clients if c.stream.socket in ready)
    other = next(c for c in clients if c is not taker)
    taker.expect_publish(topic, b"x", ack=False)
    taker.disconnect()
    if qos == 1:
        other.expect_publish(topic, b"x", dup=False)
    settle(publisher, other)


def test_in_flight_messages_come_again_to_the_same_member(broker, topic):
    """[MQTT-4.8.2-4]"""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    client = broker.persistent()
    client.subscribe(name, qos=1)
    publisher.publish(topic, b"x", qos=1)
    held = client.expect_publish(topic, b"x", ack=False)
    other = broker.connect()
    other.subscribe(name, qos=1)
    client.drop()
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    again.expect_publish(topic, b"x", dup=True, packet_id=held.packet_id)
    other.ping()


def test_refused_by_a_member_is_not_sent_to_another(broker, topic):
    """[MQTT-4.8.2-6]"""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    client = broker.connect()
    client.subscribe(name, qos=1)
    publisher.publish(topic, b"x", qos=1)
    got = client.expect_publish(topic, b"x", ack=False)
    other = broker.connect()
    other.subscribe(name, qos=1)
    client.ack(T.PUBACK, got.packet_id, R.UNSPECIFIED)
    client.ping()
    other.ping()


@pytest.mark.mosquitto_differs("does not look")
def test_members_that_are_connected_are_preferred(broker, topic):
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    away = broker.persistent()
    away.subscribe(name, qos=1)
    here = broker.connect()
    here.subscribe(name, qos=1)
    away.drop()
    watch = broker.connect()  # by now the broker knows that `away` has gone
    watch.ping()
    for n in range(10):
        publisher.publish(topic, str(n), qos=1)
    for n in range(10):
        here.expect_publish(topic, str(n))


def test_with_nobody_connected_messages_wait(broker, topic):
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    away = broker.persistent()
    away.subscribe(name, qos=1)
    away.drop()
    publisher.publish(topic, b"waits", qos=1)
    again = broker.client(5, away.client_id).connect(clean=False, session_present=True)
    again.expect_publish(topic, b"waits")


@pytest.mark.mosquitto_differs("loses them")
def test_waiting_messages_move_when_a_member_leaves(broker, topic):
    """Redistribution: what waits for a member that leaves goes to the others, and what it did not acknowledge as well."""
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    leaver, heir = broker.connect(props={"receive_maximum": 1}), broker.connect()
    leaver.subscribe(name, qos=1)
    for n in range(5):
        publisher.publish(topic, str(n), qos=1)
    leaver.expect_publish(topic, b"0", ack=False)
    heir.subscribe(name, qos=1)
    leaver.disconnect()
    got = sorted(int(heir.expect_publish(topic).payload) for _ in range(5))
    assert got == [0, 1, 2, 3, 4]
    settle(publisher, heir)


def test_receive_maximum_holds_for_members(broker, topic):
    name, publisher = f"$share/{unique('g')}/{topic}", broker.connect()
    slow = broker.connect(props={"receive_maximum": 1})
    slow.subscribe(name, qos=1)
    for n in range(3):
        publisher.publish(topic, str(n), qos=1)
    for n in range(3):
        got = slow.expect_publish(topic, str(n), ack=False)
        slow.ping()
        slow.ack(T.PUBACK, got.packet_id)


def test_wildcards_in_groups(broker):
    base, publisher = unique(), broker.connect()
    clients = members(broker, 2, f"$share/{unique('g')}/{base}/+/x/#")
    names = [f"{base}/{n}/x/{n}" for n in range(10)]
    for name in names:
        publisher.publish(name, name, qos=1)
    publisher.publish(f"{base}/x", b"no", qos=1)
    assert sorted(p.decode() for each in collect(clients, publisher, None, 10) for p in each) == names


def test_groups_for_311(broker, topic):
    """`$share` works for the older versions, as their users expect."""
    clients = members(broker, 2, f"$share/{unique('g')}/{topic}", version=4)
    publisher = broker.connect(3)
    for n in range(20):
        publisher.publish(topic, str(n), qos=1)
    assert sum(map(len, collect(clients, publisher, topic, 20))) == 20


def test_publishing_to_a_share_name_is_no_way_in(broker, topic):
    """`$share/g/t` as a topic name has no special meaning: whoever subscribed to t does not get it."""
    plain, publisher = broker.connect(), broker.connect()
    plain.subscribe(topic)
    publisher.publish(f"$share/g/{topic}", b"x")
    settle(publisher, plain)
