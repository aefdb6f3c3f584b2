"""`skerry journal`: info, verify and dump on directories of running, stopped and killed brokers, and on damaged ones.

The files are read here by a program of its own, written from docs/formats/journal.md: so that page is tested too.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import signal
import struct
import subprocess
import threading

import pytest
from broker import START_S, free_port, skerry_binary
from wire import SLOW, Client, Stream, T, unique

pytestmark = pytest.mark.skerry_only

SMALL = {"journal": {"segment": "64KiB", "limit": "16MiB", "reserve": "64KiB", "replay": "128KiB"}}
MESSAGE, MESSAGE_COPY, SESSION, BATCH = 8, 34, 1, 32
WILL, OWNER, CHECKPOINT_SESSION = 7, 13, 36


def journal(*words):
    """(exit code, standard output, standard error)"""
    done = subprocess.run(
        [skerry_binary(), "journal", *map(str, words)], capture_output=True, timeout=START_S * 3, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def journal_json(*words, code=0):
    got, out, err = journal(*words, "--json")
    assert got == code, f"exit code {got}\n{out}\n{err}"
    return json.loads(out)


def dump(*words, code=0):
    got, out, err = journal("dump", "--json", *words)
    assert got == code, f"exit code {got}\n{err}"
    return [json.loads(line) for line in out.splitlines()]


# ------------------------------------------------------------------------------- the format, as docs/formats/journal.md has it


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Segment:
    """One file, read to its end: records are (offset, type, sequence, body)."""

    def __init__(self, path):
        self.path, self.data = path, path.read_bytes()
        magic, self.version, self.number = struct.unpack_from("<8sII", self.data)
        assert magic == b"SKRYSGMT" and self.version in (1, 2) and path.name == f"{self.number:010}.segment"
        self.identity = self.data[16:32]
        (self.first_sequence,) = struct.unpack_from("<Q", self.data, 32)
        assert self.data[40:60] == bytes(20)
        assert struct.unpack_from("<I", self.data, 60)[0] == crc32c(self.data[:60])
        self.records, self.end = [], 64
        seed = crc32c(self.identity + struct.pack("<I", self.number))
        sequence = self.first_sequence
        while self.end + 16 <= len(self.data):
            checksum, size, mark = struct.unpack_from("<IIQ", self.data, self.end)
            if mark >> 56 == 0 or mark & ((1 << 56) - 1) != sequence or self.end + 16 + size > len(self.data):
                break
            if checksum != crc32c(self.data[self.end + 4 : self.end + 16 + size], seed):
                break
            self.records.append((self.end, mark >> 56, sequence, self.data[self.end + 16 : self.end + 16 + size]))
            self.end += (16 + size + 7) // 8 * 8
            sequence += 1

    def zeros_behind(self):
        return not any(self.data[self.end :])


class Message:
    """The body of a MESSAGE."""

    def __init__(self, body):
        flags, topic_size, targets, self.time_ms, payload_size = struct.unpack_from("<HHIQI", body)
        at = 20 + 8 * bool(flags & 16) + 8 * bool(flags & 32) + 8 * bool(flags & 64) + 6 * bool(flags & 128)
        properties_size = 0
        if flags & 256:
            (properties_size,) = struct.unpack_from("<I", body, at)
            at += 4
        self.targets = []
        for _ in range(targets):
            session, place, _, _, _, ids = struct.unpack_from("<IIIBBH", body, at)
            self.targets.append((session, place))
            at += 16 + 4 * ids
        self.topic = body[at : at + topic_size].decode()
        at += topic_size
        self.payload_at, self.payload = at, body[at : at + payload_size]
        assert at + payload_size + properties_size == len(body)


class Reader:
    """Texts and numbers, one after the other."""

    def __init__(self, body, at=0):
        self.body, self.at = body, at

    def number(self, size):
        self.at += size
        assert self.at <= len(self.body)
        return int.from_bytes(self.body[self.at - size : self.at], "little")

    def text(self, size=None):
        size = self.number(2) if size is None else size
        self.at += size
        assert self.at <= len(self.body)
        return self.body[self.at - size : self.at].decode()

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def at_end(self):
        return self.at == len(self.body)


def session_body(body):
    """(session, client identifier, user) of a SESSION"""
    reader = Reader(body)
    session, _, client_id = reader.number(4), reader.number(4), reader.text()
    user = None if reader.at_end() else reader.text()
    assert reader.at_end() and user != ""
    return session, client_id, user


def checkpoint_body(body):
    """The same of a CHECKPOINT_SESSION, whose rest is not read"""
    reader = Reader(body)
    session, client_id, flags = reader.number(4), reader.text(), reader.varint()
    for _ in range(4 + 2 + 3 + 8):
        reader.varint()
    assert flags < 4
    return session, client_id, reader.text(reader.varint()) if flags & 2 else None


def will_body(body):
    """(session, topic, maker) of a WILL; maker: (user, listener, groups, facts), None: it has none"""
    session, _, _, flags, topic_size, payload_size, properties_size = struct.unpack_from("<IIIBHII", body)
    at = 23
    maker_size = struct.unpack_from("<I", body, at)[0] if flags & 16 else 0
    at += 4 * bool(flags & 16)
    topic = body[at : at + topic_size].decode()
    at += topic_size + payload_size + properties_size
    assert at + maker_size == len(body)
    if not flags & 16:
        return session, topic, None
    reader = Reader(body, at)
    user, listener = reader.text(), reader.text()
    groups = [reader.text() for _ in range(reader.number(4))]
    facts = [(reader.text(), reader.text()) for _ in range(reader.number(4))]
    assert reader.at_end()
    return session, topic, (user, listener, groups, facts)


def bodies(directory, kind):
    return [body for segment in segments(directory) for _, type_, _, body in segment.records if type_ == kind]


def segments(directory):
    return [Segment(path) for path in sorted(directory.glob("*.segment"))]


def anchor(directory):
    """The slot that counts: (position, sequence) of the last checkpoint's begin, broker's identifier."""
    data, best = (directory / "anchor").read_bytes(), None
    for at in (0, 4096):
        slot = data[at : at + 512]
        if slot[:8] != b"SKRYANCR" or struct.unpack_from("<I", slot, 508)[0] != crc32c(slot[:508]):
            continue
        version, _, identity, generation, position, sequence, _, _, size = struct.unpack_from("<II16sQQQQQI", slot, 8)
        assert version == 1 and generation % 2 == at // 4096
        if not best or generation > best[0]:
            best = generation, position, sequence, slot[76 : 76 + size].decode(), identity
    return best


# ------------------------------------------------------------------------------------------------------------------- worlds


class World:
    """A broker with a durable session "press" that is away, and a retained message."""

    def __init__(self, broker):
        self.broker = broker
        self.press, self.topic = unique("press-"), unique("plant/")
        press = broker.persistent(client_id=self.press)
        press.subscribe(self.topic + "/#", qos=1)
        press.disconnect()
        self.publisher = broker.connect()
        self.published = []

    def publish(self, count, size=200):
        for _ in range(count):
            number = len(self.published)
            payload = f"value {number} ".encode().ljust(size, b".")
            self.publisher.publish(f"{self.topic}/{number % 3}", payload, qos=1)
            self.published.append(payload)

    @property
    def data(self):
        return pathlib.Path(self.broker.directory / "data")

    @property
    def files(self):
        return self.data / "journal"


@pytest.fixture
def world(make_broker):
    return World(make_broker(options=SMALL))


def fingerprint(directory):
    """Names, contents, and when they were written."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(directory.iterdir())
    }


