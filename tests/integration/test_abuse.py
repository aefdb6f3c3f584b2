"""Limits against abuse: each of them, of the broker and of a listener, with its count, its log, and what others notice of it.

`open_port` (TCP) has limits of its own, the unix socket has the broker's. Nothing here is judged by how long it takes.
"""

import os
import resource
import signal
import socket
import time

import pytest
from broker import TIMEOUT_S, elapse, eventually
from certificates import Authority, Secure, client_context
from wire import Client, Closed, R, Stream, T, disconnect_packet, publish_packet

pytestmark = pytest.mark.skerry_only


@pytest.fixture(params=[1, 2], ids=["shards1", "shards2"])
def limited(request, make_broker):
    """A broker whose TCP listener gets these limits by a reload."""

    def make(index=0, shards=request.param, limits=None, **own):
        broker = make_broker(shards, options={"limits": limits or {}, "sys": {"interval": "off"}})
        set_limits(broker, index, **own)
        return broker

    return make


def reload(broker):
    before = len(broker.events("reloaded"))
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded", before + 1)


def set_limits(broker, index=0, **own):
    broker.config["listeners"][index]["limits"] = own
    reload(broker)


def reached(broker, limit):
    return broker.metrics().total("skerry_limit_reached_total", limit=limit)


def wait_reached(broker, limit, count=1):
    eventually(lambda: reached(broker, limit) >= count, f"{limit} is counted {count} times")


def told(broker, client_id, limit, outcome):
    """The log names client, address and limit."""
    lines = broker.wait_event("limit_reached")
    wanted = [f"limit={limit}", f"client={client_id}", "address="]
    assert any(all(part in line.replace('"', "") for part in wanted) and outcome in line for line in lines), lines


# ------------------------------------------------------------------------------------------------------------------ rates


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("limit, own", [("message_rate", {"message_rate": 40}), ("byte_rate", {"byte_rate": "1KiB", "packet_size": 256})])
def test_shaping_loses_nothing(limited, topic, version, limit, own):
    """Who sends more than its rate is not read from for a while: all arrives, in order, and nobody is disconnected."""
    broker = limited(**own)
    subscriber = broker.connect(transport="unix")
    subscriber.subscribe(topic, qos=1)
    publisher = broker.connect(version, "eager")
    count = 80
    ids = [publisher.publish(topic, str(i).zfill(16), qos=1, wait=False) for i in range(count)]
    for i in range(count):
        subscriber.expect_publish(topic, str(i).zfill(16).encode(), timeout=30)
    for packet_id in ids:
        publisher.expect_ack(T.PUBACK, packet_id)
    assert reached(broker, limit) > 0
    told(broker, "eager", limit, "slowed down")
    assert len(broker.events("limit_reached")) == 1, "told for every pause"
    publisher.ping()
    metrics = broker.metrics()
    assert metrics.total("skerry_disconnects_total", reason="protocol") == 0
    assert metrics.total("skerry_connections_paused") == 0


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("limit, own", [("message_rate", {"message_rate": 5}), ("byte_rate", {"byte_rate": "1KiB", "packet_size": 256})])
def test_disconnecting(limited, topic, version, limit, own):
    broker = limited(rate_action="disconnect", **own)
    other = broker.connect(version)
    subscriber = broker.connect(transport="unix")
    subscriber.subscribe(topic)
    publisher = broker.connect(version, "flood")
    publisher.send(publish_packet(topic, b"x" * 40, version=version) * 60)
    publisher.expect_disconnect(R.RATE_TOO_HIGH)
    wait_reached(broker, limit)
    told(broker, "flood", limit, "disconnected")
    taken = broker.metrics().total("skerry_publish_received_total")
    assert 5 <= taken < 60
    for _ in range(int(taken)):  # what it was let is delivered
        subscriber.expect_publish(topic)
    assert broker.metrics().total("skerry_faults_total", reason="0x96") == 1
    other.ping()


def test_the_unlimited_listener(limited, topic):
    """Rates of one listener are none of the others' business."""
    broker = limited(message_rate=1, rate_action="disconnect")
    client = broker.connect(transport="unix")
    for _ in range(50):
        client.publish(topic, b"x", qos=1)
    assert reached(broker, "message_rate") == 0


