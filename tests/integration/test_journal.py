"""The journal of a running broker: what survives a restart and a kill, what waits for the disk, and what has limits."""

import os
import random
import sys
import threading
import time
from pathlib import Path

import pytest
from broker import elapse, eventually, settle, skerry_binary
from wire import SLOW, R, T, publish_packet, unique

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
from powercut import SYNC, PowerCut  # noqa: E402

pytestmark = [pytest.mark.skerry_only, pytest.mark.timeout(120)]

SMALL = {"segment": "256KiB", "reserve": "512KiB", "replay": "256KiB"}
STEADY = {"sys": {"interval": "off"}}


@pytest.fixture(params=["stop", "kill"])
def how(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=lambda n: f"shards{n}")
def broker(request, make_broker):
    return make_broker(request.param, {"journal": SMALL, **STEADY})


def restart(broker, how, down_s=0):
    if how == "stop":
        broker.stop()
    else:
        broker.kill()
    if down_s:
        elapse(down_s)
    broker.start()


def resume(broker, client, present=True, expiry_s=3600, **kw):
    """The same client identifier again."""
    client.stream.close()
    again = broker.client(client.version, client.client_id)
    props = [*kw.pop("props", {}).items()] + [("session_expiry", expiry_s)] if client.version == 5 else None
    return again.connect(session_present=present, clean=False, props=props, **kw)


def absent(broker, version, *filters, **kw):
    client = broker.persistent(version)
    client.subscribe(*filters, **kw)
    client.disconnect()
    return client


def watched(tmp_path, **kw):
    library = Path(os.environ.get("SKERRY_BUILD", Path(skerry_binary()).parent)) / "tests/crash/powercut.so"
    assert library.exists(), f"{library} was not built"
    data = tmp_path / "watched"
    data.mkdir()
    return PowerCut(library.resolve(), data, tmp_path / "undo", **kw)


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


def test_queued_messages_with_properties(broker, how, topic):
    client = broker.persistent(5)
    client.subscribe(f"{topic}/#", qos=2, props={"subscription_id": 11})
    client.disconnect()
    older = absent(broker, 4, f"{topic}/#", qos=1)
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/1", "first", qos=1, props=[*PROPERTIES, ("message_expiry", 1000)])
    publisher.publish(f"{topic}/2", b"", qos=2, props=PROPERTIES)
    publisher.publish(f"{topic}/soon", "gone", qos=1, props={"message_expiry": 1})
    publisher.publish(f"{topic}/3", bytes(300_000), qos=1)  # larger than a segment
    publisher.publish(f"{topic}/4", "last", qos=2, retain=True)
    restart(broker, how, down_s=1.2)
    restart(broker, how)
    client, older = resume(broker, client), resume(broker, older)
    first = client.expect_publish(f"{topic}/1", "first", qos=1, dup=False, retain=False)
    assert [one for one in first.props if one[0] not in ("message_expiry", "subscription_id")] == PROPERTIES
    assert 980 <= first.prop("message_expiry") <= 999
    second = client.expect_publish(f"{topic}/2", b"", qos=2, dup=False)
    assert [one for one in second.props if one[0] != "subscription_id"] == PROPERTIES
    client.expect_publish(f"{topic}/3", bytes(300_000), qos=1)
    last = client.expect_publish(f"{topic}/4", "last", qos=2, retain=False)
    assert all(one.all("subscription_id") == [11] for one in (first, second, last))
    older.expect_publish(f"{topic}/1", "first", qos=1)
    older.expect_publish(f"{topic}/2", b"", qos=1)
    older.expect_publish(f"{topic}/3", bytes(300_000), qos=1)
    older.expect_publish(f"{topic}/4", "last", qos=1)
    settle(broker.connect(), client, older)


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
    """The death of the broker breaks the connection as any other: the will is sent, once, at the latest after the restart."""
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
    restart(broker, how)
    watcher = resume(broker, watcher)
    settle(broker.connect(), watcher)