# --------------------------------------------------------------------------------------------------------------------- info


def check_info(world, info, process):
    assert info["broker_id"] == "test" and info["version"] == 2 and info["process"] == process
    assert not info["damaged"]
    assert info["directory"] == str(world.files)
    assert len(info["identity"]) == 32
    assert info["queues"]["messages"] == len(world.published)
    assert info["queues"]["queues"] == 1
    (session,) = (s for s in info["sessions"] if s["client_id"] == world.press)
    assert session["queued"] == len(world.published) and not session["connected"]
    assert session["subscriptions"] == 1 and not session["will"]
    assert session["queued_bytes"] >= sum(map(len, world.published))
    assert info["queues"]["bytes"] == session["queued_bytes"]
    assert 0 <= session["oldest_s"] <= 60 * SLOW and 0 <= session["away_s"] <= 60 * SLOW
    assert session["outcomes"] == dict.fromkeys(session["outcomes"], 0)
    assert info["retained"]["messages"] == 1
    assert info["segments"] and info["totals"]["used"] == sum(s["used"] for s in info["segments"])
    for segment in info["segments"]:
        assert 64 <= segment["used"] <= segment["size"] and segment["live"] + segment["dead"] == segment["used"]
    assert info["totals"]["live"] > 0
    assert info["totals"]["bytes"] == sum(p.stat().st_size for p in world.files.iterdir() if p.suffix in (".segment", ".spare"))


