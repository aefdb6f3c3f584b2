"""One broker with its clients, killed again and again; then everything is delivered and counted."""

import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from broker import Broker  # noqa: E402
from clients import Loop, Publisher, RetainedReader, Subscriber, WillOwner  # noqa: E402
from foreign import MosquittoSubscriber, PahoPublisher  # noqa: E402
from oracle import Oracle  # noqa: E402
from powercut import MODES, PowerCut  # noqa: E402
from wire import SLOW  # noqa: E402

Result = collections.namedtuple(
    "Result", "seed rounds failures directory sent acked delivered repeated refused segments lost"
)


class IdleBroker(Broker):
    """Starts when it is told to, not when it is made."""

    def __init__(self, *args, **kw):
        self.made = False
        super().__init__(*args, wait=False, **kw)
        self.made = True

    def spawn(self):
        if self.made:
            super().spawn()
        else:
            self.pid = None


class World:
    """`mode`: kill, power (the disk loses what was not synced), lie (and the broker's syncs do nothing)."""

    def __init__(self, seed, mode, rounds, library=None, data=True, lie=None):
        self.seed, self.mode, self.data = seed, mode, data
        self.random = random.Random(f"{seed} {mode}")
        self.loop, self.oracle = Loop(), Oracle()
        self.directory = Path(tempfile.mkdtemp(prefix="skerry-crash-"))
        self.rounds = rounds
        self.began = time.monotonic()
        self.draining = False
        self.lost = 0
        self.power = None
        (self.directory / "data").mkdir()
        if mode == "power":
            delay_us = self.random.choice([0, 300, 3000, 20_000])
            self.power = PowerCut(library, self.directory / "data", self.directory / "undo", lie, delay_us)
        self.broker = self._make_broker()
        self._make_clients()

    def _make_broker(self):
        pick = self.random.choice
        options = {
            "sys": {"interval": "off"},
            "log": {"level": "info"},
            "limits": {"queue_bytes": "1GiB", "queue_messages": 0},
            "journal": {
                "segment": pick(["64KiB", "256KiB", "1MiB"]), "limit": pick(["16MiB", "48MiB", "1GiB"]),
                "reserve": pick(["256KiB", "2MiB"]), "replay": pick(["64KiB", "1MiB", "4MiB"]),
            },
        }
        if not self.data:
            options.pop("journal")
        environment = dict(os.environ, **(self.power.environment if self.power else {}))
        # A kill in the middle of the search for leaks leaves a report that says nothing.
        environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        broker = IdleBroker(self.directory, shards=pick([1, 2]), options=options, env=environment)
        if not self.data:
            broker.config["broker"].pop("data")
            broker.write_config()
        return broker

    def _make_clients(self):
        pick = self.random.choice
        numbers = iter(range(1, 1000))
        self.publishers = []
        for _ in range(self.random.randint(2, 4)):
            qos = pick([1, 2])
            self.publishers.append(Publisher(self, next(numbers), pick([4, 5]), qos == 2 or pick([True, False]), qos))
        self.publishers.append(Publisher(self, next(numbers), pick([4, 5]), True, pick([1, 2]), retain=True))
        self.owners = [WillOwner(self, next(numbers), pick([4, 5]), pick([1, 2])) for _ in range(2)]
        if self.seed % 5 == 0:
            self.publishers.append(PahoPublisher(self, next(numbers)))
        wills = [one.topics[0] for one in self.owners]
        per_publisher = [f"t/{one.number}/{pick(['#', '+'])}" for one in self.publishers if not one.retain]
        self.subscribers = [Subscriber(self, next(numbers), pick([4, 5]), [("t/#", 2)])]
        for _ in range(self.random.randint(1, 3)):
            some = self.random.sample(per_publisher, self.random.randint(1, len(per_publisher)))
            filters = [(one, pick([1, 2, 2])) for one in some + wills]
            self.subscribers.append(Subscriber(self, next(numbers), pick([4, 5]), filters))
        shared = (f"$share/g/t/{pick(['#', '+/0'])}", pick([1, 2]))
        self.subscribers += [Subscriber(self, next(numbers), pick([4, 5]), [shared]) for _ in range(2)]
        self.foreign = [MosquittoSubscriber(self, next(numbers))] if self.seed % 5 == 1 else []
        self.readers = []

    def note(self, what):
        with open(self.directory / "harness.log", "a", encoding="utf-8") as log:
            log.write(f"{time.monotonic() - self.began:.3f} {what}\n")

    # The life of the broker

    def start(self):
        """Kills it while it starts, sometimes."""
        while self.random.random() < 0.15:
            self.broker.spawn()
            time.sleep(self.random.random() * 0.05)
            self.note("kill while starting")
            self.kill()
        self.note("start")
        self.broker.start()

    def kill(self):
        self.broker.kill()
        self._cut()

    def _cut(self):
        if self.power:
            mode = self.random.choice(MODES)
            sectors, changes = self.power.cut(mode, self.random)
            self.note(f"power cut, {mode}: {sectors} sectors and {changes} changes of the directory lost")
            self.lost += sectors + changes

    def crash(self):
        """How a round ends."""
        how = self.random.random()
        if how < 0.1:
            self.note("stop")
            self.broker.stop()
            self._cut()
        elif how < 0.2:
            self.note("stop, then kill")
            self.broker.signal(signal.SIGTERM)
            time.sleep(self.random.random() * 0.03)
            self.kill()
        else:
            self.note("kill")
            self.kill()

    # The life of the clients

    def trouble(self):
        """Something happens to some client, every now and then."""
        if self.draining:
            return
        kind = self.random.random()
        if kind < 0.5:
            one = self.random.choice(self.subscribers)
            if one.wanted and self.random.random() < 0.6:
                one.away(politely=self.random.random() < 0.5)
                self.loop.later(self.random.choice([0.001, 0.05, 0.5]) * self.random.random(), one.back)
            elif one.wanted:
                one.change()
        elif kind < 0.7:
            one = self.random.choice(self.owners)
            if one.wanted and one.connected:
                one.leave() if self.random.random() < 0.3 else one.away(politely=False)
                self.loop.later(self.random.random() * 0.05, one.back)
        elif kind < 0.85:
            one = self.random.choice(self.publishers)
            one.lost()
        else:
            self._read_retained()
        self.loop.later(self.random.random() * 0.1, self.trouble)

    def _read_retained(self):
        reader = RetainedReader(self, len(self.readers))
        self.readers.append(reader)
        reader.start()

    def all_clients(self):
        return [*self.publishers, *self.owners, *self.subscribers, *self.foreign]

    # The whole

    def run(self):
        try:
            self._run()
        except AssertionError as error:
            self.oracle.fail(f"{error}"[:3000])
        finally:
            for one in self.foreign:
                one.end()
            self.broker.kill()
        return self.result()

    def _run(self):
        self.start()
        for one in self.all_clients():
            one.start()
        self.loop.later(0.05, self.trouble)
        for number in range(self.rounds):
            self.loop.run(self.random.choice([0.05, 0.3, 0.6, 0.6]) * self.random.random() + 0.02)
            self._check_running()
            self.crash()
            self.loop.run(0.02)  # what it had said before its end
            self._read_retained()
            self.start()
            self.note(f"round {number + 1} of {self.rounds} over")
            if self.oracle.failures:
                return
        self._drain()
        if not self.oracle.failures:
            self._nothing_more()

    def _check_running(self):
        code = self.broker.process.poll()
        assert code is None, f"the broker has ended by itself with {code}"
        self.broker.check_log()

    def _wait(self, what, condition):
        """As long as there is progress."""
        before, limit = None, 10 * SLOW
        while True:
            if self.loop.run(limit, lambda: condition() or self.oracle.failures):
                return not self.oracle.failures
            progress = (self.oracle.deliveries, sum(len(one.in_flight) for one in self.publishers))
            if progress == before:
                self.oracle.fail(f"never: {what()}")
                return False
            before = progress

    def _drain(self):
        """Everything that is owed comes now."""
        self.note("drain")
        self.draining = True
        for one in self.publishers:
            one.stop()
        for one in self.owners:
            one.retired = True
            one.leave()
        for one in self.subscribers:
            one.away(politely=False)  # with other habits from now on
            one.back()
        for one in self.publishers + self.foreign:
            one.back()
        idle = lambda: all(one.idle() for one in self.publishers) and all(one.finished for one in self.readers)  # noqa: E731
        if not self._wait(self._busy, idle):
            return
        self._read_retained()
        left = self.oracle.required(self.subscribers + self.foreign)

        def complete():
            left[:] = [entry for entry in left if not entry[2][entry[1]]]
            settled = all(one.settled() for one in self.subscribers) and self.readers[-1].finished
            return settled and not left and self.loop.run(0.03, lambda: False) is False

        def missing():
            if not left:
                return self._unsettled()
            some = "; ".join(f"{who}: {message}" for who, message, _ in left[:5])
            return f"{len(left)} acknowledged messages were not delivered: {some}"

        self._wait(missing, complete)

    def _busy(self):
        for one in self.publishers:
            if not one.idle():
                waits = next(iter(one.in_flight.values())).message
                return f"the acknowledgement for {one.client_id} of {waits}"
        one = next(one for one in self.readers if not one.finished)
        return (
            f"for {one.client_id} (version {one.version}), the retained values of {one.missing()}; "
            f"expected {one.expected}, got {one.log}"
        )

    def _unsettled(self):
        for one in self.subscribers:
            if not one.settled():
                owed = [str(message) for message in one.owed.values()][:3]
                return (
                    f"{one.client_id} settled: connected {one.connected}, QoS 2 open {list(one.received)[:5]}, "
                    f"not acknowledged {owed}, asked {one.asked}"
                )
        return "the retained values"

    def _nothing_more(self):
        """A clean stop and a start: whatever was acknowledged does not come again, and nothing is left."""
        # What had reached them before a kill, but not the acknowledgement the disk, comes again first.
        waiting = lambda: self.broker.metrics().total("skerry_journal_queued_messages")  # noqa: E731
        if not self._wait(lambda: "all queues empty", lambda: waiting() == 0):
            return
        for one in self.subscribers:
            one.ping()
            one.ping()
        if not self._wait(lambda: "PINGRESP", lambda: all(one.pings == 0 for one in self.subscribers)):
            return
        for one in self.publishers:
            one.away(politely=True)
        self.broker.stop()
        self._cut()
        self.loop.run(0.02)
        before = self.oracle.deliveries
        self.oracle.recent.clear()
        self.broker.start()
        if not self._wait(self._unsettled, lambda: all(one.settled() for one in self.subscribers)):
            return
        for one in self.subscribers:
            one.ping()
            one.ping()
        self._wait(lambda: "PINGRESP", lambda: all(one.pings == 0 for one in self.subscribers))
        if self.oracle.deliveries != before:
            came = [f"{who}: {message}" for who, message in self.oracle.recent][:3]
            self.oracle.fail(f"{self.oracle.deliveries - before} messages came after all were acknowledged: {came}")
        self.broker.stop()

    def segments(self):
        """The highest number of a segment: how many there were."""
        numbers = [int(path.stem) for path in self.directory.rglob("*.segment")]
        return max(numbers, default=0)

    def result(self):
        messages = self.oracle.messages.values()
        failures, segments = self.oracle.failures, self.segments()
        if not failures and not os.environ.get("SKERRY_CRASH_KEEP"):
            shutil.rmtree(self.directory)
        return Result(
            self.seed, self.rounds, failures, str(self.directory), sum(one.first_sent is not None for one in messages),
            sum(one.acked is not None for one in messages), self.oracle.deliveries, self.oracle.repeated,
            sum(one.refused for one in messages), segments, self.lost,
        )