def test_will_delay_goes_on(broker, how, topic):
    """Not before its time, and not at all when the client comes back before."""
    watcher = broker.persistent(5)
    watcher.subscribe(f"{topic}/#", qos=1)
    props = {"will_delay": 3, "content_type": "c", "user": ("k", "v")}
    owner = broker.persistent(5, will=will(f"{topic}/late", props=props))
    back = broker.persistent(5, will=will(f"{topic}/never", props={"will_delay": 2}))
    owner.drop()
    back.drop()
    lost = time.monotonic()
    for one in (owner, back):
        eventually(lambda: broker.metrics().total("skerry_sessions") - broker.metrics().total("skerry_connections") >= 2, "away")
    restart(broker, how)
    watcher = resume(broker, watcher)
    back = resume(broker, back)
    got = watcher.expect_publish(f"{topic}/late", b"will", qos=1, timeout=10 * SLOW)
    assert 2.5 < time.monotonic() - lost < 3 + 4 * SLOW
    assert got.prop("content_type") == "c" and got.all("user") == [("k", "v")]
    settle(broker.connect(), watcher)


def test_will_that_became_due_while_down(broker, how, topic):
    watcher = absent(broker, 4, topic, qos=1)
    owner = broker.persistent(5, will=will(topic, props={"will_delay": 1}))
    owner.drop()
    eventually(lambda: broker.metrics().total("skerry_connections") == 0, "away")
    broker.alive()
    restart(broker, how, down_s=1.3)
    resume(broker, watcher).expect_publish(topic, b"will", qos=1, timeout=0.7 * SLOW)


# -------------------------------------------------------------------------------------------------------------- expiries


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


def test_session_expiry_goes_on_after_a_restart(broker, how):
    client = broker.persistent(5, expiry_s=2)
    client.subscribe(unique(), qos=1)
    client.disconnect()
    restart(broker, how)
    assert broker.metrics().total("skerry_sessions") == 1
    eventually(lambda: broker.metrics().total("skerry_sessions") == 0, "expired", timeout=3 * SLOW)


# -------------------------------------------------------------------------------------------------------------- retained


def retained(broker, topic_filter, version=5):
    """{topic: packet} of what is retained."""
    client = broker.connect(version)
    client.subscribe(topic_filter, qos=2)
    client.publish(marker := unique("marker/"), b"", qos=0)
    client.subscribe(marker, qos=0)
    out = {}
    while True:
        client.send(b"\xc0\x00")
        one = client.expect_any()
        while one.kind == T.PUBLISH:
            out[one.topic] = one
            if one.qos == 1:
                client.ack(T.PUBACK, one.packet_id)
            elif one.qos == 2:
                client.ack(T.PUBREC, one.packet_id)
            one = client.expect_any()
        if one.kind == T.PINGRESP:
            break
    return out


def test_retained_messages(broker, how, topic):
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/a", "old", qos=1, retain=True)
    publisher.publish(f"{topic}/a", "new", qos=1, retain=True, props=PROPERTIES)
    publisher.publish(f"{topic}/b/c", "two", qos=2, retain=True)
    publisher.publish(f"{topic}/gone", "x", qos=1, retain=True)
    publisher.publish(f"{topic}/gone", b"", qos=1, retain=True)
    publisher.publish(f"{topic}/long", "x", qos=1, retain=True, props={"message_expiry": 1000})
    publisher.publish(f"{topic}/short", "x", qos=1, retain=True, props={"message_expiry": 1})
    publisher.publish(f"{topic}/large", bytes(300_000), qos=1, retain=True)
    publisher.publish(f"{topic}/zero", "qos 0", qos=0, retain=True)
    publisher.publish(f"{topic}/after", "1", qos=1, retain=True)  # behind it in order
    restart(broker, how, down_s=1.2)
    client = broker.connect(5)
    client.subscribe(f"{topic}/a", f"{topic}/b/+", f"{topic}/long", f"{topic}/large", f"{topic}/zero", qos=2)
    got = {one.topic: one for one in (client.expect_publish(retain=True) for _ in range(5))}
    assert got[f"{topic}/a"].payload == b"new" and got[f"{topic}/a"].props == PROPERTIES
    assert got[f"{topic}/b/c"].payload == b"two" and got[f"{topic}/b/c"].qos == 2
    assert 980 <= got[f"{topic}/long"].prop("message_expiry") <= 999
    assert got[f"{topic}/large"].payload == bytes(300_000)
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


# ---------------------------------------------------------------------------------------------------------------- limits


def drops(broker, reason):
    return broker.metrics().total("skerry_copies_dropped_total", reason=reason)


