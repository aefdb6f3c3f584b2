"""MQTT over WebSocket: chapter 6 of both standards, and RFC 6455 where clients differ."""

import base64
import os
import time

import pytest
from wire import (
    TIMEOUT_S,
    PINGREQ,
    R,
    T,
    Client,
    Closed,
    Stream,
    WebSocket,
    WebSocketRefused,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    unique,
)

pytestmark = pytest.mark.threads


@pytest.fixture
def client(broker, version):
    made = broker.client(version, transport="ws").connect()
    yield made
    made.stream.close()


def test_connect_and_publish(broker, client, version, topic):
    client.subscribe(topic, qos=2)
    tcp = broker.connect(version)
    tcp.subscribe(topic, qos=2)
    for qos in (0, 1, 2):
        client.publish(topic, b"from ws", qos=qos)
        client.expect_publish(topic, b"from ws", qos=qos)
        tcp.expect_publish(topic, b"from ws", qos=qos)
        tcp.publish(topic, b"from tcp", qos=qos)
        client.expect_publish(topic, b"from tcp", qos=qos)
        tcp.expect_publish(topic, b"from tcp", qos=qos)


@pytest.mark.mosquitto_differs("takes the first that it knows")
def test_subprotocol_is_mqtt(broker):
    """[MQTT-6.0.0-4]"""
    for offered in ("mqtt", "mqttv3.1, mqtt", "chat,mqtt ,superchat"):
        stream = broker.stream("ws", protocol=offered)
        assert stream.response_headers["sec-websocket-protocol"] == "mqtt"
        stream.close()


def test_subprotocol_mqttv31(broker):
    """The name that clients of 3.1 offer: answered with itself or refused, never with a name that was not offered."""
    try:
        stream = broker.stream("ws", protocol="mqttv3.1")
    except WebSocketRefused as refused:
        assert refused.status == 400
        return
    assert stream.response_headers["sec-websocket-protocol"] == "mqttv3.1"
    Client(stream, 3).connect().ping()


@pytest.mark.mosquitto_differs("takes it")
@pytest.mark.parametrize("offered", [None, "chat"])
def test_without_the_subprotocol(broker, offered):
    """[MQTT-6.0.0-3] binds the client; a server must not name what was not offered."""
    try:
        stream = broker.stream("ws", protocol=offered)
    except WebSocketRefused as refused:
        assert refused.status in (400, 426)
    else:
        assert "sec-websocket-protocol" not in stream.response_headers
        stream.close()


@pytest.mark.mosquitto_differs("serves every path")
@pytest.mark.parametrize("path", ["/", "/other", "/mqtt/x", "/MQTT"])
def test_wrong_path(broker, path):
    with pytest.raises(WebSocketRefused) as refused:
        broker.stream("ws", path=path)
    assert refused.value.status == 404


@pytest.mark.mosquitto_differs("answers with a web page or not at all")
@pytest.mark.parametrize(
    "head, status",
    [
        ("GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", (400, 426)),
        ("POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", (400, 405)),
        ("GET /mqtt HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", (400, 426, 505)),
        ("nonsense\r\n\r\n", (400,)),
    ],
    ids=["plain GET", "POST", "HTTP 1.0", "nonsense"],
)
def test_not_a_handshake(broker, head, status):
    stream = Stream(("127.0.0.1", broker.ws_port))
    stream.send(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = stream.receive(time.monotonic() + TIMEOUT_S)
        if not data:
            break
        answer += data
    assert int(answer.split()[1]) in status, answer


@pytest.mark.mosquitto_differs("libwebsockets does otherwise")
@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Sec-WebSocket-Version": "8"}, (426, 400)),
        ({"Sec-WebSocket-Key": "short"}, (400,)),
        ({"Sec-WebSocket-Key": None}, (400,)),
        ({"Upgrade": "h2c"}, (400, 426)),
        ({"Connection": "close"}, (400, 426)),
    ],
    ids=["version", "bad key", "no key", "upgrade", "connection"],
)
def test_bad_handshakes(broker, headers, status):
    with pytest.raises(WebSocketRefused) as refused:
        broker.stream("ws", headers=headers)
    assert refused.value.status in status


def test_handshake_headers_in_any_case(broker):
    stream = broker.stream("ws", headers={"Connection": "keep-alive, upgrade", "Upgrade": "WebSocket", "X-Other": "y" * 500})
    Client(stream).connect().ping()


def test_handshake_that_is_too_long(broker):
    with pytest.raises((WebSocketRefused, ConnectionError)):
        broker.stream("ws", headers={"X-Filler": "y" * 100_000})
    broker.alive()


def test_several_packets_in_one_frame(client, topic, version):
    """[MQTT-6.0.0-2]"""
    client.send(
        subscribe_packet(1, [(topic, 0)], version=version), publish_packet(topic, b"x", version=version), PINGREQ
    )
    client.expect_set([T.SUBACK, T.PUBLISH, T.PINGRESP])


def test_a_packet_across_frames(client, topic, version):
    client.subscribe(topic)
    for byte in publish_packet(topic, b"byte by byte", version=version):
        client.stream.frame(WebSocket.BINARY, bytes([byte]))
    client.expect_publish(topic, b"byte by byte")


def test_frames_that_end_anywhere(client, topic, version):
    client.subscribe(topic)
    raw = b"".join(publish_packet(topic, str(n) * n, version=version) for n in range(1, 40))
    for at in range(0, len(raw), 37):
        client.stream.frame(WebSocket.BINARY, raw[at : at + 37])
    for n in range(1, 40):
        client.expect_publish(topic, str(n) * n)


