"""A raw MQTT client for tests: exact bytes in both directions, for MQTT 3.1, 3.1.1 and 5.0.

It never repairs, retries or acknowledges behind the test's back: what a test sends is what goes out, so that wrong
packets can be sent as easily as right ones. Versions are the protocol levels on the wire: 3, 4 and 5.
"""

import base64
import enum
import itertools
import os
import socket
import struct
import time

SLOW = float(os.environ.get("SKERRY_TEST_SLOW", "1"))  # raised for sanitizer builds
TIMEOUT_S = 5.0 * SLOW
# Mosquitto closes where Skerry says why before it closes: with it, any reason and none is taken for the right one.
LENIENT = os.environ.get("BROKER") == "mosquitto"


class T(enum.IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class R(enum.IntEnum):
    SUCCESS = 0x00
    GRANTED_1 = 0x01
    GRANTED_2 = 0x02
    WITH_WILL = 0x04
    NO_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION = 0x11
    CONTINUE_AUTH = 0x18
    RE_AUTH = 0x19
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    ID_NOT_VALID = 0x85
    BAD_USER = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SHUTTING_DOWN = 0x8B
    BAD_AUTH_METHOD = 0x8C
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    FILTER_INVALID = 0x8F
    TOPIC_INVALID = 0x90
    ID_IN_USE = 0x91
    ID_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM = 0x93
    ALIAS_INVALID = 0x94
    TOO_LARGE = 0x95
    RATE_TOO_HIGH = 0x96
    QUOTA = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    FORMAT_INVALID = 0x99


# name: (identifier, type). Types: 1, 2, 4 bytes, v(ariable integer), s(tring), b(inary), p(air of strings).
PROPERTIES = {
    "payload_format": (0x01, "1"),
    "message_expiry": (0x02, "4"),
    "content_type": (0x03, "s"),
    "response_topic": (0x08, "s"),
    "correlation_data": (0x09, "b"),
    "subscription_id": (0x0B, "v"),
    "session_expiry": (0x11, "4"),
    "assigned_client_id": (0x12, "s"),
    "server_keep_alive": (0x13, "2"),
    "auth_method": (0x15, "s"),
    "auth_data": (0x16, "b"),
    "request_problem": (0x17, "1"),
    "will_delay": (0x18, "4"),
    "request_response": (0x19, "1"),
    "response_information": (0x1A, "s"),
    "server_reference": (0x1C, "s"),
    "reason_string": (0x1F, "s"),
    "receive_maximum": (0x21, "2"),
    "topic_alias_maximum": (0x22, "2"),
    "topic_alias": (0x23, "2"),
    "maximum_qos": (0x24, "1"),
    "retain_available": (0x25, "1"),
    "user": (0x26, "p"),
    "maximum_packet_size": (0x27, "4"),
    "wildcard_available": (0x28, "1"),
    "subscription_id_available": (0x29, "1"),
    "shared_available": (0x2A, "1"),
}
BY_IDENTIFIER = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}


class Closed(Exception):
    """The broker closed the connection."""


# ---------------------------------------------------------------------------------------------------------------- bytes


def varint(value):
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


def u16(value):
    return struct.pack("!H", value)


def pairs(props):
    """Properties as a list of (name, value): a dict, or a list when order or repetition matters."""
    if not props:
        return []
    items = props.items() if isinstance(props, dict) else props
    out = []
    for name, value in items:
        if isinstance(value, list):
            out += [(name, one) for one in value]
        else:
            out.append((name, value))
    return out


def properties(props):
    """The property block with its length. Raw bytes are taken as the block's content."""
    if isinstance(props, bytes):
        return varint(len(props)) + props
    out = bytearray()
    for name, value in pairs(props):
        number, kind = PROPERTIES[name]
        out += varint(number)
        if kind == "1":
            out.append(value)
        elif kind == "2":
            out += u16(value)
        elif kind == "4":
            out += struct.pack("!I", value)
        elif kind == "v":
            out += varint(value)
        elif kind in "sb":
            out += text(value)
        else:
            out += text(value[0]) + text(value[1])
    return varint(len(out)) + bytes(out)


