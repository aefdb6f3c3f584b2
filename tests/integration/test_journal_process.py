"""The broker's process and its journal's directory: opening, closing, whose it is, what is said about it."""

import hashlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from broker import START_S, elapse, eventually, free_port, skerry_binary
from journaled import field
from strace import assert_idle
from wire import SLOW, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads, pytest.mark.timeout(120)]

SMALL = {"segment": "256KiB", "reserve": "512KiB", "replay": "256KiB"}
OPTIONS = {"journal": SMALL, "sys": {"interval": "off"}}


def journal_of(broker):
    return pathlib.Path(broker.config["broker"]["data"]) / "journal"


def fingerprint(directory):
    """Names, sizes and contents of all files but the lock."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir() if path.name != "lock"
    }


def refused(broker):
    """Starts a broker that is to give up at once, and returns what it says."""
    before = len(broker.events("listening"))
    broker.spawn()
    assert broker.wait() == 1, broker.log()
    line = broker.events("start_failed")[-1]
    assert len(broker.events("listening")) == before, "it listened without its journal"
    return line


def run(*args, **kw):
    done = subprocess.run(
        [skerry_binary(), "broker", *args], capture_output=True, text=True, timeout=START_S, stdin=subprocess.DEVNULL, **kw
    )
    return done.returncode, done.stdout + done.stderr


def leave_messages(broker, count=10):
    """A session that is away, with messages."""
    topic = unique("test/")
    away = broker.persistent()
    away.subscribe(topic, qos=1)
    away.disconnect()
    publisher = broker.connect()
    for i in range(count):
        publisher.publish(topic, str(i), qos=1)
    publisher.disconnect()
    return away, topic


def expect_messages(broker, away, topic, count=10):
    back = broker.persistent(client_id=away.client_id)
    for i in range(count):
        back.expect_publish(topic, str(i))
    back.disconnect()


# -------------------------------------------------------------------------------------------------------- start and stop


def test_directory_is_made(make_broker, tmp_path):
    data = tmp_path / "a" / "b" / "data"
    broker = make_broker(1, {**OPTIONS, "broker": {"data": str(data)}})
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "journal").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (data / "journal").iterdir())
    broker.stop()


def test_relative_directory(make_broker, tmp_path):
    broker = make_broker(1, {**OPTIONS, "broker": {"data": "./here/"}}, cwd=tmp_path)
    assert (tmp_path / "here" / "journal" / "lock").exists()
    broker.stop()


def test_new_directories_outlive_a_power_cut(tmp_path):
    """Each directory that is made on the way to the journal is then remembered by the one above it."""
    data, trace, log = tmp_path / "site" / "line" / "data", tmp_path / "trace", tmp_path / "log"
    words = ["strace", "-D", "-f", "-y", "-e", "trace=mkdir,fsync", "-o", str(trace), skerry_binary(), "broker"]
    words += ["--listen", f"mqtt://127.0.0.1:{free_port()}", "--set", f"broker.data={data}"]
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # -D: it is the broker
    try:
        eventually(lambda: " ready" in log.read_text(), "it is ready", START_S)
    finally:
        process.kill()  # LeakSanitizer could not look at a process that ends while it is traced
        process.wait(START_S)
    eventually(lambda: "+++ killed" in trace.read_text(), "strace has written it all")
    lines = trace.read_text(errors="replace").splitlines()
    for made in (data / "journal", data, *data.parents[:2]):
        at = next(i for i, line in enumerate(lines) if f'mkdir("{made}"' in line and line.endswith("= 0"))
        assert any("fsync(" in line and f"<{made.parent}>" in line for line in lines[at:]), f"{made} can be forgotten"


@pytest.mark.parametrize("shards", [1, 2])
def test_storage_is_said_once(make_broker, shards):
    broker = make_broker(shards, OPTIONS)
    storage = broker.events("storage")
    assert len(storage) == 1
    assert "kind=journal" in storage[0] and "durability=commit" in storage[0] and broker.config["broker"]["data"] in storage[0]
    assert len(broker.events("journal_opened")) == 1
    broker.stop()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_opening_says_what_is_there(make_broker, how):
    broker = make_broker(1, OPTIONS)
    away, topic = leave_messages(broker, 25)
    broker.stop() if how == "stop" else broker.kill()
    broker.start()
    opened = broker.events("journal_opened")[-1]
    assert field(opened, "sessions") == 1
    assert field(opened, "queued") == 25
    assert field(opened, "damaged_records") == 0
    assert field(opened, "replayed_bytes") < 1 << 20 and field(opened, "ms") >= 0
    expect_messages(broker, away, topic, 25)
    broker.stop()


def test_clean_stop_leaves_nothing_to_replay(make_broker):
    broker = make_broker(1, OPTIONS)
    leave_messages(broker, 500)
    broker.stop()
    assert not broker.events("journal_checkpoint_missed")
    before = journal_of(broker)
    size = sum(path.stat().st_size for path in before.glob("*.segment"))
    broker.start()
    assert field(broker.events("journal_opened")[-1], "replayed_bytes") < min(size, 64 * 1024)
    broker.stop()


@pytest.mark.parametrize("durability", ["commit", "interval"])
def test_stop_while_clients_publish(make_broker, durability):
    """What was acknowledged before the stop is there after it, also where nothing waits for the disk."""
    broker = make_broker(2, {**OPTIONS, "journal": {**SMALL, "durability": durability, "interval": "1h"}})
    away, topic = leave_messages(broker, 0)
    publishers = [broker.connect() for _ in range(4)]
    for number, publisher in enumerate(publishers):
        for i in range(30):
            publisher.publish(topic, f"{number}/{i}", qos=1)  # waits for PUBACK
            if number == 3 and i == 20:
                broker.signal(signal.SIGTERM)
                break
    assert broker.wait() == 0, broker.log()
    broker.start()
    back = broker.persistent(client_id=away.client_id)
    counts = [30, 30, 30, 21]
    got = [back.expect_publish(topic).payload.decode() for _ in range(sum(counts))]
    for number, count in enumerate(counts):  # each publisher's in order
        assert [one for one in got if one.startswith(f"{number}/")] == [f"{number}/{i}" for i in range(count)]
    broker.stop()


def test_many_restarts_keep_the_directory_small(make_broker):
    broker = make_broker(1, OPTIONS)
    away, topic = leave_messages(broker)
    sizes = []
    for _ in range(6):
        broker.stop()
        sizes.append(sum(path.stat().st_size for path in journal_of(broker).iterdir()))
        broker.start()
    assert sizes[-1] <= sizes[1], sizes
    expect_messages(broker, away, topic)
    broker.stop()


@pytest.mark.skipif(SLOW > 1, reason="a sanitizer may have a thread of its own that wakes now and then")
def test_an_idle_journal_does_nothing(make_broker, tmp_path):
    broker = make_broker(1, OPTIONS)
    leave_messages(broker)
    elapse(0.5)
    assert_idle(broker.pid, tmp_path / "calls", 1)
    broker.stop()


def test_threads(make_broker):
    """The store's thread has a name, and signals arrive elsewhere."""
    broker = make_broker(2, OPTIONS)
    tasks = pathlib.Path(f"/proc/{broker.pid}/task")
    status = {task.name: (task / "status").read_text() for task in tasks.iterdir()}
    stores = [text for text in status.values() if "\nName:\tskerry-store" in "\n" + text]
    assert len(stores) == 1
    blocked = int(stores[0].split("SigBlk:")[1].split()[0], 16)
    assert blocked >> (signal.SIGTERM - 1) & 1 and blocked >> (signal.SIGHUP - 1) & 1
    broker.stop()


