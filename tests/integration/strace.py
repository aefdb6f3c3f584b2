"""Every system call of a running broker, seen by strace."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from wire import SLOW

ATTACH_S = 10 * SLOW
SELDOM = 4  # calls of a thread, for assert_idle: attaching to one that sleeps shows as one or two


class Trace:
    """The calls of a process, with all its threads: those that take a descriptor or a path, or all. Used with `with`; then
    `lines` has them, and `threads` is how many there were."""

    def __init__(self, pid, file, calls="%desc,%file,sync"):
        self.pid, self.file, self.traced, self.lines = pid, file, calls, []

    def _attached(self):
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            if f"\nTracerPid:\t{self.strace.pid}\n" not in (task / "status").read_text():
                return False
        return True

    def __enter__(self):
        if not shutil.which("strace"):
            pytest.fail("NOT TESTED: there is no strace")
        words = ["strace", "-f", "-y", "-e", f"trace={self.traced}", "-o", str(self.file), "-p", str(self.pid)]
        self.strace = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + ATTACH_S
        while not self._attached():
            if self.strace.poll() is not None:
                pytest.fail(f"NOT TESTED: strace may not look at the broker: {self.strace.stderr.read().strip()}")
            assert time.monotonic() < deadline, "strace does not attach"
            time.sleep(0.01)
        self.threads = len(os.listdir(f"/proc/{self.pid}/task"))
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


def assert_idle(pid, file, seconds):
    """No thread is woken to find that there is nothing to do. Counts calls: time of the CPU would depend on what else runs."""
    with Trace(pid, file, "all") as trace:
        time.sleep(seconds)
    assert len(trace.lines) <= SELDOM * trace.threads, trace.lines[:100]
