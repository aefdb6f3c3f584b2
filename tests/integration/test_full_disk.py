"""A journal on a disk that is full or fails: what needs room is refused, the rest goes on, nothing acknowledged is lost.

The disk is a small tmpfs. Mounting it needs root, or a user namespace of our own.
"""

import os
import random
import resource
import subprocess
import time
from pathlib import Path

import pytest
from broker import Broker, eventually
from journaled import watched
from wire import SLOW, R, T, publish_packet, subscribe_packet, unique


pytestmark = [pytest.mark.skerry_only, pytest.mark.threads, pytest.mark.timeout(120)]

JOURNAL = {"segment": "256KiB", "reserve": "1MiB", "replay": "1MiB"}
LIMITS = {"queue_messages": 0, "queue_bytes": "1GiB"}
PAYLOAD = 2000
RECOVERY_S = 15 * SLOW


class SmallDisk:
    """A tmpfs. `path` is where the broker sees it, `view` where we do; `prefix` goes in front of the broker's command."""

    def __init__(self, path, size):
        self.path, self.view, self.prefix, self.holder = path, path, [], None
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
            return
        words = ["unshare", "--user", "--map-root-user", "--mount", "sleep", "infinity"]
        self.holder = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        enter = ["nsenter", "-t", str(self.holder.pid), "-U", "-m", "--preserve-credentials"]
        deadline = time.monotonic() + 5
        while True:
            done = subprocess.run([*enter, *mount], capture_output=True, text=True)
            if done.returncode == 0:
                break
            if time.monotonic() > deadline or self.holder.poll() is not None:
                self.end()
                pytest.fail(f"NOT TESTED: cannot mount a tmpfs, neither as root nor in a namespace: {done.stderr.strip()}")
            time.sleep(0.02)
        self.prefix = enter
        self.view = Path(f"/proc/{self.holder.pid}/root{path}")

    def free_bytes(self):
        facts = os.statvfs(self.view)
        return facts.f_bavail * facts.f_frsize

    def occupy(self, leave=0):
        """A foreign file takes what is left."""
        with open(self.view / "foreign", "wb") as file:
            while (free := self.free_bytes() - leave) > 0:
                file.write(bytes(min(free, 1 << 20)))
                file.flush()

    def release(self):
        (self.view / "foreign").unlink()

    def end(self):
        if self.holder:
            self.holder.kill()
            self.holder.wait()
        else:
            subprocess.run(["umount", "-l", str(self.path)], check=True)


class DiskBroker(Broker):
    disk = None

    def command(self):
        return [*self.disk.prefix, *super().command()]


@pytest.fixture(params=[1, 2], ids=lambda n: f"shards{n}")
def small(request, tmp_path):
    """(broker, disk) with 6 MiB of room."""
    disk = SmallDisk(tmp_path / "disk", "6m")
    brokers = []

    def make(**options):
        (tmp_path / "broker").mkdir()
        options = {"broker": {"data": str(disk.path / "data")}, "journal": JOURNAL, "limits": LIMITS} | options
        one = type("OneBroker", (DiskBroker,), {"disk": disk})(tmp_path / "broker", request.param, options)
        brokers.append(one)
        return one

    yield make, disk
    for one in brokers:
        if SLOW > 1 and one.process.poll() is None:
            one.stop()
        one.kill()
        one.check_log()
    disk.end()


def payload(number):
    return f"{number:08d}".encode().ljust(PAYLOAD, b"x")


def absent(broker, version, topic, qos=1):
    """A durable subscriber that is away."""
    client = broker.persistent(version)
    client.subscribe(topic, qos=qos)
    client.disconnect()
    return client


def fill(publisher, topic, qos=1, limit=20000):
    """Publishes one after the other until one is refused: the numbers that were accepted, and the number that was not."""
    for number in range(limit):
        ack = publisher.publish(topic, payload(number), qos=qos)
        if ack.reason >= 0x80:
            assert ack.reason == R.QUOTA, ack
            return list(range(number)), number
    raise AssertionError("never full")


def take(broker, away, count, first=0):
    """The subscriber comes back and gets `count` messages in order."""
    client = broker.client(away.version, away.client_id).connect(
        session_present=True, clean=False, props={"session_expiry": 3600} if away.version == 5 else None
    )
    for number in range(first, first + count):
        client.expect_publish(payload=payload(number))
    return client


