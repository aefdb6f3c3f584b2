"""The journal of a running broker: limits, backlogs, what waits for the disk, damaged and foreign directories."""

import random
import threading
import time
from pathlib import Path

import pytest
from broker import elapse, eventually, settle
from journaled import SMALL, STEADY, absent, field, how, restart, resume, watched  # noqa: F401
from powercut import SYNC
from wire import SLOW, R, T, publish_packet, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads, pytest.mark.timeout(120)]


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
    slack = 24 << 20 if SLOW == 1 else 1 << 30  # a sanitizer keeps what was freed for a while
    assert broker.memory_bytes() - idle < slack
    assert broker.metrics().total("skerry_journal_queued_messages") == count
    broker.kill()
    broker.start()
    # Back at once: it has not read all of it.
    assert field(broker.events("journal_opened")[-1], "replayed_bytes") < 12 << 20
    assert broker.memory_bytes() - idle < slack
    client = resume(broker, away)
    drain(client, count, size)
    assert broker.memory_bytes() - idle < slack
    client.stream.socket.settimeout(5)
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 0, "all acknowledged")
    # With the checkpoints of what comes next, room is given back.
    flood(broker, topic, 10_000, size)
    drain(client, 10_000, size)
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


DELAY_S = 0.2


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


@pytest.mark.parametrize("version", [4, 5], ids=["v311", "v5"])
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


@pytest.mark.parametrize("version", [4, 5], ids=["v311", "v5"])
def test_what_does_not_wait(slow_disk, version, topic):
    """Clients without a session: no disk in any of it, also while the disk is busy for others."""
    broker, watch = slow_disk
    clean, publisher = broker.connect(version), broker.connect(version)
    busy = broker.connect(version)
    absent(broker, version, f"{topic}/durable", qos=1)

    def traffic():
        clean.subscribe(f"{topic}/clean", qos=2)
        for qos in (0, 1, 2):
            publisher.publish(f"{topic}/clean", "x", qos=qos)
            clean.expect_publish(f"{topic}/clean", "x", qos=qos)
        publisher.publish(f"{topic}/nobody", "x", qos=1)
        clean.unsubscribe(f"{topic}/clean")

    with watch.held():
        traffic()
    eventually(lambda: all_synced(watch), "what was written before is synced", timeout=30)
    before = len(watch.records())
    for _ in range(20):
        traffic()
    broker.connect(version).disconnect()
    assert len(watch.records()) == before, "the disk was touched"
    with watch.held():
        for number in range(3):
            busy.publish(f"{topic}/durable", "x", qos=1, wait=False, packet_id=number + 1)
        traffic()
        with pytest.raises(TimeoutError):
            busy.receive(timeout=0.2)
    for number in range(3):
        busy.expect_ack(T.PUBACK, number + 1)


def all_synced(watch):
    """Nothing is written any more: the store is idle."""
    count = len(watch.records())
    elapse(5 * DELAY_S)
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
    """More was sent than the window allows: at the kill the disk did not know yet what had been acknowledged."""
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
    came = broker.metrics().total("skerry_publish_received_total") + 10 * len(publishers)
    with watch.held():
        for one in publishers:
            for number in range(10):
                one.publish(topic, "x", qos=1, wait=False, packet_id=number + 1)
        eventually(lambda: broker.metrics().total("skerry_publish_received_total") == came, "all are read")
    for one in publishers:
        for number in range(10):
            one.expect_ack(T.PUBACK, number + 1)
    assert sum(record.kind == SYNC for record in watch.records()) - syncs <= 6


@pytest.mark.parametrize("mode", ["memory", "interval"])
def test_other_durability_does_not_wait(make_broker, tmp_path, topic, mode):
    watch = watched(tmp_path)
    options = {"broker": {"data": str(watch.directory)}, "journal": {"durability": mode}, **STEADY}
    broker = make_broker(1, options, env=watch.environment)
    away = broker.persistent(5)
    with watch.held():
        away.subscribe(topic, qos=1)
        away.disconnect()
        publisher = broker.connect(5)
        for number in range(10):
            publisher.publish(topic, f"{number}", qos=1)
    if mode == "memory":
        assert not watch.records()
        broker.kill()
        broker.start()
        resume(broker, away, present=False)
        return
    # A kill loses nothing that is written, and that is as soon as the sync before it is over.
    eventually(lambda: all_synced(watch), "all is written", timeout=30)
    broker.kill()
    broker.start()
    client = resume(broker, away)
    for number in range(10):
        client.expect_publish(topic, str(number), qos=1)


def test_interval_loses_at_most_the_interval(make_broker, tmp_path, topic):
    watch = watched(tmp_path)
    journal = {"durability": "interval", "interval": "200ms"}
    options = {"broker": {"data": str(watch.directory)}, "journal": journal, **STEADY}
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
    raw[8:12] = (99).to_bytes(4, "little")
    raw[60:64] = crc32c(raw[:60]).to_bytes(4, "little")
    segment.write_bytes(raw)
    before = contents(broker)
    broker.spawn()
    assert broker.wait() != 0
    assert "version 99" in broker.log(), broker.log()
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