def packet(kind, flags, body, length=None):
    return bytes([kind << 4 | flags]) + (varint(len(body)) if length is None else length) + body


def connect_packet(
    client_id="",
    version=5,
    clean=True,
    keep_alive=60,
    props=None,
    will=None,
    username=None,
    password=None,
    name=None,
    level=None,
    flags=None,
    tail=b"",
):
    """`will` is a dict: topic, payload, qos, retain, props. `flags` and `tail` override for malformed packets."""
    bits = 0x02 if clean else 0
    body = b""
    if will is not None:
        bits |= 0x04 | will.get("qos", 0) << 3 | (0x20 if will.get("retain") else 0)
        if version == 5:
            body += properties(will.get("props"))
        body += text(will.get("topic", "will")) + text(will.get("payload", b""))
    if username is not None:
        bits |= 0x80
        body += text(username)
    if password is not None:
        bits |= 0x40
        body += text(password)
    head = text(name if name is not None else ("MQIsdp" if version == 3 else "MQTT"))
    head += bytes([version if level is None else level, bits if flags is None else flags]) + u16(keep_alive)
    if version == 5:
        head += properties(props)
    return packet(T.CONNECT, 0, head + text(client_id) + body + tail)


def publish_packet(topic, payload=b"", qos=0, packet_id=None, retain=False, dup=False, props=None, version=5, flags=None):
    body = text(topic)
    if packet_id is not None:
        body += u16(packet_id)
    if version == 5:
        body += properties(props)
    bits = (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    data = payload if isinstance(payload, bytes) else payload.encode()
    return packet(T.PUBLISH, bits if flags is None else flags, body + data)


def ack_packet(kind, packet_id, reason=None, props=None, version=5, flags=None):
    body = u16(packet_id)
    if version == 5 and (reason is not None or props is not None):
        body += bytes([reason or 0])
        if props is not None:
            body += properties(props)
    bits = 2 if kind == T.PUBREL else 0
    return packet(kind, bits if flags is None else flags, body)


def subscribe_packet(packet_id, filters, props=None, version=5, flags=2):
    """`filters`: (filter, options) pairs; options is the raw byte (in 3.x the QoS)."""
    body = u16(packet_id) + (properties(props) if version == 5 else b"")
    for name, options in filters:
        body += text(name) + bytes([options])
    return packet(T.SUBSCRIBE, flags, body)


def unsubscribe_packet(packet_id, filters, props=None, version=5, flags=2):
    body = u16(packet_id) + (properties(props) if version == 5 else b"")
    return packet(T.UNSUBSCRIBE, flags, body + b"".join(text(name) for name in filters))


def disconnect_packet(reason=None, props=None, version=5, flags=0):
    body = b""
    if version == 5 and (reason is not None or props is not None):
        body = bytes([reason or 0]) + (properties(props) if props is not None else b"")
    return packet(T.DISCONNECT, flags, body)


def auth_packet(reason=None, props=None, flags=0):
    body = b"" if reason is None else bytes([reason]) + properties(props)
    return packet(T.AUTH, flags, body)


def options(qos=0, no_local=False, retain_as_published=False, retain_handling=0):
    return qos | (4 if no_local else 0) | (8 if retain_as_published else 0) | retain_handling << 4


PINGREQ = packet(T.PINGREQ, 0, b"")


# -------------------------------------------------------------------------------------------------------------- decoding


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), f"the broker's packet ends early: {self.data.hex()}"
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack("!H", self.take(2))[0]

    def varint(self):
        value = shift = 0
        while True:
            digit = self.byte()
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                assert digit or not shift, "variable byte integer is longer than needed"
                return value
            shift += 7
            assert shift < 28, "variable byte integer is too long"

    def binary(self):
        return self.take(self.u16())

    def text(self):
        return self.binary().decode()

    def left(self):
        return len(self.data) - self.at

    def rest(self):
        return self.take(self.left())

    def properties(self):
        block = Reader(self.take(self.varint()))
        out = []
        while block.left():
            name, kind = BY_IDENTIFIER[block.varint()]
            if kind == "1":
                value = block.byte()
            elif kind == "2":
                value = block.u16()
            elif kind == "4":
                value = struct.unpack("!I", block.take(4))[0]
            elif kind == "v":
                value = block.varint()
            elif kind == "s":
                value = block.text()
            elif kind == "b":
                value = block.binary()
            else:
                value = (block.text(), block.text())
            out.append((name, value))
        repeated = [name for name, _ in out if name not in ("user", "subscription_id")]
        assert len(repeated) == len(set(repeated)), f"the broker repeats a property: {out}"
        return out


