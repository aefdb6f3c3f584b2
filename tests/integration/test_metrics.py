"""What can be watched: /metrics, /healthz, $SYS, the ledger."""

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from broker import TIMEOUT_S, eventually, settle
from wire import R, T, packet, unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.threads]

BROKER_OPTIONS = {"sys": {"interval": "1s"}}


def ledger(metrics):
    """Both balances of the ledger; they hold at every scrape, however busy the broker is."""
    total = metrics.total
    received = total("skerry_publish_received_total")
    taken = (
        total("skerry_publish_routed_total")
        + total("skerry_publish_unrouted_total")
        + total("skerry_publish_refused_total")
    )
    assert received == taken, (received, taken)
    copies = total("skerry_copies_total")
    ends = (
        total("skerry_copies_delivered_total")
        + total("skerry_copies_queued")
        + total("skerry_copies_in_flight")
        + total("skerry_copies_expired_total")
        + total("skerry_copies_dropped_total")
    )
    assert copies == ends, (copies, ends)
    return received, copies


def test_promtool(broker, topic):
    client = broker.connect()
    client.subscribe(topic, qos=1)
    client.publish(topic, b"x", qos=1)
    client.expect_publish(topic)
    _, headers, text = broker.get("/metrics")
    assert headers["Content-Type"].startswith("text/plain") and "version=0.0.4" in headers["Content-Type"]
    tool = shutil.which("promtool")
    assert tool, "promtool is missing (Debian package prometheus)"
    done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in text.splitlines():
        assert line.startswith("#") or line.startswith(("skerry_", "process_")), line


def test_every_metric_has_help_and_type(broker):
    text = broker.get("/metrics")[2]
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    typed = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    for name in broker.metrics().series:
        histogram = name.rsplit("_", 1)[0]
        if typed.get(histogram) == "histogram" and name.rsplit("_", 1)[1] in ("bucket", "sum", "count"):
            name = histogram
        assert name in helped and name in typed, name
        assert name.endswith("_total") == (typed[name] == "counter") or typed[name] == "histogram", name


def test_healthz(broker):
    status, _, text = broker.get("/healthz")
    assert status == 200 and text.strip()


def test_healthz_by_curl(broker):
    """As a probe asks."""
    asked = subprocess.run(
        ["curl", "--fail", "--silent", "--show-error", "--max-time", str(TIMEOUT_S), broker.metrics_url + "/healthz"],
        capture_output=True, text=True, timeout=2 * TIMEOUT_S)
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "ok\n", "")


def test_other_paths_and_methods(broker):
    assert broker.get("/")[0] in (200, 404)
    assert broker.get("/nothing")[0] == 404
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(broker.metrics_url + "/metrics", data=b"x", method="POST"), timeout=5)
    assert refused.value.code in (405, 501)


def test_gauges(broker, topic):
    before = broker.metrics()
    clients = [broker.connect() for _ in range(5)]
    for client in clients:
        client.subscribe(topic, f"$share/{unique('g')}/{topic}")
    now = broker.metrics()
    assert now.total("skerry_connections") - before.total("skerry_connections") == 5
    assert now.total("skerry_sessions") - before.total("skerry_sessions") >= 5
    both = sum(
        now.total(name) - before.total(name) for name in ("skerry_subscriptions", "skerry_shared_subscriptions")
    )
    assert both in (10, 15)
    for client in clients:
        client.disconnect()
    eventually(
        lambda: broker.metrics().total("skerry_connections") == before.total("skerry_connections"), "they are gone"
    )


def test_packets_are_counted_by_type(broker, topic):
    def counts(metrics, direction, kind):
        name = f"skerry_packets_{direction}_total"
        return sum(v for k, v in metrics.series.get(name, {}).items() if kind in {value.upper() for _, value in k})

    before = broker.metrics()
    client = broker.connect()
    client.subscribe(topic, qos=1)
    for _ in range(7):
        client.publish(topic, b"x", qos=1)
    for _ in range(7):
        client.expect_publish(topic)
    client.ping()
    now = broker.metrics()
    for direction, kind, wanted in (
        ("received", "PUBLISH", 7),
        ("sent", "PUBLISH", 7),
        ("sent", "PUBACK", 7),
        ("received", "PUBACK", 7),
        ("received", "PINGREQ", 2),
        ("sent", "SUBACK", 1),
    ):
        assert counts(now, direction, kind) - counts(before, direction, kind) == wanted, (direction, kind)


def test_drops_have_reasons(broker, topic):
    before = broker.metrics()

    def dropped(reason):
        return broker.metrics().total("skerry_copies_dropped_total", reason=reason) - before.total(
            "skerry_copies_dropped_total", reason=reason
        )

    publisher = broker.connect()
    away = broker.persistent()
    away.subscribe(topic, qos=1)
    away.disconnect()
    publisher.publish(topic, b"offline")
    publisher.publish(topic, b"queued", qos=1)
    eventually(lambda: dropped("offline_qos_0") == 1, "QoS 0 for the absent")
    small = broker.connect(props={"maximum_packet_size": 60})
    small.subscribe(topic)
    publisher.publish(topic, b"x" * 100, qos=1)
    settle(publisher, small)
    assert dropped("packet_too_large") == 1, broker.metrics().series["skerry_copies_dropped_total"]
    broker.client(5, away.client_id).connect(clean=True)
    eventually(lambda: dropped("session_ended") == 2, "a session's queue")
    refusing = broker.connect()
    refusing.subscribe(topic, qos=1)
    publisher.publish(topic, b"x", qos=1)
    got = refusing.expect_publish(topic, ack=False)
    refusing.ack(T.PUBACK, got.packet_id, R.UNSPECIFIED)
    refusing.ping()
    assert dropped("refused") == 1
    ledger(broker.metrics())