def test_bursts(limited, topic):
    """Saved up over 10 s: 50 at once at 5 a second, and then not one more."""
    broker = limited(limits={"message_rate": 5, "rate_burst": "10s", "rate_action": "disconnect"})
    client = broker.connect(transport="unix")
    client.send(publish_packet(topic, b"x") * 50)
    client.ping()
    client.send(publish_packet(topic, b"x") * 50)
    client.expect_disconnect(R.RATE_TOO_HIGH)
    assert 50 <= broker.metrics().total("skerry_publish_received_total") < 100


def test_a_packet_larger_than_the_rate(limited, topic):
    """The largest packet that is allowed always passes, however low the rate."""
    broker = limited(byte_rate="1KiB", rate_action="disconnect")
    client = broker.connect()
    client.publish(topic, b"x" * 500_000, qos=1)


def test_keep_alive_while_not_read(limited, topic):
    """We do not read: the client cannot be heard, and is not taken for dead."""
    broker = limited(message_rate=2)
    client = broker.connect(keep_alive=1)
    ids = [client.publish(topic, b"x", qos=1, wait=False) for _ in range(8)]  # three seconds' worth, and two at once
    for packet_id in ids:
        client.expect_ack(T.PUBACK, packet_id)
    assert broker.metrics().total("skerry_keep_alive_timeouts_total") == 0


def test_rates_by_reload(limited, topic):
    """They hold for who is connected: new ones, others, none."""
    broker = limited()
    client = broker.connect()
    for _ in range(30):
        client.publish(topic, b"x", qos=1)
    set_limits(broker, message_rate=1)
    ids = [client.publish(topic, b"x", qos=1, wait=False) for _ in range(30)]
    wait_reached(broker, "message_rate")
    set_limits(broker)  # who waits goes on
    for packet_id in ids:
        client.expect_ack(T.PUBACK, packet_id)
    set_limits(broker, message_rate=1, rate_action="disconnect")
    client.send(publish_packet(topic, b"x") * 3)
    client.expect_disconnect(R.RATE_TOO_HIGH)


# ------------------------------------------------------------------------------------------------------ what is one client's


def test_packet_size(limited, topic):
    broker = limited(packet_size="1KiB")
    narrow, wide = broker.connect(client_id="narrow"), broker.connect(transport="unix")
    assert narrow.connack.prop("maximum_packet_size") == 1024
    assert wide.connack.prop("maximum_packet_size") == 1 << 20
    wide.publish(topic, b"x" * 2000, qos=1)
    narrow.publish(topic, b"x" * 900, qos=1)
    narrow.send(publish_packet(topic, b"x" * 1100))
    narrow.expect_disconnect(R.TOO_LARGE)
    wait_reached(broker, "packet_size")
    told(broker, "narrow", "packet_size", "disconnected")


def test_in_flight(limited, topic):
    broker = limited(in_flight=3)
    narrow, wide = broker.connect(client_id="narrow"), broker.connect(transport="unix")
    assert narrow.connack.prop("receive_maximum") == 3
    assert wide.connack.prop("receive_maximum") == 32
    for client in (narrow, wide):
        for packet_id in range(1, 4):
            client.publish(topic, b"x", qos=2, wait=False, packet_id=packet_id)
            client.expect_ack(T.PUBREC, packet_id)
    wide.publish(topic, b"x", qos=2, packet_id=4)
    narrow.publish(topic, b"x", qos=2, wait=False, packet_id=4)
    narrow.expect_disconnect(R.RECEIVE_MAXIMUM)
    wait_reached(broker, "in_flight")
    told(broker, "narrow", "in_flight", "disconnected")


def test_in_flight_towards_clients(limited, topic):
    """The other way: no more are sent than that, whatever the client could take."""
    broker = limited(in_flight=2)
    subscriber = broker.connect()
    subscriber.subscribe(topic, qos=1)
    publisher = broker.connect(transport="unix")
    for i in range(5):
        publisher.publish(topic, str(i), qos=1)
    first = [subscriber.expect_publish(topic, str(i).encode(), ack=False) for i in range(2)]
    subscriber.ping()  # and nothing before it
    for got in first:
        subscriber.ack(T.PUBACK, got.packet_id)
    for i in range(2, 5):
        subscriber.expect_publish(topic, str(i).encode())