class Packet:
    """A decoded packet of the broker's. Fields are attributes: reason, packet_id, topic, payload, qos, retain, dup, ..."""

    def __init__(self, kind, flags, body, version, size):
        self.kind, self.flags, self.body, self.version, self.size = T(kind), flags, body, version, size
        self.props = []
        reader = Reader(body)
        getattr(self, "_" + self.kind.name.lower())(reader)
        assert reader.left() == 0, f"{self.kind.name} of the broker has {reader.left()} bytes too many"

    def prop(self, name, default=None):
        return next((value for key, value in self.props if key == name), default)

    def all(self, name):
        return [value for key, value in self.props if key == name]

    def _reserved(self, value=0):
        assert self.flags == value, f"{self.kind.name} of the broker has flags {self.flags:#x}"

    def _connack(self, reader):
        self._reserved()
        acknowledge = reader.byte()
        assert acknowledge in (0, 1), "CONNACK's reserved bits are set"
        self.session_present, self.reason = acknowledge == 1, reader.byte()
        if self.version == 5:
            self.props = reader.properties()

    def _publish(self, reader):
        self.dup, self.qos, self.retain = bool(self.flags & 8), self.flags >> 1 & 3, bool(self.flags & 1)
        assert self.qos < 3
        self.topic = reader.text()
        self.packet_id = reader.u16() if self.qos else None
        assert self.packet_id != 0, "PUBLISH with packet identifier 0"
        if self.version == 5:
            self.props = reader.properties()
        self.payload = reader.rest()

    def _ack(self, reader, flags=0):
        self._reserved(flags)
        self.packet_id, self.reason = reader.u16(), 0
        if self.version == 5 and reader.left():
            self.reason = reader.byte()
            if reader.left():
                self.props = reader.properties()

    _puback = _pubrec = _pubcomp = _ack

    def _pubrel(self, reader):
        self._ack(reader, 2)

    def _suback(self, reader):
        self._reserved()
        self.packet_id = reader.u16()
        if self.version == 5:
            self.props = reader.properties()
        self.reasons = list(reader.rest())

    def _unsuback(self, reader):
        self._suback(reader)
        assert self.version == 5 or not self.reasons

    def _pingresp(self, reader):
        self._reserved()

    def _disconnect(self, reader):
        self._reserved()
        assert self.version == 5, "DISCONNECT from a broker to a 3.x client"
        self.reason = reader.byte() if reader.left() else 0
        if reader.left():
            self.props = reader.properties()

    def _auth(self, reader):
        self._reserved()
        self.reason = reader.byte() if reader.left() else 0
        if reader.left():
            self.props = reader.properties()

    def __repr__(self):
        shown = {k: v for k, v in vars(self).items() if k not in ("kind", "body", "version", "size", "flags")}
        if len(shown.get("payload", b"")) > 80:
            shown["payload"] = shown["payload"][:80] + b"..."
        return f"{self.kind.name} {shown}"


# ------------------------------------------------------------------------------------------------------------- transports


class Stream:
    """A connected byte stream: TCP or Unix."""

    def __init__(self, address, prefix=b"", receive_buffer=None):
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(address)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if prefix:
            Stream.send(self, prefix)

    def send(self, data):
        try:
            self.socket.settimeout(TIMEOUT_S)
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the broker said before it closed is still to be read

    def receive(self, deadline):
        """Some bytes; empty at the end. TimeoutError at the deadline."""
        left = deadline - time.monotonic()
        self.socket.settimeout(max(left, 0.001))
        try:
            return self.socket.recv(1 << 18)
        except ConnectionResetError:
            return b""

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()


