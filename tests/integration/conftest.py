"""Fixtures of the integration tests. Environment:

SKERRY             the binary under test (default: build/skerry)
BROKER=mosquitto   runs the protocol tests against Debian's mosquitto instead, to check the tests; where that broker is known
                   to do otherwise, tests carry the marker `mosquitto_differs`
SKERRY_TEST_SLOW   factor on all time-outs, for sanitizer builds
"""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import wire  # noqa: E402
from broker import MOSQUITTO, Broker, skerry_binary  # noqa: E402


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here not in pathlib.Path(item.fspath).parents:
            continue
        differs = item.get_closest_marker("mosquitto_differs")
        if MOSQUITTO and differs:
            item.add_marker(pytest.mark.xfail(reason=differs.args[0], strict=False))
        if MOSQUITTO and item.get_closest_marker("skerry_only"):
            item.add_marker(pytest.mark.skip(reason="about Skerry itself"))


HAS_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.when == "call":
        item.stash[HAS_PASSED] = report.passed


@pytest.fixture(autouse=True)
def tidy(request):
    """What a test leaves on the disk stays when it failed: a thousand journals with their reserves are 30 GB."""
    yield
    if request.node.stash.get(HAS_PASSED, False) and "tmp_path" in request.node.funcargs:
        shutil.rmtree(request.node.funcargs["tmp_path"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def binary():
    if not MOSQUITTO:
        if not os.access(skerry_binary(), os.X_OK):
            pytest.exit(f"no broker at {skerry_binary()}: build it, or set SKERRY", 1)


def shards_params():
    return [1] if MOSQUITTO else [1, 2]


@pytest.fixture(scope="module", params=shards_params(), ids=lambda n: f"shards{n}")
def broker(request, tmp_path_factory):
    """One broker per module and number of shards: tests keep apart by unique client identifiers and topics.

    A module may set BROKER_OPTIONS, a dict that is merged into the configuration.
    """
    running = Broker(
        tmp_path_factory.mktemp("broker"), request.param, getattr(request.module, "BROKER_OPTIONS", None)
    )
    yield running
    running.stop()
    shutil.rmtree(running.directory / "data", ignore_errors=True)


@pytest.fixture
def make_broker(tmp_path):
    """Brokers of one test's own; all are killed at its end. Under a sanitizer they are stopped, so that leaks show."""
    made = []

    def make(shards=1, options=None, **kw):
        directory = tmp_path / f"broker{len(made)}"
        directory.mkdir()
        made.append(Broker(directory, shards, options, **kw))
        return made[-1]

    yield make
    for one in made:
        if wire.SLOW > 1 and one.process and one.process.poll() is None:
            one.stop()
        one.kill()
        one.check_log()


@pytest.fixture(params=[3, 4, 5], ids=["v31", "v311", "v5"])
def version(request):
    return request.param


@pytest.fixture
def topic():
    """A topic of the test's own."""
    return wire.unique("test/")


@pytest.fixture
def connect(broker):
    """Connects clients and drops them at the end of the test."""
    made = []

    def connect(version=5, client_id=None, **kw):
        made.append(broker.connect(version, client_id, **kw))
        return made[-1]

    yield connect
    for client in made:
        client.stream.close()