def test_info(world):
    world.publish(20)
    world.publisher.publish(world.topic + "/kept", b"retained", qos=1, retain=True)
    world.published.append(b"retained")
    check_info(world, journal_json("info", world.data), world.broker.pid)
    check_info(world, journal_json("info", world.files), world.broker.pid)
    check_info(world, journal_json("info", "-c", world.broker.config_file), world.broker.pid)
    code, out, err = journal("info", world.data)
    assert code == 0 and err == ""
    assert f"Broker    test, running as process {world.broker.pid}\n" in out
    (line,) = (line for line in out.splitlines() if line.startswith(world.press))
    assert line.split()[1] == "21" and "away for" in line
    world.broker.stop()
    info = journal_json("info", world.data)
    check_info(world, info, 0)
    # A clean stop leaves a checkpoint and nothing behind it.
    assert info["replay"]["segment"] > 0 and info["replay"]["bytes"] < 16384


def test_info_shows_the_longest_queues_first(make_broker):
    broker = make_broker(options=SMALL)
    publisher = broker.connect()
    for i in range(25):
        client = broker.persistent(client_id=f"client-{i:02}")
        client.subscribe(f"to/{i}", qos=1)
        client.disconnect()
        for _ in range(i):
            publisher.publish(f"to/{i}", b"x", qos=1)
    shown = journal_json("info", broker.directory / "data")["sessions"]
    assert [s["client_id"] for s in shown] == [f"client-{i:02}" for i in range(24, 4, -1)]
    assert [s["queued"] for s in shown] == list(range(24, 4, -1))
    assert len(journal_json("info", "--all", broker.directory / "data")["sessions"]) == 25
    _, out, _ = journal("info", broker.directory / "data")
    assert "and 5 more sessions" in out and "client-04" not in out
    _, out, _ = journal("info", "--all", broker.directory / "data")
    assert "client-04" in out and "more sessions" not in out


def test_client_identifiers_cannot_write_on_the_terminal(make_broker):
    broker = make_broker(options=SMALL)
    evil = broker.persistent(client_id="a\x1b[2Jb\u202ec")
    evil.subscribe("x", qos=1)
    evil.disconnect()
    code, out, _ = journal("info", broker.directory / "data")
    assert code == 0 and "\x1b" not in out and "\u202e" not in out and r"a\x1b[2Jb\u202ec" in out
    _, out, _ = journal("dump", broker.directory / "data")
    assert "\x1b" not in out and r"a\x1b[2Jb\u202ec" in out