class WebSocketRefused(Exception):
    def __init__(self, status, head):
        super().__init__(f"HTTP {status}")
        self.status, self.head = status, head


class WebSocket(Stream):
    """MQTT in WebSocket binary frames (RFC 6455). `frame` sends any frame; `frames` keeps the control frames received."""

    CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

    def __init__(self, address, path="/mqtt", protocol="mqtt", headers=None, **kw):
        super().__init__(address, **kw)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {
            "Host": f"{address[0]}:{address[1]}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
        if protocol is not None:
            lines["Sec-WebSocket-Protocol"] = protocol
        lines.update(headers or {})
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None) + "\r\n"
        self.socket.sendall(head.encode())
        self.input, self.frames, self.close_code, self.continuing = b"", [], None, False
        deadline = time.monotonic() + TIMEOUT_S
        while b"\r\n\r\n" not in self.input:
            data = super().receive(deadline)
            if not data:
                break
            self.input += data
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        self.response = head.decode("latin-1")
        status = int(self.response.split()[1]) if self.response else 0
        if status != 101:
            self.socket.close()
            raise WebSocketRefused(status, self.response)
        self.response_headers = {
            k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in self.response.splitlines()[1:])
        }

    def frame(self, opcode, data=b"", fin=True, mask=True, reserved=0, length=None):
        size = len(data) if length is None else length
        head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
        bit = 0x80 if mask else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", size)
        if mask:
            key = os.urandom(4)
            stretched = (key * (len(data) // 4 + 1))[: len(data)]
            data = (int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")).to_bytes(len(data), "big")
            head += key
        super().send(head + data)

    def send(self, data):
        self.frame(self.BINARY, data)

    def _one_frame(self):
        """(opcode, data) of the first whole frame in the input, or None."""
        raw = self.input
        if len(raw) < 2:
            return None
        assert not raw[1] & 0x80, "a server's frame is masked"
        assert not raw[0] & 0x70, "reserved bits in the server's frame"
        size, at = raw[1] & 0x7F, 2
        if size == 126:
            if len(raw) < 4:
                return None
            size, at = struct.unpack("!H", raw[2:4])[0], 4
            assert size > 125
        elif size == 127:
            if len(raw) < 10:
                return None
            size, at = struct.unpack("!Q", raw[2:10])[0], 10
            assert size > 65535
        if len(raw) < at + size:
            return None
        self.input = raw[at + size :]
        return raw[0] & 15, raw[at : at + size], bool(raw[0] & 0x80)

    def receive(self, deadline):
        while True:
            frame = self._one_frame()
            if frame is None:
                data = super().receive(deadline)
                if not data:
                    return b""
                self.input += data
                continue
            opcode, data, fin = frame
            if opcode >= 8:
                assert fin and len(data) < 126
                self.frames.append((opcode, data))
                if opcode == self.CLOSE:
                    self.close_code = struct.unpack("!H", data[:2])[0] if data else 1005
                continue
            assert opcode == (self.CONTINUATION if self.continuing else self.BINARY), f"data frame with opcode {opcode}"
            self.continuing = not fin
            if data:
                return data

    def expect_control(self, opcode, timeout=TIMEOUT_S):
        """Waits for a control frame; data frames that come before it are an error."""
        deadline = time.monotonic() + timeout
        while not self.frames:
            frame = self._one_frame()
            if frame is None:
                data = super().receive(deadline)
                assert data, "closed instead of a control frame"
                self.input += data
                continue
            assert frame[0] >= 8, f"data frame instead of control frame {opcode}"
            self.frames.append(frame[:2])
        got = self.frames.pop(0)
        assert got[0] == opcode, got
        return got[1]


# ----------------------------------------------------------------------------------------------------------------- client

_serial = itertools.count(1)


def unique(prefix="t"):
    """A name that no other test of this run uses."""
    return f"{prefix}{os.getpid():x}n{next(_serial)}"


class Client:
    def __init__(self, stream, version=5, client_id=None):
        self.stream, self.version = stream, version
        self.client_id = unique("c") if client_id is None else client_id
        self.input, self.stash, self.ended = b"", [], False
        self.connack = None
        self._packet_id = itertools.count(1)

    # Sending

    def send(self, *packets):
        self.stream.send(b"".join(packets))

    def next_id(self):
        return next(self._packet_id)

    def send_connect(self, **kw):
        kw.setdefault("version", self.version)
        kw.setdefault("client_id", self.client_id)
        self.send(connect_packet(**kw))

    def connect(self, reason=0, session_present=None, **kw):
        """CONNECT and the CONNACK to it, which must carry `reason`."""
        self.send_connect(**kw)
        self.connack = self.expect(T.CONNACK, reason=reason)
        if session_present is not None:
            session_present &= kw.get("version", self.version) != 3  # 3.1 has no such flag
            assert self.connack.session_present == session_present, self.connack
        return self

    def publish(self, topic, payload=b"", qos=0, wait=True, packet_id=None, **kw):
        """PUBLISH and, for QoS 1 and 2, the whole flow to its end; returns the last acknowledgement."""
        if qos and packet_id is None:
            packet_id = self.next_id()
        self.send(publish_packet(topic, payload, qos, packet_id, version=self.version, **kw))
        if not qos or not wait:
            return packet_id
        if qos == 1:
            return self.expect_ack(T.PUBACK, packet_id)
        received = self.expect_ack(T.PUBREC, packet_id)
        if received.reason >= 0x80:
            return received
        self.ack(T.PUBREL, packet_id)
        return self.expect_ack(T.PUBCOMP, packet_id)

    def ack(self, kind, packet_id, reason=None, props=None):
        self.send(ack_packet(kind, packet_id, reason, props, self.version))

    def subscribe(self, *filters, qos=0, props=None, reasons=None, **opts):
        """Filters are names (with `qos` and the options) or (name, options byte) pairs. Returns the SUBACK."""
        entries = [f if isinstance(f, tuple) else (f, options(qos, **opts)) for f in filters]
        packet_id = self.next_id()
        self.send(subscribe_packet(packet_id, entries, props, self.version))
        suback = self.expect_ack(T.SUBACK, packet_id)
        wanted = [e[1] & 3 for e in entries] if reasons is None else reasons
        assert suback.reasons == wanted, f"SUBACK {suback.reasons} instead of {wanted}"
        return suback

    def unsubscribe(self, *filters, props=None):
        packet_id = self.next_id()
        self.send(unsubscribe_packet(packet_id, filters, props, self.version))
        return self.expect_ack(T.UNSUBACK, packet_id)

    def ping(self):
        """A barrier: everything that the broker had for us before is behind us, and nothing else has come.

        Twice, because a broker may send its answers ahead of the messages that wait: what waited comes between the two.
        """
        for _ in range(2):
            self.send(PINGREQ)
            self.expect(T.PINGRESP)

    def expect_set(self, kinds):
        """Packets of these kinds in any order: {kind: packet}."""
        got = {}
        for _ in kinds:
            one = self.expect_any()
            assert one.kind in kinds and one.kind not in got, f"{one} where {kinds} were expected"
            got[one.kind] = one
        return got

    def disconnect(self, reason=None, props=None):
        self.send(disconnect_packet(reason, props, self.version))
        self.expect_closed()
        self.stream.close()

    def drop(self):
        """Goes away without a DISCONNECT."""
        self.stream.close()

    # Receiving

    def receive(self, timeout=None):
        """The next packet. Closed when the broker has closed, TimeoutError when nothing comes."""
        if self.stash:
            return self.stash.pop(0)
        deadline = time.monotonic() + (TIMEOUT_S if timeout is None else timeout)
        while True:
            got = self._decode()
            if got is not None:
                return got
            if self.ended:
                raise Closed()
            data = self.stream.receive(deadline)
            self.ended = not data
            self.input += data

    def _decode(self):
        raw, size, at = self.input, 0, 1
        while True:
            if at >= len(raw):
                return None
            size |= (raw[at] & 0x7F) << 7 * (at - 1)
            at += 1
            if raw[at - 1] < 0x80:
                break
            assert at < 5, "remaining length has more than four bytes"
        if len(raw) < at + size:
            return None
        self.input = raw[at + size :]
        return Packet(raw[0] >> 4, raw[0] & 15, raw[at : at + size], self.version, at + size)

    def expect(self, kind, timeout=None, **fields):
        try:
            got = self.receive(timeout)
        except Closed:
            raise AssertionError(f"closed instead of {kind.name} {fields}") from None
        except TimeoutError:
            raise AssertionError(f"nothing instead of {kind.name} {fields}") from None
        assert got.kind == kind, f"{got} instead of {kind.name} {fields}"
        for name, wanted in fields.items():
            value = getattr(got, name)
            assert value == wanted, f"{name} is {value!r} instead of {wanted!r} in {got}"
        return got

    def expect_ack(self, kind, packet_id, reason=None):
        """The acknowledgement; PUBLISH packets that come before it are kept for later."""
        early = []
        while True:
            got = self.expect_any()
            if got.kind != T.PUBLISH:
                break
            early.append(got)
        self.stash = early + self.stash
        assert got.kind == kind and got.packet_id == packet_id, f"{got} instead of {kind.name} {packet_id}"
        assert reason is None or got.reason == reason, f"{got} instead of reason {reason:#x}"
        return got

    def expect_any(self, timeout=None):
        try:
            return self.receive(timeout)
        except Closed:
            raise AssertionError("closed instead of a packet") from None
        except TimeoutError:
            raise AssertionError("nothing instead of a packet") from None

    def expect_publish(self, topic=None, payload=None, ack=True, timeout=None, **fields):
        if topic is not None:
            fields["topic"] = topic
        if payload is not None:
            fields["payload"] = payload if isinstance(payload, bytes) else payload.encode()
        got = self.expect(T.PUBLISH, timeout, **fields)
        if ack and got.qos == 1:
            self.ack(T.PUBACK, got.packet_id)
        elif ack and got.qos == 2:
            self.ack(T.PUBREC, got.packet_id)
            self.expect_ack(T.PUBREL, got.packet_id)
            self.ack(T.PUBCOMP, got.packet_id)
        return got

    def expect_closed(self, timeout=None):
        """The end of the stream, with nothing before it."""
        try:
            got = self.receive(timeout)
        except Closed:
            self.stream.close()
            return
        except TimeoutError:
            raise AssertionError("still open") from None
        raise AssertionError(f"{got} instead of the end")

    def expect_disconnect(self, *reasons, timeout=None):
        """5.0: DISCONNECT with one of the reasons and then the end. 3.x: the end."""
        if self.version != 5 or (LENIENT and self._closed_now(timeout)):
            return self.expect_closed(timeout)
        got = self.expect(T.DISCONNECT, timeout)
        assert LENIENT or got.reason in reasons, f"DISCONNECT {got.reason:#x} instead of {[hex(r) for r in reasons]}"
        assert got.prop("session_expiry") is None
        self.expect_closed(timeout)
        return got

    def expect_refused(self, reason5, code3=None):
        """5.0: CONNACK with the reason, then the end. 3.x: CONNACK with the return code, or just the end if None."""
        if LENIENT and self._closed_now():
            return None
        if self.version < 5 and code3 is None:
            return self.expect_closed()
        connack = self.expect(T.CONNACK, session_present=False)
        wanted = reason5 if self.version == 5 else code3
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        assert (LENIENT and connack.reason) or connack.reason in wanted, f"{connack} instead of {wanted}"
        self.expect_closed()
        return connack

    def _closed_now(self, timeout=None):
        try:
            self.stash.insert(0, self.receive(timeout))
            return False
        except Closed:
            return True