# ------------------------------------------------------------------------------------------------------------- in memory


def test_without_directory(make_broker, tmp_path):
    broker = make_broker(1, {"sys": {"interval": "off"}}, cwd=tmp_path, wait=False)
    broker.kill()
    broker.log_file.unlink()
    del broker.config["broker"]["data"]
    broker.write_config()
    broker.start()
    storage = broker.events("storage")
    assert len(storage) == 1 and "kind=memory" in storage[0] and "broker.data" in storage[0]
    assert not broker.events("journal_opened")
    assert "skerry_journal" not in broker.metrics().text
    away, topic = leave_messages(broker)
    expect_messages(broker, away, topic)
    broker.stop()


def test_durability_memory_touches_no_file(make_broker):
    broker = make_broker(1, {"journal": {"durability": "memory"}})
    storage = broker.events("storage")
    assert len(storage) == 1 and "kind=memory" in storage[0] and "journal.durability" in storage[0]
    away, topic = leave_messages(broker)
    expect_messages(broker, away, topic)
    broker.stop()
    assert not pathlib.Path(broker.config["broker"]["data"]).exists()


def test_durability_memory_leaves_a_journal_alone(make_broker):
    broker = make_broker(1, OPTIONS)
    away, topic = leave_messages(broker)
    broker.stop()
    before = fingerprint(journal_of(broker))
    broker.config["journal"]["durability"] = "memory"
    broker.write_config()
    broker.start()
    leave_messages(broker)
    broker.stop()
    assert fingerprint(journal_of(broker)) == before
    broker.config["journal"]["durability"] = "commit"
    broker.write_config()
    broker.start()
    expect_messages(broker, away, topic)
    broker.stop()