# ------------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize("end", ["running", "stopped", "killed"])
def test_verify_whole(world, end):
    """Also says that the page about the format is right: every byte of every file is accounted for."""
    world.publish(700)  # several segments, blocks of references and a checkpoint
    if end == "stopped":
        world.broker.stop()
    elif end == "killed":
        world.broker.kill()
    found = journal_json("verify", world.data)
    assert found["whole"] and found["damages"] == [] and found["lost"] == [] and found["retained_lost"] == 0
    assert found["queued"] == 700 and found["sessions"] == 1 and found["subscriptions"] == 1
    code, out, err = journal("verify", world.data)
    assert code == 0 and "whole: " in out and err == ""

    files = segments(world.files)
    assert len(files) > 2 and len({segment.identity for segment in files}) == 1
    assert found["records"] == sum(len(segment.records) for segment in files) or end == "running"
    for before, after in zip(files, files[1:]):
        assert before.first_sequence + len(before.records) == after.first_sequence
    assert all(segment.zeros_behind() for segment in files)
    payloads = [Message(body).payload for s in files for _, kind, _, body in s.records if kind in (MESSAGE, MESSAGE_COPY)]
    assert payloads == world.published
    _, position, sequence, broker_id, identity = anchor(world.files)
    assert broker_id == "test" and identity == files[0].identity
    if position:
        (segment,) = (s for s in files if s.number == position >> 32)
        assert (position & 0xFFFFFFFF, 35, sequence) in [record[:3] for record in segment.records]


def test_verify_while_it_is_written(world):
    """Segments come and go meanwhile: no complaint, and nothing of it disturbs the broker."""
    world.publish(50)
    ending = threading.Event()
    fed = []

    def feed():
        drain = world.broker.persistent(client_id=unique("drain-"))
        drain.subscribe(world.topic + "/#", qos=1)
        while not ending.is_set():
            for _ in range(50):
                world.publisher.publish(f"{world.topic}/busy", bytes(800), qos=1)
                drain.expect_publish()
            fed.append(50)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for _ in range(6):
            assert journal_json("verify", world.data)["whole"]
            assert not journal_json("info", world.data)["damaged"]
            assert dump("--type", "session", world.data)
    finally:
        ending.set()
        feeder.join()
    assert fed
    world.broker.alive()


def test_copies(make_broker):
    """Old messages in nearly dead files are copied forward: dump shows from where, verify follows."""
    world = World(make_broker(options={"journal": {**SMALL["journal"], "limit": "1MiB"}}))
    drain = world.broker.persistent(client_id=unique("drain-"))
    drain.subscribe("busy", qos=1)
    for _ in range(10):
        world.publish(1)
        for _ in range(60):
            for _ in range(10):
                world.publisher.publish("busy", bytes(500), qos=1, wait=False)
            for _ in range(10):
                world.publisher.expect(T.PUBACK)
                drain.expect_publish()
    assert world.broker.metrics().total("skerry_journal_segments_copied_total") > 0
    copies = dump("--type", "message_copy", "--payload", "text", world.data)
    assert copies and {m["payload"].encode() for m in copies} <= set(world.published)
    assert all(m["copy_of"]["segment"] < m["segment"] for m in copies)
    found = journal_json("verify", world.data)
    assert found["whole"] and found["queued"] == 10
    world.broker.kill()
    found = journal_json("verify", world.data)
    assert found["whole"] and found["queued"] == 10


def test_nothing_is_changed(world):
    world.publish(300)
    world.broker.kill()
    before = fingerprint(world.files)
    journal_json("info", world.data)
    journal_json("verify", world.data)
    dump(world.data)
    assert fingerprint(world.files) == before


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def damaged_message(world):
    """Kills the broker and flips a byte in the payload of a message in the first file: (segment, offset, sequence, place)."""
    world.publish(700)
    world.broker.kill()
    segment = segments(world.files)[0]
    offset, _, sequence, body = [r for r in segment.records if r[1] == MESSAGE][3]
    message = Message(body)
    flip(segment.path, offset + 16 + message.payload_at + 10)
    return segment, offset, sequence, message.targets[0][1]