@pytest.mark.parametrize("version", [4, 5])
def test_topic_levels(limited, topic, version):
    broker = limited(topic_levels=4)
    narrow, wide = broker.connect(version, "narrow"), broker.connect(transport="unix")
    deep = f"{topic}/b/c/d/e/f"
    wide.subscribe(deep)
    wide.publish(deep, b"x", qos=1)
    wide.expect_publish(deep, b"x")
    narrow.subscribe(deep, reasons=[R.FILTER_INVALID if version == 5 else 0x80])
    answer = narrow.publish(deep, b"x", qos=1)
    assert version == 4 or answer.reason == R.TOPIC_INVALID
    assert reached(broker, "topic_levels") == 2
    told(broker, "narrow", "topic_levels", "refused")
    assert broker.metrics().total("skerry_publish_refused_total", reason="topic_levels") == 1
    will = broker.client(version)
    will.send_connect(will={"topic": deep, "payload": b"x"})
    if version == 5:
        will.expect_refused(R.TOPIC_INVALID)
    else:
        will.expect_closed()
    wait_reached(broker, "topic_levels", 3)


@pytest.mark.parametrize("kind", ["plain", "shared"])
def test_subscriptions(limited, topic, kind):
    prefix = "$share/g/" if kind == "shared" else ""
    broker = limited(subscriptions=3)
    narrow, wide = broker.connect(client_id="narrow"), broker.connect(transport="unix")
    filters = [f"{prefix}{topic}/{i}" for i in range(5)]
    wide.subscribe(*filters)
    narrow.subscribe(*filters, reasons=[0, 0, 0, R.QUOTA, R.QUOTA])
    assert reached(broker, "subscriptions") == 2
    told(broker, "narrow", "subscriptions", "refused")
    narrow.subscribe(filters[0])  # one that there is may be had again
    narrow.unsubscribe(filters[1])
    narrow.subscribe(filters[3])


def test_session_expiry(limited):
    broker = limited(session_expiry_max="60s")
    narrow, wide = broker.persistent(expiry_s=3600), broker.persistent(expiry_s=3600, transport="unix")
    assert narrow.connack.prop("session_expiry") == 60
    assert wide.connack.prop("session_expiry") is None
    assert reached(broker, "session_expiry_max") == 1
    short = broker.persistent(expiry_s=30)
    assert short.connack.prop("session_expiry") is None
    short.send(disconnect_packet(0, [("session_expiry", 1000)]))
    short.expect_closed()
    assert reached(broker, "session_expiry_max") == 2


def test_session_expiry_of_nothing(limited):
    """Sessions that must not outlive their connection do not."""
    broker = limited(session_expiry_max="0s")
    client = broker.persistent(client_id="gone")
    assert client.connack.prop("session_expiry") == 0
    client.drop()
    eventually(lambda: broker.metrics().total("skerry_sessions") == 0, "no session is left")


@pytest.mark.parametrize("drop", ["oldest", "newest", "reject"])
def test_queue(limited, topic, drop):
    """A session keeps the queue of the listener that its client came by, while the client is away too."""
    broker = limited(queue_messages=3, queue_drop=drop)
    narrow, wide = broker.persistent(client_id="narrow"), broker.persistent(client_id="wide", transport="unix")
    for client in (narrow, wide):
        client.subscribe(topic, qos=1)
        client.drop()
    eventually(lambda: broker.metrics().total("skerry_clients") == 0, "both are away")
    publisher = broker.persistent(transport="unix")  # where they are: elsewhere nobody could tell it
    reasons = [publisher.publish(topic, str(i), qos=1).reason for i in range(5)]
    assert reasons == [0, 0, 0] + ([R.QUOTA, R.QUOTA] if drop == "reject" else [0, 0])
    lost = 0 if drop == "reject" else 2
    metrics = broker.metrics()
    assert metrics.total("skerry_copies_dropped_total", reason="queue_full") == lost
    assert metrics.total("skerry_publish_refused_total", reason="queue_full") == (2 if drop == "reject" else 0)
    narrow = broker.persistent(client_id="narrow", transport="unix")
    for i in range(5)[2:] if drop == "oldest" else range(3):
        narrow.expect_publish(topic, str(i).encode())
    wide = broker.persistent(client_id="wide", transport="unix")
    for i in range(3 if drop == "reject" else 5):
        wide.expect_publish(topic, str(i).encode())
    # Back by another listener, it has that one's.
    narrow.drop()
    eventually(lambda: broker.metrics().total("skerry_clients") == 2, "it is away again")
    assert [publisher.publish(topic, str(i), qos=1).reason for i in range(5)] == [0] * 5
    assert broker.metrics().total("skerry_copies_dropped_total", reason="queue_full") == lost