def test_interval_is_said_and_survives_a_kill(make_broker):
    broker = make_broker(1, {**OPTIONS, "journal": {**SMALL, "durability": "interval", "interval": "1h"}})
    assert "durability=interval" in broker.events("storage")[0]
    away, topic = leave_messages(broker)
    # Written at once: a kill of the process, unlike a power cut, loses nothing that has been written.
    eventually(lambda: broker.metrics().total("skerry_journal_written_bytes_total") > 1_000, "writes")
    broker.kill()
    broker.start()
    expect_messages(broker, away, topic)
    broker.stop()


# ----------------------------------------------------------------------------------------------------- whose directory


@pytest.mark.parametrize("first", ["idle", "busy"])
def test_second_broker_is_refused(make_broker, first):
    broker = make_broker(1, OPTIONS)
    if first == "busy":
        away, topic = leave_messages(broker)
    second = make_broker(1, {**OPTIONS, "broker": {"data": broker.config["broker"]["data"]}}, wait=False)
    assert second.wait() == 1
    said = second.events("start_failed")[-1]
    assert "another broker" in said and str(journal_of(broker)) in said and str(broker.pid) in said
    assert broker.alive()
    if first == "busy":
        expect_messages(broker, away, topic)
    # Its place is free as soon as it is gone, however it went.
    broker.kill()
    second.start()
    second.stop()


def test_directory_of_another_broker(make_broker):
    broker = make_broker(1, {**OPTIONS, "broker": {"id": "one"}})
    away, topic = leave_messages(broker)
    broker.stop()
    before = fingerprint(journal_of(broker))
    broker.config["broker"]["id"] = "two"
    broker.write_config()
    said = refused(broker)
    assert "one" in said and "two" in said
    assert fingerprint(journal_of(broker)) == before
    broker.config["broker"]["id"] = "one"
    broker.write_config()
    broker.start()
    expect_messages(broker, away, topic)
    broker.stop()


def test_mixed_directories(make_broker):
    """Segments of two journals in one directory: nobody knows what is right, so nothing is touched."""
    one, two = make_broker(1, OPTIONS), make_broker(1, OPTIONS)
    leave_messages(one)
    one.stop()
    away, topic = leave_messages(two)
    for _ in range(3):  # into a second segment
        two.connect().publish(topic, b"x" * 100_000, qos=1)
    two.stop()
    segment = sorted(journal_of(two).glob("*.segment"))[-1]
    assert not (journal_of(one) / segment.name).exists()
    shutil.copy(segment, journal_of(one))
    before = fingerprint(journal_of(one))
    assert "another journal" in refused(one)
    assert fingerprint(journal_of(one)) == before


# ---------------------------------------------------------------------------------------------------- what cannot be used


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "data").write_text("not a directory")
    port = free_port()
    code, output = run("--listen", f"mqtt://127.0.0.1:{port}", "--data", str(tmp_path / "data"))
    assert code == 1
    assert "start_failed" in output and "Not a directory" in output and str(tmp_path / "data") in output
    code, output = run("--listen", f"mqtt://127.0.0.1:{port}", "--data", str(tmp_path / "data" / "below"))
    assert code == 1
    assert "Not a directory" in output