def test_verify_says_what_is_damaged(world):
    first, offset, sequence, _ = damaged_message(world)
    found = journal_json("verify", world.data, code=1)
    assert not found["whole"]
    (damage,) = found["damages"]
    assert damage["file"] == first.path.name and damage["offset"] == offset and not damage["torn"]
    assert damage["records_lost"] == 1
    following = [o for o, _, s, _ in first.records if s == sequence + 1]
    assert damage["bytes"] == following[0] - offset
    (lost,) = found["lost"]
    assert lost["client_id"] == world.press and lost["messages"] == 1

    code, out, _ = journal("verify", world.data)
    assert code == 1
    assert f"{first.path.name}: offset {offset}: " in out and "1 record lost" in out
    assert f'lost: 1 message for "{world.press}"' in out and "damaged: " in out
    assert "nothing of what waits is lost" not in out
    code, out, err = journal("dump", world.data)
    assert code == 1 and f"{first.path.name}: offset {offset}: " in err and f"\n{sequence + 1} " in out


@pytest.mark.parametrize("replay", ["128KiB", "1MiB"])
def test_a_broker_goes_on_after_damage_and_verify_agrees(make_broker, replay):
    """Damage before the checkpoint is met when the message is loaded, damage behind it at the start."""
    world = World(make_broker(options={"journal": {**SMALL["journal"], "replay": replay}}))
    segment, offset, _, place = damaged_message(world)
    world.broker.start()
    press = world.broker.persistent(client_id=world.press)
    for i, payload in enumerate(world.published):
        if i != place:
            press.expect_publish(payload=payload)
    # What is damaged is there still; when nothing in the file is needed any more it goes, or is set aside.
    world.publisher = world.broker.connect()
    for _ in range(100):
        world.publish(15)
        for payload in world.published[-15:]:
            press.expect_publish(payload=payload)
    press.disconnect()
    world.broker.stop()
    found = journal_json("verify", world.data)
    assert found["whole"] and found["queued"] == 0 and not segment.path.exists()
    assert found["set_aside"] == (replay == "1MiB")
    if replay == "1MiB":
        (line,) = world.broker.events("journal_damaged")
        assert f"file={segment.path.name}" in line and f"offset={offset}" in line
        assert f"{segment.number:010}.damaged: set aside" in journal("verify", world.data)[1]


def test_verify_misses_a_whole_file(world):
    world.publish(1200)
    world.broker.stop()
    files = segments(world.files)
    victim = files[1]
    victim.path.unlink()
    found = journal_json("verify", world.data, code=1)
    assert sum(lost["messages"] for lost in found["lost"]) >= sum(r[1] == MESSAGE for r in victim.records) > 0


def test_verify_of_a_header(world):
    world.publish(700)
    world.broker.kill()
    victim = segments(world.files)[1]
    flip(victim.path, 33)
    found = journal_json("verify", world.data, code=1)
    assert victim.path.name in [damage["file"] for damage in found["damages"] if damage["offset"] == 0]
    assert "header is damaged" in journal("verify", world.data)[1]


def test_a_damaged_checkpoint_costs_nothing(world):
    """What follows the one before is still there."""
    world.publish(1200)
    world.broker.kill()
    _, position, _, _, _ = anchor(world.files)
    (segment,) = (s for s in segments(world.files) if s.number == position >> 32)
    offset = next(r[0] for r in segment.records if r[1] == 36 and r[0] > position & 0xFFFFFFFF)
    flip(segment.path, offset + 20)
    found = journal_json("verify", world.data, code=1)
    assert found["lost"] == [] and found["queued"] == 1200 and found["checkpoint"]
    assert [(d["file"], d["offset"]) for d in found["damages"]] == [(segment.path.name, offset)]
    assert journal_json("info", world.data, code=1)["queues"]["messages"] == 1200
    world.broker.start()
    press = world.broker.persistent(client_id=world.press)
    for payload in world.published:
        press.expect_publish(payload=payload)


def test_a_damaged_anchor(world):
    world.publish(1200)
    world.broker.kill()
    (world.files / "anchor").write_bytes(bytes(8192))
    found = journal_json("verify", world.data, code=1)
    assert found["anchor"] == "damaged" and found["lost"] == [] and found["damages"] == []
    assert "anchor: is damaged" in journal("verify", world.data)[1]


