"""Back-pressure for QoS 1: a client that is slow but alive slows its publishers down; one that is stuck holds nobody up."""

import threading

import pytest
from wire import T, publish_packet

MESSAGES = 3000
OPTIONS = {"limits": {"queue_messages": 100, "in_flight": 10}, "sys": {"interval": "off"}}


def flood(publisher, topic, count, version=5):
    """Sends without looking at the broker's window, as clients before 5.0 may; the socket is what holds it back."""
    def run():
        for n in range(count):
            publisher.send(publish_packet(topic, str(n), 1, n % 60000 + 1, version=version))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def take(subscriber, count):
    """Receives and acknowledges one by one: as slow as a client in Python is."""
    got = []
    for _ in range(count):
        message = subscriber.expect_publish()
        got.append(int(message.payload))
        subscriber.ack(T.PUBACK, message.packet_id)
    return got


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.skerry_only
def test_slow_subscriber_loses_nothing(make_broker, shards, topic):
    broker = make_broker(shards, options=OPTIONS)
    subscriber = broker.connect(4)
    subscriber.subscribe(topic, qos=1)
    publisher = broker.connect(4)
    thread = flood(publisher, topic, MESSAGES, version=4)
    assert take(subscriber, MESSAGES) == list(range(MESSAGES))
    thread.join()
    metrics = broker.metrics()
    assert metrics.total("skerry_copies_dropped_total") == 0
    assert metrics.total("skerry_pauses_total") > 0, "the publisher was never held back: the test shows nothing"


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.skerry_only
def test_stuck_subscriber_holds_nobody_up(make_broker, shards, topic):
    """It acknowledges nothing: after a second of patience its queue only drops; the other subscriber gets everything."""
    broker = make_broker(shards, options=OPTIONS)
    stuck = broker.connect(4)
    stuck.subscribe(topic, qos=1)
    other = broker.connect(4)
    other.subscribe(topic, qos=1)
    publisher = broker.connect(4)
    thread = flood(publisher, topic, MESSAGES, version=4)
    assert take(other, MESSAGES) == list(range(MESSAGES))
    thread.join()
    metrics = broker.metrics()
    limits = OPTIONS["limits"]
    dropped = metrics.total("skerry_copies_dropped_total", reason="queue_full")
    assert 0 < dropped <= MESSAGES - limits["queue_messages"] - limits["in_flight"]
    assert dropped == metrics.total("skerry_copies_dropped_total")


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.skerry_only
def test_two_that_publish_to_each_other(make_broker, shards, topic):
    """Neither waits for the other's acknowledgements behind its own messages."""
    broker = make_broker(shards, options=OPTIONS)
    pair = [broker.connect(4), broker.connect(4)]
    for i, client in enumerate(pair):
        client.subscribe(f"{topic}/{i}", qos=1)
    threads = [flood(client, f"{topic}/{1 - i}", 1000, version=4) for i, client in enumerate(pair)]
    got, takers = {}, []
    for i, client in enumerate(pair):
        def run(i=i, client=client):
            got[i] = []
            while len(got[i]) < 1000:
                packet = client.receive()
                if packet.kind == T.PUBLISH:
                    got[i].append(int(packet.payload))
                    client.ack(T.PUBACK, packet.packet_id)
        takers.append(threading.Thread(target=run, daemon=True))
        takers[-1].start()
    for thread in threads + takers:
        thread.join(25)
    assert got == {0: list(range(1000)), 1: list(range(1000))}