def accepted_again(publisher, topic, number, qos=1):
    """Refused for as long as there is no room; then taken, without anybody doing anything."""
    return eventually(lambda: publisher.publish(topic, payload(number), qos=qos).reason < 0x80, "accepted again", RECOVERY_S)


def state(broker):
    metrics = broker.metrics()
    return next(name for name in ("ok", "full", "failing") if metrics.total("skerry_journal_state", state=name) == 1)


@pytest.mark.parametrize("qos", [1, 2])
def test_full_of_messages(small, topic, qos):
    """0x97; QoS 0, look-ups and deliveries go on; draining makes room; all that was acknowledged comes, in order."""
    make, _ = small
    broker = make()
    broker.connect().publish(f"{topic}/retained", b"kept", qos=1, retain=True)
    away = absent(broker, 5, topic, qos=2)
    publisher = broker.connect(5)
    accepted, refused = fill(publisher, topic, qos)
    assert len(accepted) > 500, "full too early"
    assert state(broker) == "full"

    live = broker.connect(4)
    live.subscribe(f"{topic}/live")
    publisher.publish(f"{topic}/live", b"still here")
    live.expect_publish(f"{topic}/live", b"still here")
    live.subscribe(f"{topic}/retained")
    live.expect_publish(f"{topic}/retained", b"kept", retain=True)
    # Nothing durable comes of it: no room is needed.
    live.subscribe(f"{topic}/clean", qos=1)
    assert publisher.publish(f"{topic}/clean", b"x", qos=1).reason == R.SUCCESS
    live.expect_publish(f"{topic}/clean", b"x", qos=1)
    assert publisher.publish(f"{topic}/nobody", b"x", qos=1).reason in (R.SUCCESS, R.NO_SUBSCRIBERS)
    assert publisher.publish(f"{topic}/retained", b"new", qos=1, retain=True).reason == R.QUOTA

    client = take(broker, away, len(accepted))
    accepted_again(publisher, topic, refused, qos)
    client.expect_publish(payload=payload(refused))
    eventually(lambda: state(broker) == "ok", "ok again", RECOVERY_S)
    broker.stop()


def test_before_5_gets_no_acknowledgement_and_is_not_read(small, topic):
    """Back-pressure, until there is room: then every message is acknowledged."""
    make, _ = small
    broker = make()
    away = absent(broker, 4, topic)
    filler = broker.connect(5)
    accepted, _ = fill(filler, topic)
    publisher = broker.connect(4)
    publisher.stream.socket.setblocking(False)
    sent, rest, deadline = 0, b"", time.monotonic() + 1.5 * SLOW
    while time.monotonic() < deadline:
        rest = rest or publish_packet(topic, payload(len(accepted) + sent), 1, sent % 60000 + 1, version=4)
        try:
            done = publisher.stream.socket.send(rest)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        rest = rest[done:]
        sent += not rest
    assert sent * PAYLOAD < 16 << 20, "everything was read"
    with pytest.raises(BlockingIOError):
        publisher.stream.socket.recv(1)
    assert broker.alive()

    # What had been sent whole is taken now, and what was half out with it; so there have to be readers for all of it.
    client = take(broker, away, len(accepted))
    publisher.stream.socket.setblocking(True)
    got = 0
    while got < sent:
        one = client.expect_publish(payload=payload(len(accepted) + got), timeout=RECOVERY_S)
        assert one.qos == 1
        got += 1
    for number in range(sent):
        publisher.expect_ack(T.PUBACK, number % 60000 + 1)
    broker.stop()


def test_foreign_file(small, topic):
    """Somebody else fills the disk; the reserve lets deliveries go on. With the file gone it recovers by itself."""
    make, disk = small
    broker = make()
    away = absent(broker, 5, topic)
    publisher = broker.connect(5)
    for number in range(100):
        assert publisher.publish(topic, payload(number), qos=1).reason == 0
    disk.occupy()
    count = 100
    while publisher.publish(topic, payload(count), qos=1).reason != R.QUOTA:
        count += 1
        assert count < 5000, "never refused"
    # Acknowledging and ending sessions needs records, too.
    for _ in range(50):
        one = broker.persistent(5, props={"receive_maximum": 10})
        one.disconnect(0, {"session_expiry": 0})
    client = take(broker, away, count)
    assert broker.alive()
    disk.release()
    accepted_again(publisher, topic, count)
    client.expect_publish(payload=payload(count))
    broker.stop()