def test_a_torn_tail_is_no_damage(world):
    world.publish(30)
    world.broker.kill()
    last = segments(world.files)[-1]
    data = bytearray(last.data)
    data[last.end : last.end + 100] = bytes(range(1, 101))
    last.path.write_bytes(data)
    found = journal_json("verify", world.data)
    assert found["whole"] and [(d["offset"], d["torn"]) for d in found["damages"]] == [(last.end, True)]
    code, out, _ = journal("verify", world.data)
    assert code == 0 and f"{last.path.name}: offset {last.end}: " in out and "never acknowledged" in out


def test_the_backup_of_the_page(world, tmp_path):
    """The commands of docs/durability.md, on a running broker, and a broker on what they made."""
    world.publish(300)
    copy = tmp_path / "backup" / "journal"
    copy.mkdir(parents=True)
    shutil.copy(world.files / "anchor", copy)
    for path in sorted(world.files.glob("*.segment")):
        shutil.copy(path, copy)
    assert journal_json("verify", copy.parent)["queued"] == 300


# --------------------------------------------------------------------------------------------------------------------- dump


def test_dump(world):
    world.publish(40)
    other = world.broker.persistent(client_id=unique("other-"))
    other.subscribe("other/+", qos=1)
    other.disconnect()
    world.publisher.publish("other/1", b"\xff\x00", qos=1, props=[("content_type", "raw"), ("user", ("k", "v"))])
    world.broker.stop()

    records = dump(world.data)
    assert [r["sequence"] for r in records] == list(range(records[0]["sequence"], records[0]["sequence"] + len(records)))
    assert {r["type"] for r in records} >= {"batch", "session", "subscribe", "session_away", "message", "checkpoint_begin"}
    assert not any("unreadable" in r for r in records)
    mine = [(r[0], r[2]) for s in segments(world.files) for r in s.records]
    assert [(r["offset"], r["sequence"]) for r in records] == mine

    messages = dump("--type", "message", world.data)
    assert len(messages) == 41 and not any("payload" in m or "payload_base64" in m for m in messages)
    assert messages[0]["topic"] == world.topic + "/0" and messages[0]["payload_size"] == 200
    assert messages[0]["targets"][0]["client"] == world.press and messages[0]["targets"][0]["place"] == 0
    everything = journal("dump", world.data)[1] + journal("dump", "--json", world.data)[1]
    assert "value 0" not in everything and base64.b64encode(b"value 0").decode()[:8] not in everything

    shown = dump("--type", "message", "--payload", "text", world.data)
    assert [m["payload"].encode() for m in shown[:40]] == world.published
    assert base64.b64decode(shown[40]["payload_base64"]) == b"\xff\x00"
    assert {"name": "content-type", "value": "raw"} in shown[40]["properties"]
    assert {"name": "user-property", "key": "k", "value": "v"} in shown[40]["properties"]
    shown = dump("--type", "message", "--payload", "base64", world.data)
    assert [base64.b64decode(m["payload_base64"]) for m in shown[:40]] == world.published

    assert len(dump("--topic", world.topic + "/1", "--type", "message", world.data)) == 13
    assert [m["topic"] for m in dump("--topic", "other/#", world.data)] == ["other/1"]
    own = dump("--session", world.press, world.data)
    assert {"session", "subscribe", "message"} <= {r["type"] for r in own}
    assert len([r for r in own if r["type"] == "message"]) == 40
    from_to = dump("--from", records[3]["sequence"], "--to", records[7]["sequence"], world.data)
    assert [r["sequence"] for r in from_to] == [r["sequence"] for r in records[3:8]]
    number = records[0]["segment"]
    assert {r["segment"] for r in dump("--segment", number, world.data)} == {number}
    assert dump("--segment", 4_000_000, world.data) == []

    code, out, err = journal("dump", "--type", "message", "--payload", "text", world.data)
    assert code == 0 and err == "" and len(out.splitlines()) == 41
    first = out.splitlines()[0]
    assert first.startswith(f"{messages[0]['sequence']} message segment=") and f'client="{world.press}"' in first
    assert 'payload="value 0 ...' in first