def test_ledger_balances_under_load(broker, topic):
    """Publishers and subscribers of all kinds, one that is slow, one that leaves, scrapes all along."""
    stop, failures = threading.Event(), []

    def guarded(work):
        def body():
            try:
                work()
            except Exception as error:  # told by the test
                if not stop.is_set():
                    failures.append(error)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        return thread

    subscribers = [broker.connect() for _ in range(3)]
    for n, client in enumerate(subscribers):
        client.subscribe(f"{topic}/#", qos=n)
    away = broker.persistent()
    away.subscribe(f"{topic}/+", qos=1)
    away.drop()

    def read(client):
        def body():
            while not stop.is_set():
                got = client.receive()
                if got.kind == T.PUBLISH and got.qos:
                    client.ack(T.PUBACK if got.qos == 1 else T.PUBREC, got.packet_id)
                elif got.kind == T.PUBREL:
                    client.ack(T.PUBCOMP, got.packet_id)

        return body

    def publish(number):
        def body():
            client, count = broker.connect(), 0
            while not stop.is_set():
                count += 1
                client.publish(f"{topic}/{number}", str(count), qos=count % 3, props={"message_expiry": 1})

        return body

    threads = [guarded(read(c)) for c in subscribers] + [guarded(publish(n)) for n in range(2)]
    last = 0
    for _ in range(40):
        received, _ = ledger(broker.metrics())
        assert received >= last
        last = received
    stop.set()
    for thread in threads:
        thread.join(TIMEOUT_S * 2)
    assert not failures, failures
    assert last > 0
    ledger(broker.metrics())


def test_ledger_after_errors(broker, topic):
    client = broker.connect()
    client.subscribe(topic, qos=2)
    client.publish(topic, b"x", qos=2)
    client.send(packet(0, 0, b""))
    ledger(broker.metrics())


# What Mosquitto's users have on their dashboards.
SYS = [
    "$SYS/broker/version",
    "$SYS/broker/uptime",
    "$SYS/broker/clients/total",
    "$SYS/broker/clients/connected",
    "$SYS/broker/clients/disconnected",
    "$SYS/broker/clients/maximum",
    "$SYS/broker/clients/expired",
    "$SYS/broker/subscriptions/count",
    "$SYS/broker/shared_subscriptions/count",
    "$SYS/broker/retained messages/count",
    "$SYS/broker/store/messages/count",
    "$SYS/broker/store/messages/bytes",
    "$SYS/broker/messages/received",
    "$SYS/broker/messages/sent",
    "$SYS/broker/messages/stored",
    "$SYS/broker/publish/messages/received",
    "$SYS/broker/publish/messages/sent",
    "$SYS/broker/publish/messages/dropped",
    "$SYS/broker/publish/bytes/received",
    "$SYS/broker/publish/bytes/sent",
    "$SYS/broker/bytes/received",
    "$SYS/broker/bytes/sent",
    "$SYS/broker/load/messages/received/1min",
    "$SYS/broker/load/messages/sent/5min",
    "$SYS/broker/load/bytes/received/15min",
]


def test_sys_topics(broker):
    """Retained, so that they are there at once; numbers where numbers are expected; uptime as Mosquitto writes it."""
    client = broker.connect()
    client.subscribe("$SYS/#")
    values = {}
    while not set(SYS) <= values.keys() or values["$SYS/broker/clients/connected"] == "0":
        got = client.expect_publish()
        values[got.topic] = got.payload.decode()
    for name, value in values.items():
        if name.endswith("version"):
            assert "skerry" in value.lower()
        elif name.endswith("uptime"):
            assert value.endswith(" seconds") and value.split()[0].isdigit()
        elif name in SYS:
            float(value)


def test_sys_is_not_for_wildcards(broker):
    client = broker.connect()
    client.subscribe("#", "+/broker/uptime")
    live = broker.connect()
    live.subscribe("$SYS/broker/uptime")
    for _ in range(2):
        live.expect_publish("$SYS/broker/uptime")
    client.send(b"\xc0\x00")
    while (got := client.expect_any()).kind != T.PINGRESP:
        assert not got.topic.startswith("$")


def test_clients_cannot_write_sys(broker):
    """A value of the broker's is the broker's: a client's PUBLISH there is refused or ignored."""
    client, watcher = broker.connect(), broker.connect()
    watcher.subscribe("$SYS/broker/version")
    watcher.expect_publish("$SYS/broker/version")
    packet_id = client.publish("$SYS/broker/version", b"mine", qos=1, wait=False, retain=True)
    got = client.expect_any()
    if got.kind == T.PUBACK:
        assert got.packet_id == packet_id
    late = broker.connect()
    late.subscribe("$SYS/broker/version")
    assert late.expect_publish("$SYS/broker/version").payload != b"mine"


def test_log_events_have_fields(broker):
    client = broker.connect()
    client.disconnect()
    lines = eventually(
        lambda: [line for line in broker.log().splitlines() if client.client_id in line and "client_disconnected" in line],
        "the log line",
    )
    assert f"client={json.dumps(client.client_id)}" in lines[0] or f"client={client.client_id}" in lines[0]