@pytest.mark.parametrize("drop", ["oldest", "newest", "reject"])
def test_full_queue(make_broker, how, topic, drop):
    limits = {"queue_messages": 5, "queue_drop": drop}
    broker = make_broker(1, {"journal": SMALL, "limits": limits, **STEADY})
    away = absent(broker, 5, topic, qos=1)
    publisher = broker.connect(5)
    reasons = [publisher.publish(topic, str(number), qos=1).reason for number in range(8)]
    assert reasons == [0] * 5 + [R.QUOTA if drop == "reject" else 0] * 3
    assert broker.metrics().total("skerry_journal_queued_messages") == 5
    restart(broker, how)
    publisher = broker.connect(5)
    assert publisher.publish(topic, "8", qos=1).reason == (R.QUOTA if drop == "reject" else 0)
    client = resume(broker, away)
    for number in range(4, 9) if drop == "oldest" else range(5):
        client.expect_publish(topic, str(number), qos=1)
    settle(publisher, client)


def test_full_queue_by_bytes(make_broker, how, topic):
    broker = make_broker(1, {"journal": SMALL, "limits": {"queue_bytes": "100KiB"}, **STEADY})
    away = absent(broker, 4, topic, qos=1)
    publisher = broker.connect(5)
    for number in range(30):
        publisher.publish(topic, f"{number:02d}".encode() + bytes(9_998), qos=1)
    restart(broker, how)
    metrics = broker.metrics()
    held = int(metrics.total("skerry_journal_queued_messages"))
    assert 8 <= held <= 10 and metrics.total("skerry_journal_queued_bytes") <= 100 * 1024
    client = resume(broker, away)
    for number in range(30 - held, 30):
        assert client.expect_publish(topic).payload[:2] == b"%02d" % number
    settle(broker.connect(), client)


def test_queue_age(make_broker, how, topic):
    broker = make_broker(1, {"journal": SMALL, "limits": {"queue_age": "1s"}, **STEADY})
    away = absent(broker, 4, topic, qos=1)
    publisher = broker.connect(5)
    for number in range(3):
        publisher.publish(topic, str(number), qos=1)
    restart(broker, how, down_s=2.2)
    publisher = broker.connect(5)
    publisher.publish(topic, "young", qos=1)
    client = resume(broker, away)
    client.expect_publish(topic, "young", qos=1)
    settle(publisher, client)
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 0, "nothing waits")


def test_no_limit_by_count(make_broker, how, topic):
    """queue_messages: 0, and order over many messages, blocks and segments, also when fetched in parts over restarts."""
    broker = make_broker(1, {"journal": SMALL, "limits": {"queue_messages": 0}, **STEADY})
    away = absent(broker, 4, topic, qos=1)
    count = 3000
    flood(broker, topic, count, 200)
    got = 0
    for part in (700, 1000, count):
        restart(broker, how)
        client = resume(broker, away)
        while got < part:
            packet = client.expect_publish(topic, ack=False)
            number = int(packet.payload[:8])
            assert number == got, "order"
            client.ack(T.PUBACK, packet.packet_id)
            got += 1
        # What the acknowledgements left is on the disk before the kill.
        eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == count - part, "all acknowledged")
    settle(broker.connect(), client)


def flood(broker, topic, count, size, qos=1):
    """Publishes with a thread that reads the acknowledgements; returns when all have come."""
    publisher = broker.connect(4)
    head = publish_packet(topic, bytes(size), qos, 1, version=4)[:-size - 2]
    acks = 0

    def read():
        nonlocal acks
        have = 0
        while have < 4 * count:
            have += len(publisher.stream.socket.recv(1 << 18))
        acks = have // 4

    publisher.stream.socket.settimeout(60 * SLOW)
    reader = threading.Thread(target=read)
    reader.start()
    batch, filler = bytearray(), b"x" * (size - 8)
    for number in range(count):
        batch += head + (number % 60000 + 1).to_bytes(2, "big") + b"%08d" % number + filler
        if len(batch) > 1 << 16:
            publisher.stream.socket.sendall(batch)
            batch.clear()
    publisher.stream.socket.sendall(batch)
    reader.join()
    assert acks == count
    publisher.drop()


def test_backlog_larger_than_memory(make_broker, topic):
    """80 MB wait; the process has not grown by a fraction of that, and is back at once after a kill. Then it all comes."""
    options = {"journal": {"segment": "4MiB", "reserve": "4MiB", "replay": "4MiB"}, **STEADY}
    broker = make_broker(1, {**options, "limits": {"queue_messages": 0, "queue_bytes": "1GiB"}})
    away = absent(broker, 4, topic, qos=1)
    idle = broker.memory_bytes()
    count, size = 80_000, 1000
    flood(broker, topic, count, size)
    slack = (24 << 20) * (8 if SLOW > 1 else 1)
    assert broker.memory_bytes() - idle < slack
    assert broker.metrics().total("skerry_journal_queued_messages") == count
    broker.kill()
    began = time.monotonic()
    broker.start()
    assert time.monotonic() - began < 2 * SLOW
    assert broker.memory_bytes() - idle < slack
    client = resume(broker, away)
    drain(client, count, size)
    assert broker.memory_bytes() - idle < slack
    client.stream.socket.settimeout(5)
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 0, "all acknowledged")
    eventually(lambda: broker.metrics().total("skerry_journal_bytes") < 40 << 20, "room is given back")


