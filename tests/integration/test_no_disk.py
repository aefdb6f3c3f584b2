"""What needs no disk costs none: every system call of a running broker, seen by strace."""

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from broker import eventually
from journaled import SMALL, STEADY
from wire import SLOW, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.timeout(120)]

MESSAGES = 100
ATTACH_S = 10 * SLOW


class Trace:
    """All calls of a process, with all its threads, that take a descriptor or a path. Used with `with`; then `lines` has them."""

    def __init__(self, pid, file):
        self.pid, self.file, self.lines = pid, file, []

    def _attached(self):
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            if f"\nTracerPid:\t{self.strace.pid}\n" not in (task / "status").read_text():
                return False
        return True

    def __enter__(self):
        if not shutil.which("strace"):
            pytest.fail("NOT TESTED: there is no strace")
        words = ["strace", "-f", "-y", "-e", "trace=%desc,%file,sync", "-o", str(self.file), "-p", str(self.pid)]
        self.strace = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + ATTACH_S
        while not self._attached():
            if self.strace.poll() is not None:
                pytest.fail(f"NOT TESTED: strace may not look at the broker: {self.strace.stderr.read().strip()}")
            assert time.monotonic() < deadline, "strace does not attach"
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.strace.send_signal(signal.SIGINT)
        try:
            self.strace.wait(ATTACH_S)
        finally:
            self.strace.kill()
            self.strace.communicate()
        self.lines = self.file.read_text(errors="replace").splitlines()

    def calls(self, directory):
        """Names of the calls that touch a directory, or everything."""
        found = []
        for line in self.lines:
            name = re.match(r"\d+ +(\w+)\(", line)
            if name and (str(directory) in line or name[1] in ("sync", "io_uring_enter")):
                found.append(name[1])
        return found


@pytest.mark.parametrize("shards", [1, 2])
def test_clean_clients_touch_no_file(make_broker, tmp_path, topic, shards):
    """Nothing is read, written or synced for QoS 1 and 2 between connected clients whose sessions end with them."""
    broker = make_broker(shards, {"journal": SMALL, **STEADY})
    data = Path(broker.config["broker"]["data"])
    away = broker.persistent(5)
    away.subscribe(f"{topic}/kept", qos=1)
    away.disconnect()
    publishers = [broker.connect(version) for version in (4, 5, 5)]
    subscribers = [broker.connect(version) for version in (4, 5, 5)]
    for number, one in enumerate(subscribers):
        one.subscribe(f"{topic}/+", qos=2)
        one.subscribe(f"$share/{unique('g')}/{topic}/{number}", qos=1)

    with Trace(broker.pid, tmp_path / "clean") as trace:
        for number in range(MESSAGES):
            for qos, publisher in enumerate(publishers):
                publisher.publish(f"{topic}/{qos}", str(number), qos=max(qos, 1))
        for one in subscribers:
            for _ in range(MESSAGES * (len(publishers) + 1)):
                one.expect_publish()
        publishers[0].disconnect()
        subscribers[0].drop()
        eventually(lambda: broker.metrics().total("skerry_clients") <= 4, "they have left")
    assert len(trace.lines) > MESSAGES, "nothing was seen at all"
    assert trace.calls(data) == []

    # The same eyes see what a durable session costs.
    with Trace(broker.pid, tmp_path / "durable") as trace:
        publishers[1].publish(f"{topic}/kept", "x", qos=1)
    calls = trace.calls(data)
    assert any(name.startswith("pwrite") for name in calls), calls
    assert "fdatasync" in calls, calls