def test_fragmented_message(client, topic, version):
    client.subscribe(topic)
    raw = publish_packet(topic, b"in fragments", version=version)
    client.stream.frame(WebSocket.BINARY, raw[:5], fin=False)
    client.stream.frame(WebSocket.PING, b"in between")
    client.stream.frame(WebSocket.CONTINUATION, raw[5:9], fin=False)
    client.stream.frame(WebSocket.CONTINUATION, b"", fin=False)
    client.stream.frame(WebSocket.CONTINUATION, raw[9:], fin=True)
    client.expect_publish(topic, b"in fragments")
    assert (WebSocket.PONG, b"in between") in client.stream.frames


def test_empty_frames(client):
    for _ in range(10):
        client.stream.frame(WebSocket.BINARY, b"")
    client.ping()


@pytest.mark.parametrize("size", [0, 1, 125])
def test_ping_is_answered(client, size):
    client.stream.frame(WebSocket.PING, b"p" * size)
    assert client.stream.expect_control(WebSocket.PONG) == b"p" * size
    client.ping()


def test_unasked_pong_is_ignored(client):
    client.stream.frame(WebSocket.PONG, b"hello")
    client.ping()


def test_frame_by_the_byte(broker, version, topic):
    """The frame's own header may arrive in pieces, too."""
    client = broker.client(version, transport="ws").connect()
    client.subscribe(topic)
    raw = publish_packet(topic, b"x" * 300, version=version)
    head = bytes([0x82, 0x80 | 126]) + len(raw).to_bytes(2, "big") + b"\1\2\3\4"
    masked = bytes(b ^ (n % 4 + 1) for n, b in enumerate(raw))
    for byte in head + masked:
        Stream.send(client.stream, bytes([byte]))
    client.expect_publish(topic, b"x" * 300)


@pytest.mark.mosquitto_differs("takes it")
def test_text_frame_is_refused(client):
    """[MQTT-6.0.0-1]"""
    client.stream.frame(WebSocket.TEXT, PINGREQ)
    closed_with(client, 1003, 1002)


def closed_with(client, *codes):
    """The end, with a close frame of one of the codes before it (None: no close frame)."""
    while True:
        try:
            got = client.receive()
        except Closed:
            break
        assert got.kind == T.DISCONNECT
    assert client.stream.close_code in codes, client.stream.close_code
    client.stream.close()


@pytest.mark.mosquitto_differs("libwebsockets does otherwise")
@pytest.mark.parametrize(
    "frame",
    [
        {"opcode": 2, "data": b"x", "mask": False},
        {"opcode": 3, "data": b"x"},
        {"opcode": 11, "data": b"x"},
        {"opcode": 2, "data": b"x", "reserved": 4},
        {"opcode": 0, "data": b"x"},
        {"opcode": 9, "data": b"x" * 126},
        {"opcode": 9, "data": b"x", "fin": False},
    ],
    ids=["unmasked", "opcode 3", "opcode 11", "reserved bit", "continuation of nothing", "long ping", "ping in fragments"],
)
def test_protocol_errors(client, frame):
    client.stream.frame(**frame)
    closed_with(client, 1002)


def test_close_is_answered(client):
    client.stream.frame(WebSocket.CLOSE, (1000).to_bytes(2, "big") + b"bye")
    closed_with(client, 1000)


def test_close_without_a_code(client):
    client.stream.frame(WebSocket.CLOSE)
    closed_with(client, 1000, 1005)


def test_close_sends_the_will(broker, version, topic):
    watcher = broker.connect()
    watcher.subscribe(topic)
    client = broker.client(version, transport="ws").connect(will={"topic": topic, "payload": b"closed"})
    client.stream.frame(WebSocket.CLOSE, (1001).to_bytes(2, "big"))
    watcher.expect_publish(topic, b"closed")


def test_disconnect_ends_the_connection(client):
    client.send(packet(T.DISCONNECT, 0, b""))
    closed_with(client, 1000, 1001, None)


def test_reason_before_closing(broker):
    client = broker.client(transport="ws").connect()
    client.send(packet(0, 0, b""))
    client.expect_disconnect(R.MALFORMED)


def test_take_over_between_transports(broker, version):
    client = broker.client(version, transport="ws").connect(clean=False)
    broker.client(version, client.client_id).connect(clean=False)
    client.expect_disconnect(R.TAKEN_OVER)


@pytest.mark.mosquitto_differs("does not send large frames through")
@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 500_000])
def test_frame_sizes(client, topic, size):
    client.subscribe(topic)
    client.publish(topic, b"z" * size)
    client.expect_publish(topic, b"z" * size)


@pytest.mark.mosquitto_differs("libwebsockets does otherwise")
def test_frame_longer_than_anything(broker):
    """A frame's length says nothing about memory: 2^62 bytes are promised, some come, others are served."""
    client = broker.client(transport="ws").connect()
    client.stream.frame(WebSocket.BINARY, PINGREQ, length=1 << 62)
    other = broker.client(transport="ws").connect()
    other.ping()
    other.disconnect()


def test_connect_right_behind_the_handshake(broker):
    """A client need not wait for the answer to the handshake."""
    name, stream = unique(), Stream(("127.0.0.1", broker.ws_port))
    raw = connect_packet(name)
    head = (
        "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    stream.send(head.encode() + bytes([0x82, 0x80 | len(raw), 0, 0, 0, 0]) + raw)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 4:
        data = stream.receive(time.monotonic() + TIMEOUT_S)
        assert data, answer
        answer += data
    frame = answer.partition(b"\r\n\r\n")[2]
    assert frame[0] == 0x82 and frame[2] == 0x20
    stream.close()
