"""What needs no disk costs none: every system call of a running broker, seen by strace."""

from pathlib import Path

import pytest
from broker import eventually
from journaled import SMALL, STEADY
from strace import Trace
from wire import unique

pytestmark = [pytest.mark.skerry_only, pytest.mark.timeout(120)]

MESSAGES = 100


@pytest.mark.parametrize("shards", [1, 2])
def test_clean_clients_touch_no_file(make_broker, tmp_path, topic, shards):
    """Nothing is read, written or synced for QoS 1 and 2 between connected clients whose sessions end with them."""
    broker = make_broker(shards, {"journal": SMALL, **STEADY})
    data = Path(broker.config["broker"]["data"])
    away = broker.persistent(5)
    away.subscribe(f"{topic}/kept", qos=1)
    away.disconnect()
    publishers = [broker.connect(version) for version in (4, 5, 5)]
    subscribers = [broker.connect(version) for version in (4, 5, 5)]
    for number, one in enumerate(subscribers):
        one.subscribe(f"{topic}/+", qos=2)
        one.subscribe(f"$share/{unique('g')}/{topic}/{number}", qos=1)

    with Trace(broker.pid, tmp_path / "clean") as trace:
        for number in range(MESSAGES):
            for qos, publisher in enumerate(publishers):
                publisher.publish(f"{topic}/{qos}", str(number), qos=max(qos, 1))
        for one in subscribers:
            for _ in range(MESSAGES * (len(publishers) + 1)):
                one.expect_publish()
        publishers[0].disconnect()
        subscribers[0].drop()
        eventually(lambda: broker.metrics().total("skerry_clients") <= 4, "they have left")
    assert len(trace.lines) > MESSAGES, "nothing was seen at all"
    assert trace.calls(data) == []

    # The same eyes see what a durable session costs.
    with Trace(broker.pid, tmp_path / "durable") as trace:
        publishers[1].publish(f"{topic}/kept", "x", qos=1)
    calls = trace.calls(data)
    assert any(name.startswith("pwrite") for name in calls), calls
    assert "fdatasync" in calls, calls
