"""Unix sockets, IPv6, PROXY protocol, and bytes that arrive in any portions."""

import signal
import socket
import stat
import struct
import time

import pytest
from broker import free_port, have_ipv6
from wire import PINGREQ, Client, R, Stream, T, WebSocket, connect_packet, publish_packet, subscribe_packet

pytestmark = pytest.mark.threads


@pytest.mark.parametrize("transport", ["unix", "tcp6"])
def test_transport(broker, version, topic, transport):
    if transport == "tcp6" and not have_ipv6():
        pytest.skip("no IPv6 here")
    client, tcp = broker.client(version, transport=transport).connect(), broker.connect(version)
    client.subscribe(topic, qos=2)
    tcp.subscribe(topic, qos=2)
    client.publish(topic, b"x" * 100_000, qos=2)
    client.expect_publish(topic, b"x" * 100_000)
    tcp.expect_publish(topic, b"x" * 100_000)
    client.disconnect()


def test_unix_take_over(broker, version):
    client = broker.client(version, transport="unix").connect()
    broker.client(version, client.client_id).connect()
    client.expect_disconnect(R.TAKEN_OVER)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_one_byte_at_a_time(broker, version, topic, transport):
    client = broker.client(version, transport=transport)
    raw = (
        connect_packet(client.client_id, version)
        + subscribe_packet(1, [(topic, 1)], version=version)
        + publish_packet(topic, b"tiny writes", 1, 2, version=version)
        + PINGREQ
    )
    for byte in raw:
        client.send(bytes([byte]))
    client.expect(T.CONNACK, reason=0)
    client.expect(T.SUBACK, packet_id=1)
    client.expect_set([T.PUBLISH, T.PUBACK, T.PINGRESP])


def test_all_in_one_write(broker, version, topic):
    client = broker.client(version)
    messages = [publish_packet(topic, str(n), version=version) for n in range(2000)]
    client.send(
        connect_packet(client.client_id, version), subscribe_packet(1, [(topic, 0)], version=version), *messages, PINGREQ
    )
    client.expect(T.CONNACK, reason=0)
    client.expect(T.SUBACK, packet_id=1)
    got = [client.expect_any() for _ in range(2001)]
    assert [g.payload for g in got if g.kind == T.PUBLISH] == [str(n).encode() for n in range(2000)]
    assert sum(g.kind == T.PINGRESP for g in got) == 1


def test_large_packets_in_portions(broker, version, topic):
    client = broker.connect(version)
    client.subscribe(topic)
    raw = publish_packet(topic, bytes(range(256)) * 2000, version=version)
    for at in range(0, len(raw), 1461):
        client.send(raw[at : at + 1461])
    client.expect_publish(topic, bytes(range(256)) * 2000)


def test_half_closed_connection(broker, version, topic):
    """A client that shuts its sending side has left: closed, and what it sent before is done."""
    watcher, client = broker.connect(), broker.connect(version)
    watcher.subscribe(topic)
    client.send(publish_packet(topic, b"last words", version=version))
    client.stream.half_close()
    client.expect_closed()
    watcher.expect_publish(topic, b"last words")


# --------------------------------------------------------------------------------------------------- PROXY protocol

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command=1, family=0x11, data=None, version=2, length=None):
    if data is None:
        data = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 51234, 1883)
    return V2 + bytes([version << 4 | command, family]) + struct.pack("!H", len(data) if length is None else length) + data


V6 = b"".join(socket.inet_pton(socket.AF_INET6, a) for a in ("2001:db8::7", "2001:db8::1")) + b"\xc8\x22\x07\x5b"