def drain(client, count, size):
    """Receives and acknowledges `count` messages of `size` bytes in order, fast."""
    sock, raw, at, number = client.stream.socket, client.input, 0, 0
    sock.settimeout(20 * SLOW)
    while number < count:
        answers = bytearray()
        while True:
            if len(raw) - at < 5:
                break
            length, shift, head = 0, 0, 1
            while True:
                digit = raw[at + head]
                length |= (digit & 0x7F) << shift
                shift, head = shift + 7, head + 1
                if digit < 0x80:
                    break
            if len(raw) - at < head + length:
                break
            end = at + head + length
            assert raw[at] & 0xF6 == 0x32, raw[at]
            packet_id = raw[end - size - 2 : end - size]
            assert int(raw[end - size : end - size + 8]) == number, "order"
            answers += b"\x40\x02" + packet_id
            at, number = end, number + 1
        sock.sendall(answers)
        if number < count:
            data = sock.recv(1 << 18)
            assert data, "closed"
            raw, at = raw[at:] + data, 0
    client.input = raw[at:]


# ------------------------------------------------------------------------------------------------------------- durability


DELAY_S = 0.3


@pytest.fixture(params=[1, 2], ids=lambda n: f"shards{n}")
def slow_disk(request, make_broker, tmp_path):
    """(broker, undo log) where each sync takes DELAY_S."""
    watch = watched(tmp_path, delay_us=int(DELAY_S * 1e6))
    broker = make_broker(request.param, {"broker": {"data": str(watch.directory)}, **STEADY}, env=watch.environment)
    return broker, watch


