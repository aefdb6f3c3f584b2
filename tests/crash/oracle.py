"""What must hold whatever happens to the broker, in the words of the contract:

- a message that was acknowledged reaches every durable subscriber whose SUBACK came before it was sent;
- QoS 2 from end to end: its application gets it exactly once;
- per topic and publisher, messages come in order (by first occurrence);
- nothing comes that was not sent, or for a filter that was given up before;
- a retained value is the last acknowledged one or a later one that was sent.
"""

import collections
import itertools

FAILURES = 20  # more of them say nothing new


class Message:
    __slots__ = (
        "owner", "serial", "topic", "size", "clears", "qos", "version", "once", "first_sent", "acked", "told", "refused"
    )

    def __init__(self, owner, serial, topic, size, clears):
        self.owner, self.serial, self.topic, self.size, self.clears = owner.number, serial, topic, size, clears
        self.qos, self.version, self.once = owner.qos, owner.version, owner.once
        self.first_sent = self.acked = None
        self.told = self.refused = False

    def payload(self):
        if self.clears:
            return b""
        head = b"%d:%d:" % (self.owner, self.serial)
        filler = b"%08x" % (self.serial * 2654435761 + self.owner & 0xFFFFFFFF)
        return (head + filler * ((self.size - len(head)) // 8 + 1))[: max(self.size, len(head))]

    def __str__(self):
        state = "refused" if self.refused else "acknowledged" if self.acked else "not acknowledged"
        return f"{self.owner}:{self.serial} (topic {self.topic}, QoS {self.qos}, {state})"


class Oracle:
    def __init__(self):
        self.events = itertools.count(1)
        self.messages = {}  # (owner, serial) → message, in the order of creation
        self.failures = []
        self.counts = collections.defaultdict(collections.Counter)  # subscriber → message → deliveries
        self.last = {}  # (subscriber, topic) → serial of the last first occurrence
        self.groups = collections.defaultdict(collections.Counter)  # shared filter → message → deliveries
        self.past = collections.defaultdict(list)  # subscriber → subscriptions that were given up and replaced
        self.retained = {}  # topic → messages sent there that were not overtaken by a later acknowledged one
        self.recent = collections.deque(maxlen=100)  # deliveries
        self.cleared = {}  # topic → serial of the last message that clears it
        self.repeated = self.deliveries = 0

    def now(self):
        """Events have numbers instead of times."""
        return next(self.events)

    def fail(self, what):
        if len(self.failures) < FAILURES:
            self.failures.append(what)

    # Publishers

    def new_message(self, owner, topic, size, clears):
        message = Message(owner, owner.serial, topic, size, clears)
        self.messages[owner.number, owner.serial] = message
        if owner.retain:
            self.retained.setdefault(topic, [])
        return message

    def sent(self, message):
        if message.first_sent is None:
            message.first_sent = self.now()
            if message.topic in self.retained:
                self.retained[message.topic].append(message)
                if message.clears:
                    self.cleared[message.topic] = message.serial

    def acknowledged(self, message, told=True):
        """The broker has it: by its own words, or (a will) by what follows from them."""
        message.told |= told
        if message.acked:
            return
        message.acked = self.now()
        if message.topic in self.retained:
            values = self.retained[message.topic]
            del values[: values.index(message)]

    def refused(self, message, reason):
        message.refused = True
        if reason != 0x97:
            self.fail(f"{message} was refused with {reason:#x}")
        if message.topic in self.retained:
            self.retained[message.topic].remove(message)

    # Subscribers

    def find(self, link, packet):
        """The message that was sent as this packet."""
        try:
            owner, serial, _ = packet.payload.split(b":", 2)
            message = self.messages[int(owner), int(serial)]
        except (ValueError, KeyError):
            link.fail(f"nobody has sent {packet.topic} {packet.payload[:40]}")
            return None
        if message.topic != packet.topic or message.payload() != packet.payload:
            link.fail(f"{message} came with another topic or payload: {packet.topic} {len(packet.payload)} bytes")
        if link.version == 5 and message.version == 5 and packet.all("user") not in ([("n", str(serial.decode()))], []):
            link.fail(f"{message} came with other properties: {packet.props}")
        return message

    def subscription_replaced(self, subscriber, old, _new):
        self.past[subscriber].append(old)

    def delivered(self, subscriber, message, packet):
        """It has reached the application, for the first time or again."""
        self.deliveries += 1
        self.recent.append((subscriber.client_id, message))
        matching = [one for one in subscriber.subscriptions + self.past[subscriber] if one.matches(message.topic)]
        if not any(one.gone is None or message.first_sent < one.gone for one in matching):
            subscriber.fail(f"{message} came, though nothing asks for it")
            return
        shared = next((one.topic_filter for one in matching if one.group), None)
        counts = self.groups[shared] if shared else self.counts[subscriber]
        counts[message] += 1
        if counts[message] > 1:
            self.repeated += 1
            if message.once and packet.qos == 2:
                subscriber.fail(f"{message} has reached the application {counts[message]} times")
        elif not shared:
            # Sent before the subscription surely held, it may have come first to nobody, then later ones to the subscriber,
            # and then this one again, because a crash took its acknowledgement.
            held = any(one.since is not None and one.since < message.first_sent and one.until is None for one in matching)
            last = self.last.get((subscriber, message.topic), 0)
            if message.serial < last and held:
                subscriber.fail(f"{message} came after {last}")
            self.last[subscriber, message.topic] = max(last, message.serial)

    def required(self, subscribers):
        """[(who, message, counts)]: what must have come, once nothing is in flight."""
        out = []
        good = [one for one in self.messages.values() if one.acked and not one.refused and not one.clears]
        groups = {}
        for subscriber in subscribers:
            for one in subscriber.subscriptions:
                if one.since is None or one.until is not None:
                    continue
                topics = {}
                if one.group:
                    name, counts = one.topic_filter, self.groups[one.topic_filter]
                    since = min(one.since, groups.get(name, one.since))
                    if name in groups and since == groups[name]:
                        continue
                    groups[name] = since
                else:
                    name, counts, since = subscriber.client_id, self.counts[subscriber], one.since
                for message in good:
                    if message.first_sent > since and topics.setdefault(message.topic, one.matches(message.topic)):
                        out.append((name, message, counts))
        return out

    # Retained values

    def retained_floor(self):
        """By topic: the serial number of the last acknowledged value, 0: none."""
        return {topic: values[0].serial if values and values[0].acked else 0 for topic, values in self.retained.items()}

    def surely_retained(self, topic, floor):
        """Whether there was a value at any time since `floor`, whichever."""
        return floor[topic] > self.cleared.get(topic, 0)
