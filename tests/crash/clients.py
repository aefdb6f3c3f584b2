"""Clients as the standards want them, on one thread: they connect again whenever they can, resend, and keep their QoS state.

Each tells the oracle what it has sent and what was acknowledged, or what has reached its application.
"""

import collections
import errno
import heapq
import select
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import wire  # noqa: E402
from wire import T  # noqa: E402


class Loop:
    """Sockets and timers of one thread."""

    def __init__(self):
        self.poll, self.by_fd, self.timers, self.serial = select.epoll(), {}, [], 0

    def later(self, seconds, call):
        self.serial += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.serial, call))

    def add(self, client):
        client.fd = client.socket.fileno()
        self.by_fd[client.fd] = client
        self.poll.register(client.fd, select.EPOLLIN)

    def remove(self, client):
        del self.by_fd[client.fd]
        if client.socket.fileno() == client.fd:  # a foreign client closes it itself
            self.poll.unregister(client.fd)

    def want_output(self, client, wanted):
        self.poll.modify(client.fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def run(self, seconds, until=lambda: False):
        """Whether `until` came true in time."""
        deadline = time.monotonic() + seconds
        while not until():
            now = time.monotonic()
            if now >= deadline:
                return False
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            # Now and then also without an event: `until` may look elsewhere.
            wake = min(deadline, now + 0.02, self.timers[0][0] if self.timers else deadline)
            for fd, events in self.poll.poll(max(wake - time.monotonic(), 0)):
                client = self.by_fd.get(fd)
                if client and events & select.EPOLLOUT:
                    client.flush()
                if client and client.socket and events & ~select.EPOLLOUT:
                    client.receive()
        return True


class Link:
    """A client identifier with its connections, one after the other."""

    def __init__(self, world, client_id, version, durable):
        self.world, self.loop, self.oracle, self.random = world, world.loop, world.oracle, world.random
        self.client_id, self.version, self.durable = client_id, version, durable
        self.socket, self.connected, self.wanted = None, False, True
        self.input, self.output = b"", bytearray()
        self.sure = False  # something was acknowledged that the session's existence was stored before
        self.generation = 0  # of the connection: what was planned for one does not happen on the next
        self.receive_maximum = 65535
        self.retired = False  # does not come back any more

    # Connections

    def start(self):
        self.loop.later(self.random.random() * 0.01, self.open)

    def open(self):
        if self.socket or not self.wanted:
            return
        one = socket.socket()
        try:
            one.connect(("127.0.0.1", self.world.broker.port))
        except OSError as error:
            one.close()
            if error.errno not in (errno.ECONNREFUSED, errno.ECONNRESET):
                raise
            self.loop.later(0.002 + self.random.random() * 0.01, self.open)
            return
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.input, self.output = one, b"", bytearray()
        self.generation += 1
        self.loop.add(self)
        self.send(self.connect_packet())

    def connect_packet(self, **kw):
        props = []
        if self.version == 5 and self.durable:
            props = [("session_expiry", 3600)]
        return wire.connect_packet(
            self.client_id, version=self.version, clean=not self.durable, keep_alive=0, props=props, **kw
        )

    def lost(self, again=True):
        if not self.socket:
            return
        self.loop.remove(self)
        self.socket.close()
        self.socket = None
        self.connected = False
        self.generation += 1
        self.on_lost()
        if again and self.wanted:
            self.loop.later(self.random.choice([0, 0, 0.01, 0.05]) * self.random.random(), self.open)

    def away(self, politely):
        """Leaves until `back`."""
        self.wanted = False
        if self.socket:
            if politely and self.connected:
                self.send(wire.disconnect_packet(version=self.version))
            self.lost(again=False)

    def back(self):
        self.wanted = not self.retired
        self.open()

    def send(self, data):
        if not self.socket:
            return
        self.output += data
        if len(self.output) == len(data):
            self.flush()

    def flush(self):
        try:
            while self.output:
                sent = self.socket.send(self.output)
                del self.output[:sent]
        except BlockingIOError:
            self.loop.want_output(self, True)
            return
        except OSError:
            # What the broker said before its end is still to be read.
            self.output.clear()
        self.loop.want_output(self, False)

    def receive(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        raw, at = self.input + data, 0
        while self.socket:
            size, head = self._frame(raw, at)
            if size is None:
                break
            packet = wire.Packet(raw[at] >> 4, raw[at] & 15, raw[at + head : at + head + size], self.version, head + size)
            at += head + size
            self.handle(packet)
        self.input = raw[at:]

    @staticmethod
    def _frame(raw, at):
        """(remaining length, size of the fixed header) of the packet there, or None when it is not whole."""
        size = shift = 0
        for i in range(at + 1, min(at + 5, len(raw))):
            size |= (raw[i] & 0x7F) << shift
            shift += 7
            if raw[i] < 0x80:
                head = i + 1 - at
                return (size, head) if len(raw) - at >= head + size else (None, 0)
        return None, 0

    # Packets

    def handle(self, packet):
        if packet.kind == T.CONNACK:
            self._on_connack(packet)
        elif packet.kind == T.DISCONNECT:
            self.world.note(f"{self.client_id}: DISCONNECT {packet.reason:#x}")
            if packet.reason not in (0x8B, 0x8E):  # stopping; taken over by the next connection of this client
                self.fail(f"DISCONNECT with reason {packet.reason:#x}")
        elif packet.kind != T.PINGRESP:
            self.on_packet(packet)

    def _on_connack(self, packet):
        if packet.reason:
            self.world.note(f"{self.client_id}: CONNACK {packet.reason:#x}")
            return
        if self.durable and self.sure and not packet.session_present:
            self.fail("the session is gone")
        self.connected = True
        self.receive_maximum = packet.prop("receive_maximum", 65535)
        self.on_connected(packet.session_present)

    def fail(self, what):
        self.oracle.fail(f"{self.client_id} (version {self.version}): {what}")

    def on_connected(self, present):
        pass

    def on_lost(self):
        pass

    def on_packet(self, packet):
        self.fail(f"unexpected {packet.kind.name}")


class InFlight:
    """A message of a publisher's on its way."""

    __slots__ = ("message", "packet_id", "released", "sent")

    def __init__(self, message, packet_id):
        self.message, self.packet_id, self.released, self.sent = message, packet_id, False, False


class Publisher(Link):
    """QoS 1 or 2, some topics, a window; retained values if asked. Sends until told to stop, and again what is owed.

    Uses packet identifiers again at once: a broker that forgets which are in use shows it.
    """

    def __init__(self, world, number, version, durable, qos, retain=False):
        super().__init__(world, f"pub{number}", version, durable)
        self.number, self.qos, self.retain, self.once = number, qos, retain, qos == 2
        self.topics = [f"{'r' if retain else 't'}/{number}/{k}" for k in range(self.random.randint(1, 4))]
        self.window = self.random.choice([1, 4, 20, 60])
        self.sizes = self.random.choice([(0, 60), (100, 400), (100, 400), (1000, 6000), (8000, 30000)])
        self.serial = 0
        self.in_flight = collections.OrderedDict()  # by packet identifier, in the order of sending
        self.ids = list(range(1, self.window + 1))
        self.producing = True
        self.rested = True

    def stop(self):
        self.producing = False

    def idle(self):
        return not self.in_flight

    def pump(self):
        while self.producing and self.connected and self.rested and self.ids:
            if len(self.in_flight) >= min(self.window, self.receive_maximum):
                break
            self.serial += 1
            size = self.random.randint(*self.sizes)
            clears = self.retain and self.random.random() < 0.1
            message = self.oracle.new_message(self, self.random.choice(self.topics), size, clears)
            one = InFlight(message, heapq.heappop(self.ids))
            self.in_flight[one.packet_id] = one
            self._send_message(one, dup=False)
            if self.random.random() < 0.002:
                self._rest()

    def _rest(self):
        self.rested = False

        def go_on():
            self.rested = True
            self.pump()

        self.loop.later(self.random.random() * 0.05, go_on)

    def _send_message(self, one, dup):
        self.oracle.sent(one.message)
        one.sent = True
        props = [("user", ("n", str(one.message.serial)))] if self.version == 5 else None
        self.send(
            wire.publish_packet(
                one.message.topic, one.message.payload(), self.qos, one.packet_id, self.retain, dup, props, self.version
            )
        )

    def on_connected(self, present):
        if not present and any(one.released for one in self.in_flight.values()):
            if self.sure:
                return  # told already
            self.fail("no session, but PUBREC had come")
        for one in list(self.in_flight.values()):
            if one.released:
                self.send(wire.ack_packet(T.PUBREL, one.packet_id, version=self.version))
            else:
                # Without a session it is a new message to the broker, though the same to us.
                self._send_message(one, dup=present)
        self.pump()

    def on_packet(self, packet):
        one = self.in_flight.get(packet.packet_id)
        if packet.kind not in (T.PUBACK, T.PUBREC, T.PUBCOMP):
            return super().on_packet(packet)
        if one is None:
            return self.fail(f"{packet.kind.name} {packet.packet_id} for nothing")
        if packet.kind == (T.PUBACK if self.qos == 1 else T.PUBREC) and not one.released:
            self._check_order(one, packet)
            self._on_first_ack(one, packet)
        elif packet.kind == T.PUBCOMP and one.released:
            self._done(one)
        elif packet.kind == T.PUBREC and one.released:
            self.send(wire.ack_packet(T.PUBREL, one.packet_id, version=self.version))
        else:
            self.fail(f"{packet.kind.name} {packet.packet_id} at the wrong time")
        self.pump()

    def _check_order(self, one, packet):
        """[MQTT-4.6.0-2], [MQTT-4.6.0-3]: in the order of the PUBLISH packets."""
        first = next(other for other in self.in_flight.values() if not other.released)
        if first is not one:
            self.fail(f"{packet.kind.name} {one.packet_id} before that of {first.packet_id}")

    def _on_first_ack(self, one, packet):
        if packet.reason >= 0x80:
            self.oracle.refused(one.message, packet.reason)
            self._done(one)
            return
        self.oracle.acknowledged(one.message)
        if self.qos == 1:
            self._done(one)
            return
        self.sure = True
        one.released = True
        generation = self.generation

        def release():
            if self.generation == generation:
                self.send(wire.ack_packet(T.PUBREL, one.packet_id, version=self.version))

        # Released in order all the same: all or none of a connection's are late.
        if self.late_release:
            self.loop.later(0.02, release)
        else:
            release()

    def on_lost(self):
        self.late_release = self.random.random() < 0.3

    late_release = False

    def _done(self, one):
        del self.in_flight[one.packet_id]
        heapq.heappush(self.ids, one.packet_id)


class Subscription:
    """A filter of a subscriber's, and since when it surely holds. `until`: when it was given up."""

    def __init__(self, topic_filter, qos):
        self.topic_filter, self.qos = topic_filter, qos
        self.since = self.until = self.gone = None

    @property
    def group(self):
        return self.topic_filter.split("/")[1] if self.topic_filter.startswith("$share/") else None

    def matches(self, topic):
        pattern = self.topic_filter.split("/")[2 if self.group else 0 :]
        levels = topic.split("/")
        for i, part in enumerate(pattern):
            if part == "#":
                return True
            if i >= len(levels) or part not in ("+", levels[i]):
                return False
        return len(pattern) == len(levels)


class Subscriber(Link):
    """A session that outlives its connections; what reaches its application is told to the oracle once per delivery."""

    def __init__(self, world, number, version, filters):
        super().__init__(world, f"sub{number}", version, True)
        self.subscriptions = [Subscription(*one) for one in filters]
        self.asked = {}  # SUBSCRIBE and UNSUBSCRIBE on their way: packet identifier → (kind, subscription)
        self.packet_ids = 0
        self.received = {}  # QoS 2 packet identifiers between PUBLISH and PUBREL → message
        self.owed = {}  # QoS 1 packet identifiers that came and were not acknowledged → message
        self.certain = {}  # of these, on the last connection, those that the broker must remember
        self.waiting = collections.deque()  # acknowledgements for later
        self.patience = 0
        self.pings = 0
        self.choose_patience()

    def choose_patience(self):
        """How late it acknowledges: at once, after a while, not at all on this connection."""
        self.patience = self.random.choice([0, 0, 0, 0.005, 0.05, None]) if not self.world.draining else 0

    # Subscriptions

    def on_connected(self, present):
        self.choose_patience()
        self.waiting.clear()
        self.asked.clear()
        self.pings = 0
        # QoS 1 may come before it is stored (QoS 2 may not): what nobody had acknowledged can have been forgotten.
        self.owed = dict(self.certain) if present else {}
        if not present:
            self.received.clear()
            self.certain.clear()
        for one in self.subscriptions:
            if one.until is not None and one.gone is None:
                self._unsubscribe(one)
            elif one.since is None:
                self._subscribe(one)

    def _ask(self, kind, one):
        self.packet_ids = self.packet_ids % 1000 + 1
        self.asked[self.packet_ids] = (kind, one)
        return self.packet_ids

    def _subscribe(self, one):
        packet_id = self._ask(T.SUBACK, one)
        self.send(wire.subscribe_packet(packet_id, [(one.topic_filter, one.qos)], version=self.version))

    def _unsubscribe(self, one):
        self.send(wire.unsubscribe_packet(self._ask(T.UNSUBACK, one), [one.topic_filter], version=self.version))

    def change(self):
        """Gives one filter up, or subscribes again to what was given up."""
        mine = [one for one in self.subscriptions if not one.group]
        if not self.connected or self.asked or not mine:
            return
        one = self.random.choice(mine)
        if one.gone is not None:
            again = Subscription(one.topic_filter, one.qos)
            self.subscriptions.remove(one)
            self.oracle.subscription_replaced(self, one, again)
            self.subscriptions.append(again)
            self._subscribe(again)
        elif one.since is not None and one.until is None:
            one.until = self.oracle.now()
            self._unsubscribe(one)

    # Packets

    def on_packet(self, packet):
        if packet.kind == T.PUBLISH:
            self._on_publish(packet)
        elif packet.kind == T.PUBREL:
            self.received.pop(packet.packet_id, None)
            self._acknowledge(T.PUBCOMP, packet.packet_id)
        elif packet.kind in (T.SUBACK, T.UNSUBACK):
            kind, one = self.asked.pop(packet.packet_id, (None, None))
            if kind != packet.kind or any(reason >= 0x80 for reason in packet.reasons):
                self.fail(f"{packet.kind.name} {packet.reasons} for {kind}")
            elif kind == T.SUBACK:
                one.since = self.oracle.now()
                self.sure = True
            else:
                one.gone = self.oracle.now()
        else:
            super().on_packet(packet)

    def _on_publish(self, packet):
        message = self.oracle.find(self, packet)
        if message is None or not packet.qos:
            return self.fail(f"came at QoS {packet.qos}: {packet.topic} {packet.payload[:40]}")
        if packet.qos == 2:
            known = self.received.get(packet.packet_id)
            if known is None:
                self.received[packet.packet_id] = message
                self.oracle.delivered(self, message, packet)
            elif known is not message:
                self.fail(f"packet identifier {packet.packet_id} is that of {known} still, but {message} came with it")
            elif not packet.dup:
                self.fail(f"{message} came again without DUP")
            self._acknowledge(T.PUBREC, packet.packet_id)
            return
        again = self.certain.pop(packet.packet_id, message)
        if again is not message:
            self.fail(f"packet identifier {packet.packet_id} is that of {again} still, but {message} came with it")
        elif packet.packet_id in self.owed and not packet.dup:
            self.fail(f"{message} came again without DUP")
        self.owed[packet.packet_id] = message
        self.oracle.delivered(self, message, packet)
        self._acknowledge(T.PUBACK, packet.packet_id)

    def _acknowledge(self, kind, packet_id):
        """In the order of what came."""
        if self.patience is None:
            return
        if not self.patience and not self.waiting:
            self._answer(kind, packet_id)
            return
        self.waiting.append((kind, packet_id))
        generation = self.generation

        def next_one():
            if self.generation == generation and self.waiting:
                self._answer(*self.waiting.popleft())

        self.loop.later(self.patience, next_one)

    def _answer(self, kind, packet_id):
        if kind == T.PUBACK:
            self.owed.pop(packet_id, None)
        self.send(wire.ack_packet(kind, packet_id, version=self.version))

    def on_lost(self):
        self.certain |= {packet_id: message for packet_id, message in self.owed.items() if message.told}
        self.owed = {}  # what is told later may be told of another copy

    def ping(self):
        self.pings += 1
        self.send(wire.PINGREQ)

    def handle(self, packet):
        if packet.kind == T.PINGRESP:
            self.pings -= 1
        super().handle(packet)

    def settled(self):
        return self.connected and not self.received and not self.owed and not self.asked and not self.waiting


class WillOwner(Link):
    """A durable client whose connections break: each has its own will, which must come once the broker surely knew it."""

    def __init__(self, world, number, version, qos):
        super().__init__(world, f"will{number}", version, True)
        self.number, self.qos, self.serial, self.will = number, qos, 0, None
        self.topics = [f"t/{number}/w"]
        # A kill between sending a will and forgetting it sends it twice.
        self.retain = self.once = False

    def connect_packet(self):
        self.serial += 1
        self.armed = False
        self.will = self.oracle.new_message(self, self.topics[0], 20, False)
        self.oracle.sent(self.will)
        return super().connect_packet(
            will={"topic": self.will.topic, "payload": self.will.payload(), "qos": self.qos, "retain": False, "props": []}
        )

    def on_connected(self, present):
        # Its acknowledgement waits for the disk, and with it comes all that was before.
        self.send(wire.subscribe_packet(1, [(f"none/{self.number}", 1)], version=self.version))

    def on_packet(self, packet):
        if packet.kind != T.SUBACK:
            return super().on_packet(packet)
        self.sure = self.armed = True

    def on_lost(self):
        if self.armed:
            self.oracle.acknowledged(self.will, told=False)
        self.armed = False

    def leave(self):
        """DISCONNECT: no will, unless the broker dies before it has heard of it."""
        self.armed = False
        self.away(politely=True)

    def idle(self):
        return True


class RetainedReader(Link):
    """Looks up the retained values once, at any time, as a new client: none may be older than the last one acknowledged."""

    def __init__(self, world, number):
        super().__init__(world, f"reader{number}", world.random.choice([4, 5]), False)
        self.expected, self.seen, self.finished, self.log = None, {}, False, []

    def on_connected(self, present):
        self.expected = self.oracle.retained_floor()
        self.seen, self.log = {}, []
        self.send(wire.subscribe_packet(1, [("r/#", 1)], version=self.version))

    def on_packet(self, packet):
        if packet.kind == T.SUBACK:
            self.log.append("SUBACK")
            self.subscribed = True
        elif packet.kind == T.PUBLISH:
            if packet.qos:
                self.send(wire.ack_packet(T.PUBACK, packet.packet_id, version=self.version))
            self.log.append(f"{'retained' if packet.retain else 'live'} {packet.topic} {packet.payload[:12]}")
            self._on_value(packet)
        else:
            return super().on_packet(packet)
        if self.missing() == []:
            self._finish()

    def _on_value(self, packet):
        """A newer value that comes live has taken the place of the one that was retained before."""
        if packet.retain or packet.payload:
            message = self.oracle.find(self, packet)
            if message is None:
                return
            self.seen[packet.topic] = message
            floor = self.expected.get(packet.topic, 0)
            if message.serial < floor:
                self.fail(f"the value is {message}, but {floor} was acknowledged")

    subscribed = False

    def missing(self):
        """Topics that have a value for sure and have not come yet. None before SUBACK."""
        if not self.subscribed:
            return None
        sure = [topic for topic in self.expected if self.oracle.surely_retained(topic, self.expected)]
        return [topic for topic in sure if topic not in self.seen]

    def _finish(self):
        self.finished = True
        self.away(politely=True)