def test_the_listener_goes(limited, topic):
    """Its clients stay, and have the broker's limits then; so have their sessions."""
    broker = limited(topic_levels=2, message_rate=1, queue_messages=1)
    client = broker.persistent(client_id="stays")
    client.subscribe(topic, qos=1)
    ids = [client.publish(topic.replace("/", "-"), b"x", qos=1, wait=False) for _ in range(20)]
    wait_reached(broker, "message_rate")
    del broker.config["listeners"][0]
    reload(broker)
    for packet_id in ids:
        client.expect_ack(T.PUBACK, packet_id)
    client.publish("a/b/c/d", b"x", qos=1)
    assert reached(broker, "topic_levels") == 0
    client.drop()
    eventually(lambda: broker.metrics().total("skerry_clients") == 0, "it is away")
    publisher = broker.connect(transport="unix")
    for i in range(5):
        publisher.publish(topic, str(i), qos=1)
    assert broker.metrics().total("skerry_copies_dropped_total", reason="queue_full") == 0


# ------------------------------------------------------------------------------------------------------------- connections


def test_connect_timeout(limited):
    broker = limited(connect_timeout="300ms")
    patient = broker.client(transport="unix")
    broker.client().expect_closed()
    wait_reached(broker, "connect_timeout")
    assert broker.wait_event("connect_timeout")
    patient.connect().ping()


def test_connections(limited):
    broker = limited(limits={"connections": 5})
    inside = [broker.connect() for _ in range(5)]
    broker.client(transport="unix").expect_closed()
    wait_reached(broker, "connections")
    assert "too many connections" in broker.wait_event("connection_refused")[0]
    for client in inside:
        client.ping()


def test_connections_of_a_listener(limited):
    broker = limited()
    broker.config["listeners"][0]["max_connections"] = 2
    reload(broker)
    inside = [broker.connect() for _ in range(2)]
    broker.client().expect_closed()
    wait_reached(broker, "connections")
    broker.connect(transport="unix").ping()
    for client in inside:
        client.ping()


def test_connection_rate(limited):
    """Of one listener: over it connections wait, and come in."""
    broker = limited(connection_rate=5)
    give_up = time.monotonic() + TIMEOUT_S
    while not reached(broker, "connection_rate"):  # on a busy machine twelve may take a while of their own
        assert time.monotonic() < give_up
        for client in [broker.connect() for _ in range(12)]:
            client.ping()
    before = reached(broker, "connection_rate")
    for client in [broker.connect(transport="unix") for _ in range(12)]:
        client.ping()
    assert reached(broker, "connection_rate") == before


def from_address(broker, address):
    family = "TCP6" if ":" in address else "TCP4"
    here = "2001:db8::ffff" if ":" in address else "192.0.2.1"
    head = f"PROXY {family} {address} {here} 40000 1883\r\n".encode()
    return Client(Stream(("127.0.0.1", broker.proxy_port), prefix=head))


@pytest.mark.parametrize(
    "same, other", [(["192.0.2.7"] * 4, "192.0.2.8"), ([f"2001:db8::{i}" for i in range(1, 5)], "2001:db8:0:1::1")]
)
def test_connections_per_address(limited, same, other):
    """Behind a proxy those of the client count; IPv6 by its first 64 bits; who leaves makes room."""
    broker = limited(index=3, connections_per_address=3)
    inside = [from_address(broker, address).connect() for address in same[:3]]
    over = from_address(broker, same[3])
    over.send_connect()
    over.expect_closed()
    wait_reached(broker, "connections_per_address")
    assert broker.metrics().total("skerry_connections_refused_total", reason="address") == 1
    assert same[3] in broker.wait_event("connection_refused")[0]
    from_address(broker, other).connect().ping()
    inside.pop().drop()

    def room():
        client = from_address(broker, same[3])
        client.send_connect()
        try:
            return client.receive().kind == T.CONNACK and client
        except Closed:
            return None

    inside.append(eventually(room, "there is room again"))
    for client in inside:
        client.ping()