def took(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_what_waits_for_the_commit(slow_disk, version, topic):
    broker, _ = slow_disk
    durable = broker.persistent(version)
    assert took(lambda: durable.subscribe(f"{topic}/durable", qos=2)) >= DELAY_S * 0.9, "SUBACK"
    publisher = broker.connect(version)
    assert took(lambda: publisher.publish(f"{topic}/durable", "x", qos=1)) >= DELAY_S * 0.9, "PUBACK"
    durable.expect_publish(f"{topic}/durable", "x", qos=1)
    assert took(lambda: publisher.publish(f"{topic}/retained", "x", qos=1, retain=True)) >= DELAY_S * 0.9, "retained"
    sender = broker.persistent(version)
    sender.send(publish_packet(f"{topic}/durable", "y", 2, 77, version=version))
    assert took(lambda: sender.expect_ack(T.PUBREC, 77)) >= DELAY_S * 0.9, "PUBREC"
    sender.ack(T.PUBREL, 77)
    assert took(lambda: sender.expect_ack(T.PUBCOMP, 77)) >= DELAY_S * 0.9, "PUBCOMP"


def test_what_does_not_wait(slow_disk, version, topic):
    """Clients without a session: no disk in any of it, also while the disk is busy for others."""
    broker, watch = slow_disk
    clean, publisher = broker.connect(version), broker.connect(version)
    busy = broker.connect(version)
    absent(broker, version, f"{topic}/durable", qos=1)
    before = len(watch.records())
    fast = DELAY_S * 0.6 * SLOW

    def traffic():
        clean.subscribe(f"{topic}/clean", qos=2)
        for qos in (0, 1, 2):
            publisher.publish(f"{topic}/clean", "x", qos=qos)
            clean.expect_publish(f"{topic}/clean", "x", qos=qos)
        publisher.publish(f"{topic}/nobody", "x", qos=1)
        clean.unsubscribe(f"{topic}/clean")

    assert took(traffic) < fast
    eventually(lambda: all_synced(watch), "what was written before is synced", timeout=10)
    before = len(watch.records())
    for _ in range(20):
        traffic()
    broker.connect(version).disconnect()
    assert len(watch.records()) == before, "the disk was touched"
    for number in range(3):
        busy.publish(f"{topic}/durable", "x", qos=1, wait=False, packet_id=number + 1)
    assert took(traffic) < fast
    for number in range(3):
        busy.expect_ack(T.PUBACK, number + 1)


def all_synced(watch):
    """Nothing is written any more: the store is idle."""
    count = len(watch.records())
    elapse(2 * DELAY_S)
    return len(watch.records()) == count


def test_acknowledgements_keep_their_order(slow_disk, topic):
    """One that needs no disk waits behind one of the same publisher that does [MQTT-4.6.0-2]."""
    broker, _ = slow_disk
    absent(broker, 5, f"{topic}/durable", qos=1)
    publisher = broker.connect(5)
    publisher.publish(f"{topic}/durable", "x", qos=1, wait=False, packet_id=1)
    publisher.publish(f"{topic}/nobody", "x", qos=1, wait=False, packet_id=2)
    publisher.expect(T.PUBACK, packet_id=1)
    publisher.expect(T.PUBACK, packet_id=2)


def test_dup_of_what_was_sent_when_acknowledgements_were_on_their_way(slow_disk, topic):
    """More was sent than the window allows, because what it acknowledged had not yet been forgotten on the disk at the kill."""
    broker, _ = slow_disk
    client = broker.persistent(5, props={"receive_maximum": 2})
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = broker.connect(5)
    for number in range(6):
        publisher.publish(topic, str(number), qos=1, wait=False, packet_id=number + 1)
    for number in range(6):
        publisher.expect_ack(T.PUBACK, number + 1)
    client = resume(broker, client, props={"receive_maximum": 2})
    for number in range(6):
        client.expect_publish(topic, str(number), dup=False)
    broker.kill()
    broker.start()
    client = resume(broker, client)
    again = []
    while not again or again[-1].payload != b"5":
        again.append(client.expect_publish(topic, ack=False))
    assert all(one.dup for one in again), again


def test_commits_are_grouped(slow_disk, topic):
    """Many publishers at once share the syncs."""
    broker, watch = slow_disk
    absent(broker, 5, topic, qos=1)
    publishers = [broker.connect(5) for _ in range(20)]
    syncs = sum(record.kind == SYNC for record in watch.records())
    began = time.monotonic()
    for one in publishers:
        for number in range(10):
            one.publish(topic, "x", qos=1, wait=False, packet_id=number + 1)
    for one in publishers:
        for number in range(10):
            one.expect_ack(T.PUBACK, number + 1)
    assert time.monotonic() - began < 5 * DELAY_S * SLOW
    assert sum(record.kind == SYNC for record in watch.records()) - syncs <= 6


@pytest.mark.parametrize("mode", ["memory", "interval"])
def test_other_durability_does_not_wait(make_broker, tmp_path, topic, mode):
    watch = watched(tmp_path, delay_us=int(DELAY_S * 1e6))
    options = {"broker": {"data": str(watch.directory)}, "journal": {"durability": mode}, **STEADY}
    broker = make_broker(1, options, env=watch.environment)
    away = broker.persistent(5)
    assert took(lambda: away.subscribe(topic, qos=1)) < DELAY_S * 0.6 * SLOW
    away.disconnect()
    publisher = broker.connect(5)
    for number in range(10):
        assert took(lambda: publisher.publish(topic, f"{number}", qos=1)) < DELAY_S * 0.6 * SLOW
    if mode == "memory":
        assert not watch.records()
        broker.kill()
        broker.start()
        resume(broker, away, present=False)
        return
    # A kill loses nothing that is written, and that is as soon as the sync before it is over.
    elapse(3 * DELAY_S * SLOW)
    broker.kill()
    broker.start()
    client = resume(broker, away)
    for number in range(10):
        client.expect_publish(topic, str(number), qos=1)


def test_interval_loses_at_most_the_interval(make_broker, tmp_path, topic):
    watch = watched(tmp_path)
    options = {"broker": {"data": str(watch.directory)}, "journal": {"durability": "interval", "interval": "200ms"}, **STEADY}
    broker = make_broker(1, options, env=watch.environment)
    away = absent(broker, 5, topic, qos=1)
    publisher = broker.connect(5)
    for number in range(10):
        publisher.publish(topic, f"{number}", qos=1)
    eventually(lambda: broker.metrics().total("skerry_journal_messages_total") == 10, "written")
    elapse(0.5 * SLOW)
    for number in range(10, 20):
        publisher.publish(topic, f"{number}", qos=1)
    broker.kill()
    watch.cut("all", random.Random(1))
    broker.start()
    client = resume(broker, away)
    for number in range(10):
        client.expect_publish(topic, str(number), qos=1)


def test_no_directory(make_broker, topic):
    """Everything in memory, and the log says so once."""
    broker = make_broker(1, STEADY)
    broker.stop()
    before = len(broker.log())
    broker.config["broker"].pop("data")
    broker.write_config()
    broker.start()
    away = absent(broker, 5, topic, qos=1)
    broker.connect().publish(topic, "x", qos=1)
    resume(broker, away).expect_publish(topic, "x", qos=1)
    said = [line for line in broker.log()[before:].splitlines() if "memory" in line]
    assert len(said) == 1, broker.log()


# --------------------------------------------------------------------------------------------------------------- opening


def journal_files(broker, suffix):
    return sorted(Path(broker.config["broker"]["data"]).rglob(f"*.{suffix}"))


def test_second_broker_refuses(make_broker):
    first = make_broker(1)
    data = first.config["broker"]["data"]
    second = make_broker(1, {"broker": {"data": data}}, wait=False)
    assert second.wait() != 0
    assert data in second.log(), second.log()
    assert first.alive()


def test_damage_in_the_middle(make_broker, topic):
    """The damaged part is named in the log, the rest is delivered, and the broker serves."""
    broker = make_broker(1, {"journal": {"segment": "64KiB", "reserve": "64KiB", "replay": "64KiB"}, **STEADY})
    away = absent(broker, 4, topic, qos=1)
    flood(broker, topic, 400, 1000)
    broker.kill()
    victim = journal_files(broker, "segment")[2]
    with open(victim, "r+b") as file:
        file.seek(victim.stat().st_size // 2)
        file.write(b"\xa5" * 700)
    broker.start()
    client = resume(broker, away)
    got = []
    while True:
        client.send(b"\xc0\x00")
        one = client.expect_any()
        while one.kind == T.PUBLISH:
            got.append(int(one.payload[:8]))
            client.ack(T.PUBACK, one.packet_id)
            one = client.expect_any()
        if len(got) >= 390 and got[-1] == 399:
            break
    assert 395 <= len(set(got)) < 400
    assert sorted(set(got)) == list(dict.fromkeys(got)), "order"
    assert any(victim.stem in line and " warning " in line or " error " in line for line in broker.log().splitlines())
    assert broker.metrics().total("skerry_journal_damaged_messages_total") == 400 - len(set(got))
    broker.stop()


def contents(broker):
    paths = Path(broker.config["broker"]["data"]).rglob("*")
    return {path: path.read_bytes() for path in paths if path.is_file() and path.name != "lock"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_newer_format_is_left_alone(make_broker):
    broker = make_broker(1)
    broker.persistent(5).disconnect()
    broker.stop()
    segment = journal_files(broker, "segment")[0]
    raw = bytearray(segment.read_bytes())
    raw[8:12] = (2).to_bytes(4, "little")
    raw[60:64] = crc32c(raw[:60]).to_bytes(4, "little")
    segment.write_bytes(raw)
    before = contents(broker)
    broker.spawn()
    assert broker.wait() != 0
    assert "version 2" in broker.log(), broker.log()
    assert contents(broker) == before


def test_directory_of_another_broker(make_broker):
    broker = make_broker(1)
    broker.persistent(5).disconnect()
    broker.stop()
    broker.config["broker"]["id"] = "another"
    broker.write_config()
    broker.spawn()
    assert broker.wait() != 0
    assert "another" in broker.log()
    broker.config["broker"]["id"] = "test"
    broker.write_config()
    broker.start()


# ---------------------------------------------------------------------------------------------------------------- ledger


def test_ledger_over_restarts(make_broker, how, topic):
    """Every copy that was queued is delivered, dropped for a reason, or waits: over restarts, too."""
    broker = make_broker(1, {"journal": SMALL, "limits": {"queue_messages": 50}, **STEADY})
    away = absent(broker, 5, topic, qos=1)
    publisher = broker.connect(5)
    for number in range(70):
        publisher.publish(topic, str(number), qos=1)
    restart(broker, how)
    metrics = broker.metrics()
    assert metrics.total("skerry_journal_queued_messages") == 50
    client = resume(broker, away)
    for number in range(20, 40):
        client.expect_publish(topic, str(number))
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 30, "30 wait")
    restart(broker, "stop")
    assert broker.metrics().total("skerry_journal_queued_messages") == 30
