"""Clients that somebody else wrote, in the harness's loop: Paho publishes, mosquitto_sub subscribes."""

import collections
import os
import subprocess

import paho.mqtt.client as paho
from clients import Subscription


class PahoPublisher:
    """QoS 1 with a persistent session of 3.1.1. Paho resends by itself after each reconnect.

    Not QoS 2: when a connection ends before its CONNACK, it sends PUBLISH again where PUBREL is due.
    """

    def __init__(self, world, number):
        self.world, self.loop, self.oracle, self.random = world, world.loop, world.oracle, world.random
        self.number, self.qos, self.version, self.retain = number, 1, 4, False
        self.once = False
        self.client_id, self.topics, self.serial = f"paho{number}", [f"t/{number}/0", f"t/{number}/1"], 0
        self.in_flight = collections.OrderedDict()  # by Paho's message identifier
        self.producing = self.wanted = True
        self.socket = None
        self.paho = paho.Client(self.client_id, clean_session=False, protocol=paho.MQTTv311)
        self.paho.on_connect = self._on_connect
        self.paho.on_publish = self._on_publish

    def start(self):
        self.open()

    back = start

    def stop(self):
        self.producing = False

    def idle(self):
        return not self.in_flight

    def open(self):
        if self.socket or not self.wanted:
            return
        try:
            self.paho.connect("127.0.0.1", self.world.broker.port, keepalive=0)
        except OSError:
            self.loop.later(0.02, self.open)
            return
        self.socket = self.paho.socket()
        self.loop.add(self)
        self.flush()

    def lost(self):
        if not self.socket:
            return
        self.loop.remove(self)
        self.socket.close()
        self.socket = None
        self.paho.loop_misc()
        self.loop.later(0.02, self.open)

    def away(self, politely):
        self.wanted = False
        if self.socket:
            self.lost()

    def receive(self):
        if self.paho.loop_read(100) != paho.MQTT_ERR_SUCCESS or self.socket.fileno() < 0:
            self.lost()
            return
        self._pump()
        self.flush()

    def flush(self):
        if self.socket and self.paho.want_write() and self.paho.loop_write() != paho.MQTT_ERR_SUCCESS:
            self.lost()
        if self.socket and self.socket.fileno() == self.fd:
            self.loop.want_output(self, self.paho.want_write())

    def _on_connect(self, _client, _data, _flags, code):
        if code:
            self.oracle.fail(f"{self.client_id}: CONNACK {code}")

    def _on_publish(self, _client, _data, mid):
        one = self.in_flight.pop(mid, None)
        if one is None:
            self.oracle.fail(f"{self.client_id}: Paho was told of {mid} twice")
        else:
            self.oracle.acknowledged(one.message)

    Entry = collections.namedtuple("Entry", "message")

    def _pump(self):
        while self.producing and self.paho.is_connected() and len(self.in_flight) < 10:
            self.serial += 1
            message = self.oracle.new_message(self, self.random.choice(self.topics), self.random.randint(0, 300), False)
            self.oracle.sent(message)
            info = self.paho.publish(message.topic, message.payload(), self.qos)
            self.in_flight[info.mid] = self.Entry(message)


class MosquittoSubscriber:
    """mosquitto_sub with a persistent session; it connects again by itself, after a second.

    At QoS 1: at 2 its library keeps what is sent again beside what it has, and mixes them up later.
    """

    def __init__(self, world, number):
        self.world, self.loop, self.oracle = world, world.loop, world.oracle
        self.client_id, self.version = f"mosquitto{number}", 4
        self.subscriptions = [Subscription("t/#", 1)]
        self.process = self.socket = None
        self.input = b""

    def start(self):
        self.process = subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.world.broker.port), "-i", self.client_id, "-c", "-q", "1",
             "-t", "t/#", "-V", "311", "-d", "-k", "600", "-F", "MESSAGE %q %t %p"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.socket = self.process.stdout
        os.set_blocking(self.socket.fileno(), False)
        self.loop.add(self)

    def back(self):
        pass

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.socket.close()

    def fail(self, what):
        self.oracle.fail(f"{self.client_id}: {what}")

    def flush(self):
        pass

    def receive(self):
        data = self.socket.read(1 << 18)
        if not data:
            self.loop.remove(self)
            self.fail(f"mosquitto_sub has ended: {self.process.poll()}")
            return
        with open(self.world.directory / "mosquitto_sub.log", "ab") as log:
            log.write(data)
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            if line.startswith(b"Subscribed (mid"):
                if self.subscriptions[0].since is None:
                    self.subscriptions[0].since = self.oracle.now()
            elif line.startswith(b"MESSAGE "):
                _, qos, topic, payload = line.split(b" ", 3)
                self._deliver(ForeignPacket(int(qos), topic.decode(), payload))

    def _deliver(self, packet):
        message = self.oracle.find(self, packet)
        if message:
            self.oracle.delivered(self, message, packet)


ForeignPacket = collections.namedtuple("ForeignPacket", "qos topic payload")