# -------------------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_opened(world, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    memory = tmp_path / "memory.yaml"
    memory.write_text("listeners: [mqtt://127.0.0.1:1]\n")
    for words, wanted in [
        (["info", tmp_path / "nowhere"], "nowhere"),
        (["verify", empty], "holds no journal"),
        (["dump", empty], "holds no journal"),
        (["info", "-c", memory], "broker.data is not set"),
        (["info", "-c", memory, "--set", f"broker.data={world.data}", "--set", "journal.durability=memory"], "durability"),
        (["info", "-c", tmp_path / "no.yaml"], "no.yaml"),
        (["info"], "no journal given"),
        (["info", world.data, "-c", memory], "one of them"),
        (["info", world.data, "--set", "a=b"], "--config"),
        (["verify", world.data, world.data], "one word too many"),
        (["verify", "--payload", "text", world.data], "--payload"),
        (["dump", "--type", "mesage", world.data], 'did you mean "message"'),
        (["dump", "--topic", "a/#/b", world.data], "no topic filter"),
        (["dump", "--payload", "hex", world.data], "text or base64"),
        (["look", world.data], "none of info, verify and dump"),
        ([], "has to follow"),
    ]:
        code, out, err = journal(*words)
        assert code == 2 and out == "" and wanted in err, (words, code, out, err)
    code, out, _ = journal("info", "-c", memory, "--set", f"broker.data={world.data}")
    assert code == 0 and "Broker" in out


def test_help():
    code, out, _ = journal("--help")
    assert code == 0 and all(word in out for word in ("info", "verify", "dump", "--payload", "--all", "--session"))
    for name in ("info", "verify", "dump"):
        code, out, _ = journal(name, "--help")
        assert code == 0 and f"skerry journal {name}" in out
        assert ("--payload" in out) == (name == "dump") and ("--all" in out) == (name == "info")


def test_a_newer_format_is_refused(world):
    world.publish(3)
    world.broker.stop()
    path = segments(world.files)[0].path
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 3)
    struct.pack_into("<I", data, 60, crc32c(data[:60]))
    path.write_bytes(data)
    for name in ("info", "verify", "dump"):
        code, out, err = journal(name, world.data)
        assert code == 2 and "version" in err, (out, err)


def passwords(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)


def test_whose_sessions_are(make_broker, tmp_path):
    """In SESSION, OWNER, CHECKPOINT_SESSION and WILL, as the page has them; shown by info and dump."""
    hashed = "$7$1000$" + base64.b64encode(bytes(12)).decode() + "$"
    hashed += base64.b64encode(hashlib.pbkdf2_hmac("sha512", b"secret", bytes(12), 1000)).decode()
    passwords(tmp_path / "passwd", f"ann:{hashed}", f"bob:{hashed}")
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    broker = make_broker(
        options={
            **SMALL,
            "listeners": [{"url": url, "name": "plant", "auth": ["password"], "anonymous": True}],
            "auth": {"passwords": str(tmp_path / "passwd")},
        }
    )
    files = pathlib.Path(broker.directory / "data" / "journal")

    def come(client_id, user, **kw):
        client = Client(Stream(("127.0.0.1", port)), 5, client_id=client_id)
        credentials = {"username": user, "password": "secret"} if user else {}
        client.connect(clean=False, props={"session_expiry": 1000}, **credentials, **kw)
        return client

    will = {"topic": "gone", "payload": b"x", "props": {"will_delay": 500}}
    for client_id, user in (("pump", "ann"), ("meter", None)):
        come(client_id, user, will=will).drop()
    come("meter", "bob").disconnect()
    names = {session: (client_id, user) for session, client_id, user in map(session_body, bodies(files, SESSION))}
    assert sorted(names.values(), key=str) == [("meter", None), ("pump", "ann")]
    numbers = {client_id: session for session, (client_id, _) in names.items()}
    (owner,) = map(Reader, bodies(files, OWNER))
    assert (owner.number(4), owner.text()) == (numbers["meter"], "bob") and owner.at_end()
    wills = [will_body(body) for body in bodies(files, WILL)]
    assert (numbers["pump"], "gone", ("ann", "plant", [], [])) in wills
    assert [maker for session, topic, maker in wills if session == numbers["meter"] and topic] in ([None], [("", "plant", [], [])])

    data = broker.directory / "data"
    assert {s["client_id"]: s["user"] for s in journal_json("info", data)["sessions"]} == {"pump": "ann", "meter": "bob"}
    lines = journal("info", data)[1].splitlines()
    assert any(line.startswith("pump") and ", user ann" in line for line in lines)
    assert [(r["client"], r["user"]) for r in dump("--type", "owner", data)] == [("meter", "bob")]
    assert {r["client"]: r.get("user") for r in dump("--type", "session", data)} == {"pump": "ann", "meter": None}
    assert [r["listener"] for r in dump("--type", "will", data) if r.get("user") == "ann"] == ["plant"]
    broker.stop()
    last = {client_id: user for _, client_id, user in map(checkpoint_body, bodies(files, CHECKPOINT_SESSION))}
    assert last == {"pump": "ann", "meter": "bob"}
    assert {r["client"]: r["user"] for r in dump("--type", "checkpoint_session", data)} == last
    assert "secret" not in "".join(journal("dump", data)[1:])


