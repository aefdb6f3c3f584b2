"""Whatever arrives, the broker neither crashes, leaks, stalls others nor grows beyond its budget.

Each test checks that the broker serves others, that the log says what happened and that a counter in /metrics moved.
"""

import os
import random
import time

import pytest
from broker import TIMEOUT_S, elapse, eventually
from wire import (
    PINGREQ,
    SLOW,
    Client,
    Closed,
    R,
    Stream,
    T,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    text,
    u16,
    unique,
    varint,
)

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads]

MIB = 1 << 20
# A sanitizer keeps freed memory for a while: only growth without end is seen with one.
KEPT = 0 if SLOW == 1 else 400 * MIB


class Watch:
    """Counters before and after."""

    def __init__(self, broker):
        self.broker, self.before = broker, broker.metrics()

    def rose(self, name, by=1, **labels):
        eventually(
            lambda: self.broker.metrics().total(name, **labels) - self.before.total(name, **labels) >= by,
            f"{name} {labels} rises by {by}",
        )


def shards(function):
    return pytest.mark.parametrize("shards", [1, 2], ids=["shards1", "shards2"])(function)


def test_malformed_packets(broker):
    watch = Watch(broker)
    for raw in (packet(0, 0, b""), publish_packet("#", b""), packet(T.SUBSCRIBE, 2, b"\0"), b"\x30\xff\xff\xff\xff\x7f"):
        client = broker.connect()
        client.send(raw)
        client.expect(T.DISCONNECT)
        client.expect_closed()
    watch.rose("skerry_faults_total", 4)
    broker.wait_event("client_error")
    broker.alive()


def test_noise(broker):
    """Random bytes, before and after CONNECT, by seed."""
    for seed in range(60):
        dice = random.Random(seed)
        client = broker.client()
        if seed % 2:
            client.connect(props={"maximum_packet_size": 1 << 20})
        client.send(dice.randbytes(dice.choice((1, 2, 10, 100, 5000))))
        client.stream.half_close()
        try:
            while True:
                client.receive()
        except Closed:
            pass
        client.drop()
    broker.alive()