@pytest.mark.parametrize("foreign", [False, True], ids=["own", "foreign"])
def test_killed_while_full(small, topic, foreign):
    """It starts on a full disk, serves what it has, and recovers when there is room."""
    make, disk = small
    broker = make()
    away = absent(broker, 4, topic, qos=2)
    publisher = broker.connect(5)
    if foreign:
        for number in range(300):
            assert publisher.publish(topic, payload(number), qos=1).reason == 0
        disk.occupy()
        accepted, refused = fill_on(publisher, topic, 300)
    else:
        accepted, refused = fill(publisher, topic)
    for _ in range(3):
        broker.kill()
        broker.start()
    publisher = broker.connect(5)
    assert publisher.publish(topic, payload(refused), qos=1).reason == R.QUOTA
    live = broker.connect(5)
    live.subscribe(f"{topic}/live")
    publisher.publish(f"{topic}/live", b"x")
    live.expect_publish(f"{topic}/live", b"x")
    client = take(broker, away, len(accepted))
    if foreign:
        disk.release()
    accepted_again(publisher, topic, refused)
    client.expect_publish(payload=payload(refused))
    eventually(lambda: broker.metrics().total("skerry_journal_queued_messages") == 0, "all acknowledged")
    broker.kill()
    broker.start()
    client.drop()
    take(broker, away, 0).ping()


def fill_on(publisher, topic, first):
    number = first
    while publisher.publish(topic, payload(number), qos=1).reason != R.QUOTA:
        number += 1
        assert number < 20000, "never refused"
    return list(range(number)), number


def test_limit_of_the_journal(make_broker, topic):
    """The same at journal.limit, with the disk far from full; and the files never take more."""
    broker = make_broker(1, {"journal": JOURNAL | {"limit": "4MiB"}, "limits": LIMITS})
    away = absent(broker, 5, topic)
    publisher = broker.connect(5)
    accepted, refused = fill(publisher, topic)
    assert len(accepted) > 500, "full too early"

    def size():
        return sum(path.stat().st_size for path in Path(broker.config["broker"]["data"]).rglob("*") if path.is_file())

    assert size() <= (4 << 20) + (64 << 10)
    client = take(broker, away, len(accepted))
    accepted_again(publisher, topic, refused)
    client.expect_publish(payload=payload(refused))
    assert size() <= (4 << 20) + (64 << 10)
    broker.stop()


def test_full_and_drained_again_and_again(make_broker, topic):
    """Room comes back whole each time, also with one old message that nobody fetches in between: it is copied forward."""
    broker = make_broker(1, {"journal": JOURNAL | {"limit": "4MiB"}, "limits": LIMITS})
    old = absent(broker, 5, f"{topic}/old")
    broker.connect(4).publish(f"{topic}/old", payload(4711), qos=1)
    away = absent(broker, 5, topic)
    publisher = broker.connect(5)
    taken = []
    for _ in range(3):
        accepted, _ = fill(publisher, topic)
        taken.append(len(accepted))
        take(broker, away, len(accepted)).disconnect()
        eventually(lambda: state(broker) == "ok", "ok again", RECOVERY_S)
    assert min(taken) > max(taken) * 0.8, taken
    broker.kill()
    broker.start()
    take(broker, old, 1, first=4711)


def test_many_clients_at_a_full_disk(small, topic):
    """Connects, subscriptions and unsubscriptions in numbers: some may be refused, none may hang or harm."""
    make, _ = small
    broker = make()
    away = absent(broker, 5, topic)
    publisher = broker.connect(5)
    accepted, _ = fill(publisher, topic)
    for number in range(100):
        one = broker.client(5, unique("full"))
        one.send_connect(clean=False, props={"session_expiry": 3600})
        connack = one.expect(T.CONNACK)
        if connack.reason:
            assert connack.reason in (R.QUOTA, R.SERVER_UNAVAILABLE, R.SERVER_BUSY), connack
            continue
        packet_id = one.next_id()
        one.send(subscribe_packet(packet_id, [(f"{topic}/{number}/{i}", 1) for i in range(20)]))
        suback = one.expect_ack(T.SUBACK, packet_id)
        assert all(reason in (1, R.QUOTA, R.UNSPECIFIED) for reason in suback.reasons), suback
        one.drop()
    assert broker.alive()
    take(broker, away, len(accepted))