def test_a_directory_that_cannot_be_made():
    code, output = run("--listen", f"mqtt://127.0.0.1:{free_port()}", "--data", "/proc/skerry")
    assert code == 1
    assert "start_failed" in output and "/proc/skerry" in output and "cannot make" in output


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("exists", [True, False], ids=["journal", "no-journal"])
def test_a_directory_that_is_not_ours(tmp_path_factory, exists):
    """What systemd's DynamicUser= and a directory of root's would do."""
    binary = pathlib.Path(skerry_binary())
    nobody = 65534
    if not all(parent.stat().st_mode & 0o005 == 0o005 for parent in binary.parents):
        pytest.skip("the binary is where others cannot run it")
    data = pathlib.Path("/tmp") / unique("skerry-data-")
    (data / "journal" if exists else data).mkdir(parents=True)
    try:
        code, output = run(
            "--listen", f"mqtt://127.0.0.1:{free_port()}", "--data", str(data), user=nobody, group=nobody, cwd="/"
        )
        assert code == 1
        assert "start_failed" in output and str(data) in output
        assert "ermission denied" in output
    finally:
        shutil.rmtree(data)


def test_a_journal_without_room(make_broker):
    """The configuration says so, before anything starts."""
    broker = make_broker(1, {**OPTIONS, "journal": {**SMALL, "limit": "1MiB"}}, wait=False)
    assert broker.wait() == 2
    assert "journal.limit" in broker.log()


# ---------------------------------------------------------------------------------------------------------------- reload


def test_reload_of_what_needs_a_restart(make_broker):
    broker = make_broker(1, OPTIONS)
    broker.config["journal"]["interval"] = "1s"
    broker.config["limits"]["queue_messages"] = 5
    broker.write_config()
    broker.signal(signal.SIGHUP)
    failed = broker.wait_event("reload_failed")
    assert "journal.interval" in failed[0]
    del broker.config["journal"]["interval"]
    broker.config["limits"].update({"queue_age": "1h", "queue_drop": "newest"})
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    assert len(broker.events("configuration_changed")) == 3
    away, topic = leave_messages(broker, 8)
    expect_messages(broker, away, topic, 5)
    broker.stop()


# --------------------------------------------------------------------------------------------------------------- metrics


def test_metrics_of_the_journal(make_broker):
    broker = make_broker(2, OPTIONS)
    before = broker.metrics()
    away, topic = leave_messages(broker, 100)

    def total(name, **labels):
        return broker.metrics().total(name, **labels)

    assert total("skerry_journal_state", state="ok") == 1
    assert total("skerry_journal_state") == 1
    assert total("skerry_journal_sessions") == 1
    assert total("skerry_journal_queued_messages") == 100
    assert total("skerry_journal_queued_bytes") > 100
    assert total("skerry_journal_messages_total") == 100
    commits = total("skerry_journal_commit_seconds_count")
    assert 1 <= commits <= 110
    assert total("skerry_journal_commit_seconds_bucket", le="+Inf") == commits
    assert total("skerry_journal_syncs_total") - before.total("skerry_journal_syncs_total") <= commits + 10
    assert total("skerry_journal_commit_seconds_sum") > 0
    written = total("skerry_journal_written_bytes_total")
    assert written > 100
    assert abs(total("skerry_journal_bytes_per_message") - written / 100) < written / 1000
    directory = sum(path.stat().st_size for path in journal_of(broker).glob("*.s*"))
    assert total("skerry_journal_bytes") == directory
    assert total("skerry_journal_limit_bytes") == 8 << 30
    assert broker.get("/healthz")[::2] == (200, "ok\n")
    expect_messages(broker, away, topic, 100)
    eventually(lambda: total("skerry_journal_queued_messages") == 0, "an empty queue")
    assert total("skerry_journal_oldest_seconds") == 0
    broker.stop()


def test_age_of_the_oldest(make_broker):
    broker = make_broker(1, OPTIONS)
    leave_messages(broker, 1)
    eventually(lambda: broker.metrics().total("skerry_journal_oldest_seconds") >= 1, "a second")
    broker.kill()
    broker.start()
    assert broker.metrics().total("skerry_journal_oldest_seconds") >= 1
    broker.stop()