def test_mutated_packets(broker):
    """Good packets with a byte changed, by seed: an answer or a close, and never silence."""
    good = [
        publish_packet("a/b", b"payload", 1, 10, props={"user": ("a", "b"), "topic_alias": 1}),
        subscribe_packet(5, [("a/+", 1), ("b/#", 2)], {"subscription_id": 9}),
        packet(T.UNSUBSCRIBE, 2, u16(5) + b"\0" + text("a/+")),
        packet(T.PUBREL, 2, u16(77) + b"\0\0"),
        packet(T.DISCONNECT, 0, b"\x04\x05\x11\0\0\0\0"),
    ]
    for seed in range(150):
        dice = random.Random(seed)
        raw = bytearray(dice.choice(good))
        for _ in range(dice.randint(1, 3)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        client = broker.connect()
        client.send(bytes(raw), PINGREQ)
        client.stream.half_close()
        try:
            while True:
                client.receive()
        except (Closed, AssertionError):
            pass
        client.drop()
    broker.alive()


def test_half_packets(broker, topic):
    """Many connections that each stop within a packet: others go on, nothing takes effect."""
    raw = publish_packet(topic, b"x" * 100)
    watcher = broker.connect()
    watcher.subscribe(topic)
    halves = [broker.connect() for _ in range(30)]
    for n, client in enumerate(halves):
        client.send(raw[: 1 + n])
    broker.alive()
    for client in halves:
        client.drop()
    watcher.ping()


@shards
def test_slow_sender(make_broker, shards):
    """A byte now and then: CONNECT has its time-out; afterwards keep alive counts whole packets."""
    broker = make_broker(shards, options={"limits": {"connect_timeout": "1s"}})
    watch = Watch(broker)
    started = time.monotonic()
    raw, slow = connect_packet(unique()), broker.client()
    closed = False
    for byte in raw * 3:
        slow.send(bytes([byte]))
        try:
            slow.receive(0.15)
        except TimeoutError:
            continue
        except Closed:
            closed = True
            break
    assert closed and time.monotonic() - started >= 0.9
    watch.rose("skerry_limit_reached_total", limit="connect_timeout")
    broker.wait_event("connect_timeout")
    broker.alive()


def test_256_mib_remaining_length(broker):
    """Refused by its header; not a byte of it is stored."""
    watch, before = Watch(broker), broker.memory_bytes()
    clients = [broker.connect() for _ in range(20)]
    for client in clients:
        client.send(b"\x32\xff\xff\xff\x7f" + b"\0\1a" + b"x" * 1000)
        client.expect_disconnect(R.TOO_LARGE)
    assert broker.memory_bytes() - before < 8 * MIB + KEPT
    watch.rose("skerry_faults_total", 20, reason="0x95")
    broker.wait_event("client_error")
    broker.alive()


def test_large_packets_promised_but_not_sent(broker):
    """A remaining length at the limit reserves no memory before the bytes come."""
    before = broker.memory_bytes()
    clients = [broker.connect() for _ in range(100)]
    for client in clients:
        client.send(b"\x30" + b"\xf0\xff\x3f" + b"\0\1a")  # 1 MiB less 16 bytes
    broker.alive()
    assert broker.memory_bytes() - before < 60 * MIB + KEPT
    for client in clients:
        client.drop()


@shards
def test_never_reading_subscriber_of_qos_0(make_broker, shards, topic):
    """QoS 0 for it is dropped and counted; memory stays bounded; who reads gets everything."""
    broker = make_broker(shards, options={"broker": {"memory_limit": "32MiB"}})
    watch = Watch(broker)
    deaf = Client(broker.stream(receive_buffer=4096)).connect()
    deaf.subscribe(topic)
    reader, publisher = broker.connect(), broker.connect()
    reader.subscribe(topic)
    before = broker.memory_bytes()
    payload = b"x" * 50_000
    for n in range(1200):  # 60 MB
        publisher.publish(topic, payload)
        if n % 10 == 9:
            for _ in range(10):
                reader.expect_publish(topic, payload)
    assert broker.memory_bytes() - before < 48 * MIB + KEPT
    watch.rose("skerry_copies_dropped_total", 100, reason="slow_consumer")
    broker.wait_event("message_dropped")
    broker.alive()
    deaf.drop()


@shards
def test_never_reading_subscriber_of_qos_1(make_broker, shards, topic):
    """Its window fills, then its queue up to the limit, then new ones are dropped."""
    broker = make_broker(shards, options={"broker": {"memory_limit": "64MiB"}, "limits": {"queue_messages": 100}})
    watch = Watch(broker)
    deaf = Client(broker.stream(receive_buffer=4096)).connect()
    deaf.subscribe(topic, qos=1)
    publisher = broker.connect()
    before = broker.memory_bytes()
    for _ in range(400):
        publisher.publish(topic, b"x" * 20_000, qos=1)
    assert broker.memory_bytes() - before < 32 * MIB + KEPT
    watch.rose("skerry_copies_dropped_total", 200, reason="queue_full")
    broker.wait_event("message_dropped")
    broker.alive()


@shards
def test_clients_that_do_not_read_their_acknowledgements(make_broker, shards):
    """Answers pile up only so far: then nothing more is read from that client, and others are served."""
    broker = make_broker(shards, options={"broker": {"memory_limit": "32MiB"}})
    before = broker.memory_bytes()
    deaf = Client(broker.stream(receive_buffer=4096)).connect()
    deaf.stream.socket.settimeout(0.5)
    raw = PINGREQ * 20_000
    sent = 0
    try:
        while sent < 200 * MIB and broker.memory_bytes() - before < 64 * MIB + KEPT:
            sent += deaf.stream.socket.send(raw)
    except TimeoutError:
        pass  # back-pressure
    assert broker.memory_bytes() - before < 48 * MIB + KEPT
    broker.alive()


@shards
def test_memory_limit(make_broker, shards, topic):
    """Queues of many sessions at once: the budget holds, QoS 1 that does not fit is refused or dropped, nobody is lost."""
    broker = make_broker(
        shards, options={"broker": {"memory_limit": "32MiB"}, "limits": {"queue_messages": 100000}}
    )
    watch, before = Watch(broker), broker.memory_bytes()
    for n in range(4):
        client = broker.persistent()
        client.subscribe(f"{topic}/{n}", qos=1)
        client.drop()
    publisher = broker.connect()
    refused, deadline = 0, time.monotonic() + 15
    for n in range(1600):  # 64 MB
        packet_id = publisher.publish(f"{topic}/{n % 4}", os.urandom(100) + b"x" * 40_000, qos=1, wait=False)
        try:
            ack = publisher.receive(1)
        except TimeoutError:
            break  # the publisher is paused: back-pressure is the other right answer
        assert ack.packet_id == packet_id
        refused += ack.reason >= 0x80
        if refused > 20 or time.monotonic() > deadline:
            break
    assert broker.memory_bytes() - before < 56 * MIB + KEPT
    after = broker.metrics()
    signs = (
        refused
        + after.total("skerry_copies_dropped_total", reason="memory")
        - watch.before.total("skerry_copies_dropped_total", reason="memory")
        + after.total("skerry_pauses_total")
        - watch.before.total("skerry_pauses_total")
    )
    assert signs > 0
    broker.alive()


@shards
def test_connection_flood(make_broker, shards):
    """limits.connections: who is over is closed at once, or told with 0x97 or 0x89 before; places come back."""
    broker = make_broker(shards, options={"limits": {"connections": 20}})
    watch = Watch(broker)
    inside = [broker.connect() for _ in range(20)]
    for _ in range(30):
        try:
            client = broker.client()
            client.send_connect()
            connack = client.receive()
            assert connack.kind == T.CONNACK and connack.reason in (R.QUOTA, R.SERVER_BUSY, R.SERVER_UNAVAILABLE)
            client.expect_closed()
        except (Closed, ConnectionError):
            pass
    for client in inside:
        client.ping()
    watch.rose("skerry_connections_refused_total", 30)
    broker.wait_event("connection_refused")
    inside.pop().disconnect()

    def again():
        try:
            return broker.client().connect()
        except (AssertionError, Closed, ConnectionError):
            return None

    eventually(again, "a place is free again")


@shards
def test_flood_of_connections_that_come_and_go(make_broker, shards):
    broker = make_broker(shards)
    before = broker.memory_bytes()
    for _ in range(20):
        streams = [Stream(("127.0.0.1", broker.port)) for _ in range(100)]
        for n, stream in enumerate(streams):
            if n % 2:
                stream.send(connect_packet(unique()))
            stream.close()
    broker.alive()
    eventually(lambda: broker.metrics().total("skerry_connections") == 0, "all are gone")
    assert broker.memory_bytes() - before < 32 * MIB + KEPT


def test_client_identifiers_that_fight(broker, topic):
    """Two clients that reconnect whenever they are thrown out: each take-over is clean, the session stays whole."""
    watch, name = Watch(broker), unique("twin")
    clients = [None, None]
    for n in range(100):
        mine = Client(broker.stream(), 5, name)
        mine.send_connect(clean=False, props={"session_expiry": 60})
        mine.expect(T.CONNACK, reason=0, session_present=n > 0)
        if n == 0:
            mine.subscribe(topic, qos=1)
        if clients[(n + 1) % 2]:
            clients[(n + 1) % 2].expect_disconnect(R.TAKEN_OVER)
        clients[n % 2] = mine
    watch.rose("skerry_takeovers_total", 99)
    broker.wait_event("session_taken_over")
    broker.connect().publish(topic, b"still mine", qos=1)
    mine.expect_publish(topic, b"still mine")


def test_simultaneous_fight(broker):
    """Many CONNECTs with one identifier before any answer is read: one is left, all others were told."""
    name = unique("crowd")
    clients = [broker.client(5, name) for _ in range(30)]
    for client in clients:
        client.send_connect(clean=False, props={"session_expiry": 60})
    for client in clients:
        client.expect(T.CONNACK, reason=0)
        client.send(PINGREQ)
    alive = 0
    for client in clients:
        got = client.expect_any()
        while got.kind == T.PINGRESP:
            kind = None
            try:
                got = client.receive(0.5)
            except TimeoutError:
                alive += 1
                kind = "alive"
                break
            except Closed:
                break
        else:
            kind = got.kind
        assert kind in ("alive", None, T.DISCONNECT)
    assert alive == 1
    broker.alive()


@shards
def test_a_million_filters(make_broker, shards):
    """limits.subscriptions: the rest is refused with 0x97, memory stays small."""
    broker = make_broker(shards, options={"limits": {"subscriptions": 1000}, "broker": {"memory_limit": "64MiB"}})
    watch, before = Watch(broker), broker.memory_bytes()
    client, granted, refused = broker.connect(), 0, 0
    for chunk in range(100):
        filters = [(f"f/{chunk * 10_000 + n}", 0) for n in range(10_000)]
        client.send(subscribe_packet(1 + chunk, filters))
        codes = client.expect(T.SUBACK, packet_id=1 + chunk).reasons
        granted += codes.count(0)
        refused += codes.count(R.QUOTA)
    assert (granted, refused) == (1000, 999_000)
    assert broker.memory_bytes() - before < 48 * MIB + KEPT
    assert broker.metrics().total("skerry_subscriptions") == 1000
    watch.rose("skerry_faults_total", 999_000, reason="0x97")
    broker.wait_event("subscribe_refused")
    broker.alive()


@shards
def test_wildcard_storm(make_broker, shards):
    """Hundreds of filters that all match, and topics made to be costly: answered in time, others are served."""
    broker = make_broker(shards)
    client = broker.connect()
    filters = []
    for bits in range(256):
        levels = ["+" if bits >> n & 1 else "a" for n in range(8)]
        filters += ["/".join(levels), "/".join([*levels[:-1], "#"])]
    client.subscribe(*sorted(set(filters)))
    publisher = broker.connect()
    started = time.monotonic()
    for _ in range(300):
        publisher.publish("a/a/a/a/a/a/a/a", b"x")
        publisher.publish("a/a/a/a/a/a/a/b", b"x")
    for _ in range(600):
        client.expect_publish()
    broker.alive()
    assert time.monotonic() - started < 4 * TIMEOUT_S


@shards
def test_wildcard_storm_over_retained(make_broker, shards, topic):
    """Subscribing to everything over and over, with many retained messages: other clients are answered meanwhile."""
    broker = make_broker(shards)
    publisher = broker.connect()
    for n in range(3000):
        publisher.publish(f"{topic}/{n % 50}/{n}", b"x" * 100, retain=True)
    publisher.ping()
    greedy = Client(broker.stream(receive_buffer=4096)).connect()
    greedy.send(*[subscribe_packet(1 + n, [("#", 0), ("+/#", 0), ("+/+/+/#", 0)]) for n in range(100)])
    other = broker.connect()
    for _ in range(50):
        other.ping()
    greedy.drop()
    broker.alive()


def test_deep_topics(broker):
    """65,535 bytes of separators, as names and filters."""
    client = broker.connect()
    deep = "/" * 65535
    client.send(subscribe_packet(1, [(deep, 0), ("+/" * 32767 + "+", 0), ("/" * 65534 + "#", 0)]))
    codes = client.expect(T.SUBACK, packet_id=1).reasons
    assert all(code in (0, R.FILTER_INVALID, R.QUOTA) for code in codes)
    broker.alive()


def test_many_user_properties(broker, topic):
    """A packet full of the smallest properties."""
    client = broker.connect()
    client.subscribe(topic)
    count = 100_000
    block = b"\x26\0\0\0\0" * count
    client.send(packet(T.PUBLISH, 0, text(topic) + varint(len(block)) + block))
    assert len(client.expect_publish(topic).all("user")) == count
    broker.alive()


def test_topic_alias_churn(broker, topic):
    """Long topics behind every alias, replaced over and over: memory stays bounded."""
    client, before = broker.connect(), broker.memory_bytes()
    for n in range(2000):
        client.publish(f"{topic}/{n}/" + "x" * 5000, b"", props={"topic_alias": 1 + n % 32})
    client.ping()
    assert broker.memory_bytes() - before < 16 * MIB + KEPT
    client.drop()


def test_metrics_port_gets_no_http(broker):
    """Noise, silence and half requests on the admin port."""
    streams = [Stream(("127.0.0.1", broker.metrics_port)) for _ in range(20)]
    for n, stream in enumerate(streams):
        stream.send([b"", b"\x10\x20", b"GET /metr", b"GET /metrics HTTP/1.1\r\n", os.urandom(500)][n % 5])
    assert broker.get("/healthz")[0] == 200
    broker.alive()
    for stream in streams:
        stream.close()


def test_log_is_rate_limited(make_broker):
    """A flood of the same event does not become a flood of lines."""
    broker = make_broker(options={"log": {"level": "info", "format": "text"}})
    for _ in range(300):
        client = broker.client()
        client.send(packet(0, 0, b""))
        client.expect_closed()
    elapse(0.05)
    assert len(broker.log().splitlines()) < 200
    assert broker.metrics().total("skerry_connections_accepted_total") >= 300
