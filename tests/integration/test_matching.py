"""Topic names against topic filters: a table, checked through the broker."""

import pytest
from wire import unique

pytestmark = pytest.mark.threads

# filter, topics that match, topics that do not. "@" stands for the test's own prefix.
TABLE = [
    ("@/a", ["@/a"], ["@", "@/", "@/a/", "@/A", "@/ab", "/@/a", "@/a/b"]),
    ("@/#", ["@", "@/", "@/a", "@/a/b/c", "@//", "@/a/"], ["@a", "/@", "@ /a", "b/@/a"]),
    ("@/+", ["@/", "@/a", "@/$x"], ["@", "@/a/", "@/a/b", "@//"]),
    ("@/+/b", ["@/a/b", "@//b"], ["@/b", "@/a/b/", "@/a/c", "@/a/x/b"]),
    ("@/+/+", ["@//", "@/a/", "@//a", "@/a/b"], ["@/", "@/a", "@/a/b/c"]),
    ("@/+/#", ["@/", "@/a", "@/a/b", "@/a/b/c"], ["@"]),
    ("@/a/#", ["@/a", "@/a/", "@/a/b"], ["@", "@/ab", "@/b"]),
    ("@/a/+/#", ["@/a/", "@/a/b", "@/a/b/c/d"], ["@/a", "@/b/c"]),
    ("@//a", ["@//a"], ["@/a", "@/b/a", "@///a"]),
    ("@/a//", ["@/a//"], ["@/a/", "@/a///"]),
    ("+/@", ["/@", "a/@"], ["@", "a/b/@", "$a/@", "$SYSx/@"]),
    ("+/@/#", ["/@", "a/@", "a/@/b"], ["@/b", "$a/@", "$a/@/b"]),
    ("$own/@/#", ["$own/@", "$own/@/b"], ["own/@", "$ownx/@"]),
    ("$own/+/@", ["$own/x/@"], ["$own/@"]),
    ("@/$x/+", ["@/$x/1"], ["@/x/1"]),
    ("@/ /b", ["@/ /b"], ["@//b", "@/  /b"]),
    ("@/*", ["@/*"], ["@/a"]),
    ("@/é", ["@/é"], ["@/é", "@/e"]),
]


@pytest.mark.parametrize("filter_name, matching, other", TABLE, ids=[row[0] for row in TABLE])
def test_table(broker, version, filter_name, matching, other):
    prefix = unique("m")
    subscriber, publisher = broker.connect(version), broker.connect(version)
    subscriber.subscribe(filter_name.replace("@", prefix), prefix + "-end", qos=1)
    expected = []
    for name in [t for pair in zip(matching + other, other + matching) for t in pair]:
        name = name.replace("@", prefix)
        publisher.publish(name, name, qos=1)
        if name in [t.replace("@", prefix) for t in matching]:
            expected.append(name)
    publisher.publish(prefix + "-end", b"", qos=1)
    for name in [*expected, prefix + "-end"]:
        subscriber.expect_publish(name)
    subscriber.ping()


@pytest.mark.parametrize("filter_name", ["#", "+", "+/#", "/#", "/+", "+/+"])
def test_wildcards_alone(broker, version, filter_name):
    """Filters that every test's traffic may match: look for the own topics only. `$` topics are not among them."""
    name = unique("w")
    plain = {name, f"{name}/b", f"{name}//", f"/{name}", f"/{name}/b"}
    wanted = {
        "#": plain,
        "+/#": plain,
        "+": {name},
        "/#": {f"/{name}", f"/{name}/b"},
        "/+": {f"/{name}"},
        "+/+": {f"{name}/b", f"/{name}"},
    }
    every = plain | {f"$own/{name}", f"${name}"}
    subscriber, publisher = broker.connect(version), broker.connect(version)
    subscriber.subscribe((filter_name, 0 if version < 5 else 0x20), name + "-end")
    for one in sorted(every):
        publisher.publish(one, b"x")
    publisher.publish(name + "-end", b"")
    got = set()
    while True:
        one = subscriber.expect_publish()
        if one.topic == name + "-end":
            break
        if name in one.topic:
            got.add(one.topic)
    assert got == wanted[filter_name]


def test_dollar_topics_need_to_be_named(broker, version):
    """[MQTT-4.7.2-1]"""
    name = unique("$priv/")
    client = broker.connect(version)
    client.subscribe(("#", 0), ("+/" + name.partition("/")[2], 0))
    client.publish(name, b"hidden")
    client.subscribe(name)
    client.publish(name, b"seen")
    while True:
        got = client.expect_publish()
        if got.topic == name:
            assert got.payload == b"seen"
            return


@pytest.mark.mosquitto_differs("sends a copy per subscription")
def test_many_filters_and_topics_against_a_naive_matcher(broker):
    """Every combination of a small alphabet, matched as the standard's words say."""
    prefix = unique("n")
    parts = ["", "a", "b", "+", "#"]
    filters = [[a, b, c] for a in parts for b in parts for c in parts] + [[a, b] for a in parts for b in parts]
    filters = [f for f in filters if "#" not in f[:-1]]
    topics = [[a, b, c] for a in ("", "a", "b") for b in ("", "a", "c") for c in ("", "a")] + [["a"], ["a", "b"], [""]]

    def naive(levels, names):
        for n, level in enumerate(levels):
            if level == "#":
                return True
            if n >= len(names) or (level != "+" and level != names[n]):
                return False
        return len(levels) == len(names)

    client, publisher = broker.connect(), broker.connect()
    for n, levels in enumerate(filters):
        client.subscribe("/".join([prefix, *levels]), props={"subscription_id": n + 1})
    for names in topics:
        publisher.publish("/".join([prefix, *names]), b"x")
        wanted = sorted(n + 1 for n, levels in enumerate(filters) if naive(levels, names))
        if wanted:
            assert sorted(client.expect_publish().all("subscription_id")) == wanted, names
    client.ping()
