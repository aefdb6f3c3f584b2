"""What tests of the journal share: brokers with small segments, restarts, and a disk that is watched."""

import os
import sys
from pathlib import Path

import pytest
from broker import elapse, skerry_binary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
from powercut import PowerCut  # noqa: E402

SMALL = {"segment": "256KiB", "reserve": "512KiB", "replay": "256KiB"}
STEADY = {"sys": {"interval": "off"}}


@pytest.fixture(params=["stop", "kill"])
def how(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=lambda n: f"shards{n}")
def broker(request, make_broker):
    return make_broker(request.param, {"journal": SMALL, **STEADY})


# For what takes its time: half of the combinations.
SOME = pytest.mark.parametrize(
    ("broker", "how"), [(1, "stop"), (2, "kill")], indirect=True, ids=["shards1-stop", "shards2-kill"]
)


def restart(broker, how, down_s=0):
    if how == "stop":
        broker.stop()
    else:
        broker.kill()
    if down_s:
        elapse(down_s)
    broker.start()


def resume(broker, client, present=True, expiry_s=3600, **kw):
    """The same client identifier again."""
    client.stream.close()
    return broker.resume(client, present, expiry_s, **kw)


def absent(broker, version, *filters, **kw):
    client = broker.persistent(version)
    client.subscribe(*filters, **kw)
    client.disconnect()
    return client


def field(line, name):
    """A number of a log event."""
    return int(line.split(f" {name}=")[1].split()[0])


def watched(tmp_path, **kw):
    library = Path(os.environ.get("SKERRY_BUILD", Path(skerry_binary()).parent)) / "tests/crash/powercut.so"
    assert library.exists(), f"{library} was not built"
    data = tmp_path / "watched"
    data.mkdir()
    return PowerCut(library.resolve(), data, tmp_path / "undo", **kw)