@pytest.mark.parametrize("kind", ["syncs", "writes"])
def test_failing_disk(make_broker, tmp_path, topic, kind):
    """The disk refuses to sync, or to write: nothing is acknowledged meanwhile, everything after it, and it is all there."""
    watch = watched(tmp_path)
    broker = make_broker(1, {"broker": {"data": str(watch.directory)}, "limits": LIMITS}, env=watch.environment)
    away = absent(broker, 4, topic)
    publisher = broker.connect(4)
    for number in range(20):
        publisher.publish(topic, payload(number), qos=1)
    watch.fault(kind)
    for number in range(20, 40):
        publisher.publish(topic, payload(number), qos=1, wait=False, packet_id=1000 + number)
    with pytest.raises(TimeoutError):
        publisher.receive(timeout=0.5)
    eventually(lambda: state(broker) != "ok", "the state says so")
    live, sender = broker.connect(4), broker.connect(5)
    live.subscribe(f"{topic}/live", qos=1)
    sender.publish(f"{topic}/live", b"x", qos=1)
    live.expect_publish(f"{topic}/live", b"x")
    assert sender.publish(topic, b"durable", qos=1).reason == R.QUOTA
    watch.fault(None)
    for number in range(20, 40):
        publisher.expect_ack(T.PUBACK, 1000 + number)
    eventually(lambda: state(broker) == "ok", "ok again", RECOVERY_S)
    broker.kill()
    watch.cut("all", random.Random(1))
    broker.start()
    take(broker, away, 40)


def test_killed_while_the_disk_fails(make_broker, tmp_path, topic):
    """What was written and never synced may be there or not; what had been acknowledged before is."""
    watch = watched(tmp_path)
    broker = make_broker(1, {"broker": {"data": str(watch.directory)}, "limits": LIMITS}, env=watch.environment)
    away = absent(broker, 4, topic)
    publisher = broker.connect(4)
    for number in range(20):
        publisher.publish(topic, payload(number), qos=1)
    watch.fault("syncs")
    for number in range(20, 40):
        publisher.publish(topic, payload(number), qos=1, wait=False, packet_id=1000 + number)
    with pytest.raises(TimeoutError):
        publisher.receive(timeout=0.5)
    broker.kill()
    watch.fault(None)
    watch.cut("random", random.Random(1))
    broker.start()
    take(broker, away, 20)


def limit_files(broker, size):
    """Like `prlimit --fsize`, of a running broker: no file may grow beyond `size`, and writing behind it raises SIGXFSZ."""
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [0, 128 << 10], ids=["nothing", "half-a-segment"])
@pytest.mark.parametrize("shards", [1, 2])
def test_limit_of_file_sizes(make_broker, topic, shards, size):
    """RLIMIT_FSIZE is one more full disk, not the end of the process; once raised, everything goes on."""
    broker = make_broker(shards, {"journal": JOURNAL, "limits": LIMITS})
    away = absent(broker, 5, topic)
    publisher = broker.connect(5)
    for number in range(20):
        assert publisher.publish(topic, payload(number), qos=1).reason == 0
    limit_files(broker, size)
    # What is under way when the disk turns out to be full waits with its acknowledgement.
    waiting = broker.connect(5)
    count = 20
    while state(broker) == "ok":
        waiting.publish(topic, payload(count), qos=1, wait=False, packet_id=count)
        count += 1
        assert count < 5000, "never full"
        time.sleep(0.002)
    eventually(lambda: publisher.publish(topic, b"refused", qos=1).reason == R.QUOTA, "refused")
    live = broker.connect(4)
    live.subscribe(f"{topic}/live", qos=1)
    for qos in (0, 1):
        publisher.publish(f"{topic}/live", b"still here", qos=qos)
        live.expect_publish(f"{topic}/live", b"still here", qos=qos)
    assert broker.alive()

    limit_files(broker, resource.RLIM_INFINITY)
    eventually(lambda: state(broker) == "ok", "ok again", RECOVERY_S)
    acks = {number: waiting.expect_ack(T.PUBACK, number).reason for number in range(20, count)}
    assert set(acks.values()) <= {R.SUCCESS, R.QUOTA}
    broker.kill()
    broker.start()
    client = take(broker, away, 20)
    for number, reason in acks.items():
        if reason == R.SUCCESS:
            client.expect_publish(payload=payload(number))
    client.ping()
