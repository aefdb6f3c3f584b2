"""Keep alive: one and a half times the interval, told with 0x8D, as if the network had failed."""

import time

import pytest
from wire import PINGREQ, R, T

pytestmark = pytest.mark.threads


@pytest.mark.mosquitto_differs("looks at keep alive every few seconds only")
def test_silent_client_is_closed(broker, version):
    started = time.monotonic()
    client = broker.connect(version, keep_alive=1)
    client.expect_disconnect(R.KEEP_ALIVE)
    assert time.monotonic() - started >= 1.4


def test_any_packet_counts(broker, version, topic):
    """Acknowledgements, publishes and pings keep a connection that says nothing else."""
    watcher = broker.connect(version, keep_alive=2)
    watcher.subscribe(topic, qos=1)
    publisher = broker.connect(keep_alive=60)
    ends = time.monotonic() + 4
    count = 0
    while time.monotonic() < ends:
        publisher.publish(topic, str(count), qos=1)
        watcher.expect_publish(topic, str(count), qos=1)  # the PUBACK is all that the watcher sends
        count += 1
        time.sleep(0.01)
    watcher.ping()


@pytest.mark.mosquitto_differs("looks at keep alive every few seconds only")
def test_what_the_broker_sends_does_not_count(broker, topic):
    client = broker.connect(keep_alive=1)
    client.subscribe(topic)
    publisher = broker.connect()
    started = time.monotonic()
    while True:
        publisher.publish(topic, b"x")
        got = client.receive()
        if got.kind == T.DISCONNECT:
            assert got.reason == R.KEEP_ALIVE
            break
        assert got.kind == T.PUBLISH
        assert time.monotonic() - started < 10
    client.expect_closed()


@pytest.mark.mosquitto_differs("looks at keep alive every few seconds only")
def test_half_a_packet_does_not_count(broker):
    """Bytes are not packets: who dribbles one that never ends is closed all the same."""
    client = broker.connect(keep_alive=1)
    for byte in b"\x30\x7f\x00\x05":
        client.send(bytes([byte]))
    client.expect_disconnect(R.KEEP_ALIVE)


@pytest.mark.mosquitto_differs("looks at keep alive every few seconds only")
def test_zero_means_never_in_3(broker):
    client, other = broker.connect(4, keep_alive=0), broker.connect(4, keep_alive=1)
    other.expect_closed()
    client.ping()


def test_pings_are_answered(broker, version):
    client = broker.connect(version)
    client.send(PINGREQ * 100)
    for _ in range(100):
        client.expect(T.PINGRESP)


def test_will_is_sent_when_keep_alive_fails(broker, version, topic):
    watcher = broker.connect()
    watcher.subscribe(topic)
    broker.connect(version, keep_alive=1, will={"topic": topic, "payload": b"silent"})
    watcher.expect_publish(topic, b"silent")


@pytest.mark.skerry_only
def test_server_keep_alive_is_the_one_that_counts(make_broker):
    """The broker's value binds, not the client's own. [MQTT-3.2.2-21]"""
    broker = make_broker(options={"limits": {"keep_alive_max": "1s"}})
    client = broker.connect(keep_alive=600)
    assert client.connack.prop("server_keep_alive") == 1
    client.expect_disconnect(R.KEEP_ALIVE)
    # 3.x cannot be told: it keeps the value that it sent.
    old, marker = broker.connect(4, keep_alive=600), broker.connect(keep_alive=600)
    marker.expect_disconnect(R.KEEP_ALIVE)
    old.ping()