def test_connections_per_address_without_a_proxy(limited):
    broker = limited(connections_per_address=2)
    early = [broker.connect() for _ in range(2)]
    broker.client().expect_closed()
    set_limits(broker)
    broker.connect().ping()  # who came while nothing was counted leaves without trouble
    for client in early:
        client.drop()
    set_limits(broker, connections_per_address=1)
    broker.connect(transport="unix").ping()
    broker.alive()


def test_connections_per_address_with_tls(limited, tmp_path):
    broker = limited()
    authority = Authority(tmp_path / "authority")
    server = authority.server()
    broker.config["listeners"][0].update(
        {
            "url": f"mqtts://127.0.0.1:{broker.port}",
            "tls": {"cert": str(server.cert), "key": str(server.key)},
            "limits": {"connections_per_address": 2, "packet_size": "2KiB", "connect_timeout": "1s"},
        }
    )
    reload(broker)

    def client():
        return Client(Secure(("127.0.0.1", broker.port), client_context(authority)))

    inside = [client().connect() for _ in range(2)]
    assert inside[0].connack.prop("maximum_packet_size") == 2048
    with pytest.raises(OSError):
        client().connect()
    wait_reached(broker, "connections_per_address")
    inside.pop().drop()
    eventually(lambda: broker.metrics().total("skerry_connections") == 1, "one has left")
    silent = socket.create_connection(("127.0.0.1", broker.port))
    assert silent.recv(1) == b"", "the listener's time for CONNECT bounds the handshake too"
    assert broker.metrics().total("skerry_tls_handshake_failures_total", reason="timeout") == 1
    silent.close()
    client().connect().ping()
    inside[0].ping()


# ------------------------------------------------------------------------------------------------------------- bad input


def test_a_limit_that_is_wrong(limited):
    """The reload is refused with its place, and nothing changes."""
    broker = limited(topic_levels=3)
    broker.config["listeners"][0]["limits"] = {"message_rate": "fast", "packet_sice": 1024}
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reload_failed")
    errors = "\n".join(broker.events("configuration_error"))
    assert "listeners[0].limits.message_rate" in errors
    assert "listeners[0].limits.packet_sice" in errors and "packet_size" in errors
    client = broker.connect()
    client.subscribe("a/b/c/d", reasons=[R.FILTER_INVALID])


def test_a_change_is_told_once(limited):
    """A limit that listeners have from the broker is told as the broker's; one of a listener as its own."""
    broker = limited(topic_levels=3)
    broker.config["limits"]["subscriptions"] = 77
    broker.config["listeners"][0]["limits"] = {"topic_levels": 4}
    count = len(broker.events("configuration_changed"))
    reload(broker)
    changes = broker.events("configuration_changed")[count:]
    assert len(changes) == 2, changes
    assert any("key=limits.subscriptions" in line.replace('"', "") for line in changes)
    assert any(".limits.topic_levels" in line and "before=3 after=4" in line.replace('"', "") for line in changes)


def test_without_descriptors_nobody_who_waits_is_told_of_again_and_again(make_broker, tmp_path):
    """Neither on the admin port nor on the control socket; they are served when there are some again."""
    broker = make_broker(options={"control": {"socket": str(tmp_path / "control.sock")}})
    used = {int(name) for name in os.listdir(f"/proc/{broker.pid}/fd")}
    none_left = min(number for number in range(len(used) + 1) if number not in used)
    before = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (none_left, before[1]))
    admin = socket.create_connection(("127.0.0.1", broker.metrics_port), TIMEOUT_S)
    with admin, socket.socket(socket.AF_UNIX) as control:
        control.settimeout(TIMEOUT_S)
        control.connect(str(tmp_path / "control.sock"))
        admin.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        control.sendall(b'{"command":"status"}\n')
        elapse(0.5)
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, before)
        assert admin.recv(100).startswith(b"HTTP/1.0 200 ")
        assert control.recv(100).startswith(b'{"ok":true')
    assert "accept() call" not in broker.log()
    broker.alive()