def test_a_journal_of_version_1(world):
    """Is read as it is; what is new goes into a segment of version 2 behind it."""
    world.publish(20)
    will = {"topic": "gone", "payload": b"x", "props": {"will_delay": 500}}
    world.broker.client(client_id="willing").connect(clean=False, will=will, props={"session_expiry": 1000}).drop()
    world.broker.stop()
    # Without users a version 2 journal has nothing that version 1 has not.
    assert not bodies(world.files, OWNER) and all(not will_body(body)[2] for body in bodies(world.files, WILL))
    old = []
    for segment in segments(world.files):
        assert segment.version == 2
        data = bytearray(segment.data)
        struct.pack_into("<I", data, 8, 1)
        struct.pack_into("<I", data, 60, crc32c(data[:60]))
        segment.path.write_bytes(data)
        old.append((segment.path, bytes(data)))
    assert journal_json("info", world.data)["version"] == 1
    assert journal_json("verify", world.data)["whole"]
    for round_ in range(2):
        world.broker.start()
        found = segments(world.files)
        last = {segment.number for segment in found if segment.version == 1}
        for path, data in old:
            assert not path.exists() or path.read_bytes() == data  # whole as it was, or not needed any more
        assert journal_json("info", world.data)["sessions"][0]["queued"] == 20
        press = world.broker.persistent(client_id=world.press)
        assert press.connack.session_present
        press.drop()
        found = segments(world.files)
        assert found[-1].version == 2 and found[-1].number not in last
        assert [s.version for s in found] == sorted(s.version for s in found)
        assert journal_json("info", world.data)["version"] == 2
        world.broker.kill()
        assert journal_json("verify", world.data)["whole"]
    world.broker.start()
    press = world.broker.persistent(client_id=world.press)
    for payload in world.published:
        press.expect_publish(payload=payload)


def test_a_pipe_that_closes(world):
    """`skerry journal dump DIR | head -1` ends without noise."""
    world.publish(300)
    done = subprocess.run(
        f"{skerry_binary()} journal dump {world.data} | head -1",
        shell=True, capture_output=True, text=True, timeout=START_S, stdin=subprocess.DEVNULL,
    )
    assert len(done.stdout.splitlines()) == 1 and "Assertion" not in done.stderr


def test_sigint_ends_it(world):
    """It holds nothing that would have to be given back."""
    world.publish(10)
    process = subprocess.Popen([skerry_binary(), "journal", "verify", str(world.data)], stdout=subprocess.DEVNULL)
    process.send_signal(signal.SIGINT)
    assert process.wait(START_S) in (0, -signal.SIGINT)