GOOD = {
    "v1 tcp4": (b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 1883\r\n", "192.0.2.7:51234"),
    "v1 tcp6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 1883\r\n", "2001:db8::7"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
    "v2 tcp4": (v2(), "192.0.2.7:51234"),
    "v2 tcp6": (v2(family=0x21, data=V6), "2001:db8::7"),
    "v2 local": (v2(command=0, family=0, data=b""), "127.0.0.1"),
    "v2 unspecified": (v2(family=0, data=b""), "127.0.0.1"),
    "v2 with tlvs": (
        v2(data=socket.inet_aton("192.0.2.7") * 2 + struct.pack("!HH", 51234, 1883) + b"\x04\0\3abc\x02\0\1x"),
        "192.0.2.7:51234",
    ),
}


@pytest.mark.skerry_only
@pytest.mark.parametrize("shards", [1, 2], ids=["shards1", "shards2"])
def test_proxy(make_broker, version, shards):
    """The client's address of the header is the one in the log."""
    broker = make_broker(shards)
    for head, address in GOOD.values():
        client = Client(broker.stream("proxy", prefix=head), version)
        client.connect().ping()
        lines = [line for line in broker.events("client_connected") if client.client_id in line]
        assert len(lines) == 1 and address in lines[0], lines
        client.disconnect()


@pytest.mark.skerry_only
def test_proxy_by_the_byte(broker):
    for head, _ in GOOD.values():
        client = broker.client(transport="proxy")
        for byte in head + connect_packet(client.client_id):
            client.send(bytes([byte]))
        client.expect(T.CONNACK, reason=0)


BAD = {
    "none": b"",
    "v1 without line end": b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 1883" + b" " * 100,
    "v1 bad address": b"PROXY TCP4 300.0.2.7 192.0.2.1 51234 1883\r\n",
    "v1 bad port": b"PROXY TCP4 192.0.2.7 192.0.2.1 99999 1883\r\n",
    "v1 bad family": b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
    "v1 too few": b"PROXY TCP4 192.0.2.7\r\n",
    "v1 lower case": b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
    "v2 version": v2(version=1),
    "v2 command": v2(command=9),
    "v2 too short": v2(data=b"\1\2\3"),
}


@pytest.mark.skerry_only
@pytest.mark.parametrize("name", BAD)
def test_bad_proxy_headers(broker, name):
    client = Client(broker.stream("proxy", prefix=BAD[name]))
    client.send_connect()
    client.expect_closed()


@pytest.mark.skerry_only
def test_proxy_header_where_none_is_expected(broker):
    client = Client(broker.stream("tcp", prefix=GOOD["v1 tcp4"][0]))
    client.send_connect()
    client.expect_closed()


@pytest.mark.skerry_only
def test_proxy_header_that_never_comes(make_broker):
    broker = make_broker(options={"limits": {"connect_timeout": "1s"}})
    client = broker.client(transport="proxy")
    client.send(GOOD["v2 tcp4"][0][:13])
    client.expect_closed()


@pytest.mark.skerry_only
def test_proxy_in_front_of_websocket(make_broker, topic):
    class Behind(WebSocket):
        """The header comes before the handshake."""

        def __init__(self, address, head):
            super().__init__(address, prefix=head)

    broker = make_broker()
    broker.config["listeners"][1]["proxy_protocol"] = True
    broker.stop()
    broker.write_config()
    broker.start()
    client = Client(Behind(("127.0.0.1", broker.ws_port), GOOD["v2 tcp4"][0]))
    client.connect()
    client.subscribe(topic)
    client.publish(topic, b"x")
    client.expect_publish(topic, b"x")


def test_connections_that_say_nothing_cost_others_nothing(broker):
    silent = [broker.stream() for _ in range(50)]
    broker.alive()
    for stream in silent:
        stream.close()
    broker.alive()


def test_resets(broker, topic):
    """Connections that end with RST instead of FIN."""
    watcher = broker.connect()
    watcher.subscribe(topic)
    for _ in range(20):
        client = broker.connect(will={"topic": topic, "payload": b"reset"})
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.drop()
        watcher.expect_publish(topic, b"reset")
    broker.alive()


@pytest.mark.skerry_only
@pytest.mark.skipif(not have_ipv6(), reason="no IPv6 here")
def test_dual_stack(make_broker):
    """A listener on every address serves IPv4 and IPv6; with ipv6_only, only the latter."""
    both, six = free_port(), free_port()
    listeners = [
        {"url": f"mqtt://*:{both}", "anonymous": True},
        {"url": f"mqtt://[::]:{six}", "anonymous": True, "ipv6_only": True},
    ]
    broker = make_broker(2, options={"listeners": listeners})
    Client(Stream(("127.0.0.1", both))).connect().ping()
    Client(Stream(("::1", both))).connect().ping()
    Client(Stream(("::1", six))).connect().ping()
    with pytest.raises(ConnectionRefusedError):
        Stream(("127.0.0.1", six))
    assert len(broker.events("ready")) == 1


@pytest.mark.skerry_only
def test_connections_of_one_listener(make_broker):
    """max_connections of a listener: the others go on."""
    broker = make_broker()
    broker.config["listeners"][0]["max_connections"] = 3
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    inside = [broker.connect() for _ in range(3)]
    over = broker.client()
    over.send_connect()
    over.expect_closed()
    broker.client(transport="unix").connect().ping()
    for client in inside:
        client.ping()


@pytest.mark.skerry_only
@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_mode_of_a_unix_socket(make_broker, tmp_path, mode):
    path = tmp_path / "moded.sock"
    make_broker(options={"listeners": [{"url": f"unix://{path}", "mode": mode}]})
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)


@pytest.mark.skerry_only
def test_connection_rate(make_broker):
    """Over the rate connections wait, they are not refused: all come in, but not in the first second."""
    broker = make_broker(2, options={"limits": {"connection_rate": 20}})
    start = time.monotonic()
    clients = [broker.client() for _ in range(50)]
    for client in clients:
        client.send_connect()
    for client in clients:
        client.expect(T.CONNACK, reason=0)
    assert time.monotonic() - start > 1
    assert broker.metrics().total("skerry_limit_reached_total", limit="connection_rate") > 0
