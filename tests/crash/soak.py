#!/usr/bin/python3
"""A steady backlog for a long time: the journal's files and the process must not grow, and nothing may be lost.

    tests/crash/soak.py [--seconds N] [--rate N]

Durable subscribers come and go, each for a while; one never comes, its queue drops the oldest; some retained values are
replaced all the time. After a first part, which fills everything, and a second, the highest sizes of files and process must
stay near those of the second.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import wire  # noqa: E402
from broker import Broker  # noqa: E402
from clients import Link, Loop  # noqa: E402
from wire import T  # noqa: E402

SIZE = 256
SEGMENT = 1 << 20
PARTS = 5  # the first is for filling up


class Feeder(Link):
    """So many numbered messages per second, QoS 1; waits when too many are not acknowledged."""

    def __init__(self, world, name, rate):
        super().__init__(world, name, 4, True)
        self.rate, self.number, self.acked, self.began = rate, 0, 0, None

    def on_connected(self, present):
        self.began = time.monotonic()
        self._feed()

    def _feed(self):
        due = int((time.monotonic() - self.began) * self.rate)
        batch = bytearray()
        while self.number < due and self.number - self.acked < 2000 and not self.world.over:
            payload = (b"%010d" % self.number).ljust(SIZE, b"x")
            packet_id = self.number % 60000 + 1
            topic = f"r/{self.number % 100}" if self.number % 10 == 0 else "t/x"
            batch += wire.publish_packet(topic, payload, 1, packet_id, topic[0] == "r", version=4)
            self.number += 1
        if batch:
            self.send(bytes(batch))
        if not self.world.over:
            self.loop.later(0.01, self._feed)

    def on_packet(self, packet):
        if packet.kind != T.PUBACK or packet.packet_id != self.acked % 60000 + 1:
            return super().on_packet(packet)
        self.acked += 1


class Taker(Link):
    """Is there for a while and away for a while; gets every message of t/x once, in order."""

    def __init__(self, world, name, here_s, away_s):
        super().__init__(world, name, 4, True)
        self.here_s, self.away_s, self.next, self.subscribed = here_s, away_s, 1, False

    def on_connected(self, present):
        if not self.subscribed:
            self.send(wire.subscribe_packet(1, [("t/#", 1)], version=4))

    def on_packet(self, packet):
        if packet.kind == T.SUBACK:
            self.subscribed = True
            self._turn()
            return
        if packet.kind != T.PUBLISH:
            return super().on_packet(packet)
        number = int(packet.payload[:10])
        if number == self.next or packet.dup and number < self.next:
            self.next = max(self.next, number + 1)
            while self.next % 10 == 0:
                self.next += 1  # those were retained values
        else:
            self.fail(f"{number} came instead of {self.next}")
        self.send(wire.ack_packet(T.PUBACK, packet.packet_id, version=4))

    def _turn(self):
        if self.world.over:
            return
        if self.wanted:
            self.away(politely=True)
            self.loop.later(self.away_s, self._turn)
        else:
            self.back()
            self.loop.later(self.here_s, self._turn)


class Soak:
    def __init__(self, seconds, rate):
        self.seconds, self.rate, self.over = seconds, rate, False
        self.loop, self.oracle, self.random = Loop(), self, random.Random(1)
        self.failures = []
        self.directory = Path(tempfile.mkdtemp(prefix="skerry-soak-"))
        # What one taker misses while it is away fills some segments; the queue of the one that never comes is full soon.
        options = {
            "journal": {"segment": SEGMENT, "limit": "256MiB", "reserve": "2MiB", "replay": "4MiB"},
            "limits": {"queue_messages": int(rate * seconds / PARTS * 0.6), "queue_bytes": "1GiB", "queue_drop": "oldest"},
            "sys": {"interval": "off"}, "log": {"level": "info"},
        }
        self.broker = Broker(self.directory, 1, options)
        cycle_s = min(max(seconds / PARTS / 4, 0.5), 15)
        self.feeder = Feeder(self, "feeder", rate)
        self.takers = [Taker(self, f"taker{i}", cycle_s / (i + 1), cycle_s) for i in range(3)]

    def fail(self, what):
        if len(self.failures) < 10:
            self.failures.append(what)

    def journal_bytes(self):
        sizes = []
        for path in (self.directory / "data").rglob("*"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                pass  # removed meanwhile
        return sum(sizes)

    def run(self):
        never = self.broker.persistent(4, "never")
        never.subscribe("#", qos=1)
        never.disconnect()
        for one in self.takers:
            one.start()
        self.loop.run(5, lambda: all(one.subscribed for one in self.takers))
        self.feeder.start()
        parts = [self.part(number) for number in range(PARTS)]
        self.over = True
        self.compare(parts)
        self.finish()
        self.broker.stop()

    def part(self, number):
        """The highest size of the files and of the process in one part of the time."""
        files = memory = 0
        end = time.monotonic() + self.seconds / PARTS
        while time.monotonic() < end and not self.failures:
            self.loop.run(min(0.2, self.seconds / PARTS / 10))
            files, memory = max(files, self.journal_bytes()), max(memory, self.broker.memory_bytes())
        print(
            f"part {number + 1}: {self.feeder.acked} messages acknowledged, journal at most {files >> 10} KiB, "
            f"process at most {memory >> 10} KiB", flush=True,
        )
        return files, memory

    def compare(self, parts):
        files, memory = parts[1]
        for number, (later_files, later_memory) in enumerate(parts[2:], 3):
            if later_files > files * 1.1 + 3 * SEGMENT:
                self.fail(f"the journal has grown from {files} bytes in part 2 to {later_files} in part {number}")
            if later_memory > memory * 1.05 + (1 << 20):
                self.fail(f"the process has grown from {memory} bytes in part 2 to {later_memory} in part {number}")
        if self.feeder.acked < self.rate * self.seconds * 0.8:
            self.fail(f"only {self.feeder.acked} messages in {self.seconds} s")

    def finish(self):
        """All takers get the rest."""
        for one in self.takers:
            one.back()
        last = self.feeder.number

        def done():
            return self.feeder.acked == last and all(one.next >= last for one in self.takers) or self.failures

        if not self.loop.run(30, done):
            self.fail(f"of {last} messages the takers have {[one.next for one in self.takers]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=1500, help="messages per second (default: %(default)s)")
    options = parser.parse_args()
    soak = Soak(options.seconds, options.rate)
    try:
        soak.run()
    except AssertionError as error:
        soak.fail(str(error))
    finally:
        soak.broker.kill()
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    if soak.failures:
        print(f"directory: {soak.directory}")
    elif not os.environ.get("SKERRY_CRASH_KEEP"):
        shutil.rmtree(soak.directory)
    print(f"{PARTS - len(soak.failures) if not soak.failures else 0} passed, {len(soak.failures)} failed")
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
