"""SUBSCRIBE and UNSUBSCRIBE: codes, replacement, overlap, options, identifiers. [MQTT-3.8] to [MQTT-3.11]."""

import pytest
from broker import settle
from wire import R, T, options, subscribe_packet, unique, unsubscribe_packet

pytestmark = pytest.mark.threads


def test_granted_qos(broker, version, topic):
    client = broker.connect(version)
    client.subscribe(*[(f"{topic}/{n}", n % 3) for n in range(9)])


def test_suback_has_the_packet_identifier(broker, version, topic):
    client = broker.connect(version)
    for packet_id in (1, 2, 65535, 1):
        client.send(subscribe_packet(packet_id, [(topic, 0)], version=version))
        client.expect(T.SUBACK, packet_id=packet_id)
        client.send(unsubscribe_packet(packet_id, [topic], version=version))
        client.expect(T.UNSUBACK, packet_id=packet_id)


def test_many_filters_in_one_packet(broker, version):
    """One SUBACK with a code for each, in order; as if they had come one by one."""
    base, client = unique(), broker.connect(version)
    names = [f"{base}/{n}" for n in range(500)]
    suback = client.subscribe(*[(name, n % 3) for n, name in enumerate(names)])
    assert suback.reasons == [n % 3 for n in range(500)]
    client.publish(names[499], b"x", qos=2)
    client.expect_publish(names[499], b"x", qos=1)
    unsuback = client.unsubscribe(*names)
    assert unsuback.reasons == ([0] * 500 if version == 5 else [])


INVALID = ["a/#/b", "#a", "a#", "a/b#", "+a", "a+", "a/+b", "a/b+/c", "##", "#/", "++"]


@pytest.mark.mosquitto_differs("closes")
@pytest.mark.parametrize("name", INVALID)
def test_invalid_filters_are_refused(broker, version, name):
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2]: each with its own code; the others of the packet are granted."""
    client = broker.connect(version)
    good = unique()
    failure = R.FILTER_INVALID if version == 5 else 0x80
    client.subscribe((name, 1), (good, 1), reasons=[failure, 1])
    client.publish(good, b"x")
    client.expect_publish(good, b"x")


def test_empty_filter(broker, version):
    """[MQTT-4.7.3-1]"""
    client = broker.connect(version)
    client.send(subscribe_packet(1, [("", 0)], version=version))
    client.expect_disconnect(R.MALFORMED, R.PROTOCOL_ERROR, R.FILTER_INVALID)


def test_replacing_a_subscription(broker, version, topic):
    """[MQTT-3.8.4-3]: the new QoS counts, and there is still one copy."""
    client, publisher = broker.connect(version), broker.connect()
    for qos in (0, 2, 1):
        client.subscribe(topic, qos=qos)
        publisher.publish(topic, str(qos), qos=2)
        client.expect_publish(topic, str(qos), qos=qos)
        settle(publisher, client)


def test_replacing_loses_nothing(broker, version, topic):
    client, publisher = broker.connect(version), broker.connect()
    client.subscribe(topic, qos=1)
    for n in range(50):
        publisher.publish(topic, str(n), qos=1)
        client.send(subscribe_packet(100 + n, [(topic, 1)], version=version))
    got, subacks = [], 0
    while len(got) < 50 or subacks < 50:
        one = client.expect_any()
        if one.kind == T.SUBACK:
            subacks += 1
        else:
            got.append(int(one.payload))
            client.ack(T.PUBACK, one.packet_id)
    assert got == list(range(50))


@pytest.mark.mosquitto_differs("sends a copy per subscription")
def test_overlapping_subscriptions_get_one_copy_at_the_highest_qos(broker, version):
    """[MQTT-3.3.4-2]"""
    base, client, publisher = unique(), broker.connect(version), broker.connect()
    client.subscribe((f"{base}/#", 0), (f"{base}/+", 2), (f"{base}/a", 1))
    publisher.publish(f"{base}/a", b"x", qos=2)
    client.expect_publish(f"{base}/a", b"x", qos=2)
    settle(publisher, client)


@pytest.mark.mosquitto_differs("sends a copy per subscription")
def test_overlapping_subscriptions_carry_all_identifiers(broker):
    """[MQTT-3.3.4-3], [MQTT-3.3.4-4]"""
    base, client, publisher = unique(), broker.connect(), broker.connect()
    client.subscribe((f"{base}/#", 0), props={"subscription_id": 1})
    client.subscribe((f"{base}/+", 1), props={"subscription_id": 268435455})
    client.subscribe((f"{base}/a", 2))
    client.subscribe((f"{base}/b", 2), props={"subscription_id": 300})
    publisher.publish(f"{base}/a", b"x", qos=2)
    got = client.expect_publish(f"{base}/a", b"x", qos=2)
    assert sorted(got.all("subscription_id")) == [1, 268435455]
    publisher.publish(f"{base}/b/c", b"x", qos=2)
    assert client.expect_publish(f"{base}/b/c", b"x", qos=0).all("subscription_id") == [1]
    settle(publisher, client)


@pytest.mark.mosquitto_differs("sends a copy per subscription")
def test_the_same_identifier_for_several_subscriptions(broker):
    base, client, publisher = unique(), broker.connect(), broker.connect()
    client.subscribe(f"{base}/#", f"{base}/a", qos=1, props={"subscription_id": 7})
    publisher.publish(f"{base}/a", b"x", qos=1)
    assert set(client.expect_publish(f"{base}/a", b"x").all("subscription_id")) == {7}
    settle(publisher, client)


def test_identifier_is_replaced_with_its_subscription(broker, topic):
    client = broker.connect()
    for props, wanted in (({"subscription_id": 1}, [1]), ({"subscription_id": 2}, [2]), (None, [])):
        client.subscribe(topic, props=props)
        client.publish(topic, b"x")
        assert client.expect_publish(topic, b"x").all("subscription_id") == wanted


def test_identifiers_stay_with_the_session(broker, topic):
    client = broker.persistent()
    client.subscribe(topic, qos=1, props={"subscription_id": 99})
    client.drop()
    broker.connect().publish(topic, b"x", qos=1)
    again = broker.client(5, client.client_id).connect(clean=False, session_present=True)
    assert again.expect_publish(topic, b"x").all("subscription_id") == [99]


@pytest.mark.parametrize("props", [{"subscription_id": 0}, [("subscription_id", 1), ("subscription_id", 2)]], ids=str)
def test_identifier_zero_or_twice(broker, topic, props):
    client = broker.connect()
    client.send(subscribe_packet(1, [(topic, 0)], props))
    client.expect_disconnect(R.PROTOCOL_ERROR, R.MALFORMED)


def test_user_properties_are_taken(broker, topic):
    client = broker.connect()
    client.subscribe(topic, props={"user": ("a", "b")})
    client.unsubscribe(topic, props={"user": ("a", "b")})


def test_no_local(broker, topic):
    """[MQTT-3.8.3-3]: by client identifier, not by connection."""
    client, other = broker.connect(), broker.connect()
    client.subscribe((topic, options(1, no_local=True)))
    client.publish(topic, b"mine", qos=1)
    other.publish(topic, b"theirs", qos=1)
    client.expect_publish(topic, b"theirs")
    settle(other, client)


def test_no_local_next_to_another_subscription(broker):
    """The subscription without the option still matches."""
    base, client = unique(), broker.connect()
    client.subscribe((f"{base}/a", options(1, no_local=True)), props={"subscription_id": 1})
    client.subscribe((f"{base}/+", options(0)), props={"subscription_id": 2})
    client.publish(f"{base}/a", b"x", qos=1)
    got = client.expect_publish(f"{base}/a", b"x")
    assert got.all("subscription_id") == [2] and got.qos == 0
    client.ping()


@pytest.mark.parametrize("bits", [0x03, 0x40, 0x80, 0xC0, 0x30])
def test_subscription_options_out_of_range(broker, topic, bits):
    """[MQTT-3.8.3-5]: reserved bits, QoS 3, retain handling 3."""
    client = broker.connect()
    client.send(subscribe_packet(1, [(topic, bits)]))
    client.expect_disconnect(R.MALFORMED, R.PROTOCOL_ERROR)


@pytest.mark.parametrize("bits", [0x03, 0x04, 0x08, 0x10, 0x80])
def test_requested_qos_out_of_range_in_311(broker, topic, bits):
    """[MQTT-3.8.3-4] of 3.1.1"""
    client = broker.connect(4)
    client.send(subscribe_packet(1, [(topic, bits)], version=4))
    client.expect_closed()


# ------------------------------------------------------------------------------------------------------ UNSUBSCRIBE


def test_unsubscribe(broker, version, topic):
    client, publisher = broker.connect(version), broker.connect()
    client.subscribe(topic, qos=1)
    unsuback = client.unsubscribe(topic)
    assert version < 5 or unsuback.reasons == [0]
    publisher.publish(topic, b"x", qos=1)
    settle(publisher, client)


def test_unsubscribe_what_was_not_there(broker, version):
    """[MQTT-3.10.4-5]: answered all the same."""
    client = broker.connect(version)
    unsuback = client.unsubscribe(unique(), unique())
    assert version < 5 or unsuback.reasons == [R.NO_SUBSCRIPTION] * 2


@pytest.mark.mosquitto_differs("sends a copy per subscription")
def test_unsubscribe_compares_filters_by_character(broker, version):
    """[MQTT-3.10.4-1]: a wildcard removes its own filter only."""
    base, client, publisher = unique(), broker.connect(version), broker.connect()
    client.subscribe(f"{base}/a", f"{base}/+", qos=1)
    client.unsubscribe(f"{base}/#", f"{base}/A", f"{base}/a/")
    publisher.publish(f"{base}/a", b"1", qos=1)
    client.expect_publish(f"{base}/a", b"1")
    client.unsubscribe(f"{base}/+")
    publisher.publish(f"{base}/b", b"no", qos=1)
    publisher.publish(f"{base}/a", b"2", qos=1)
    client.expect_publish(f"{base}/a", b"2")
    settle(publisher, client)


def test_unsubscribe_codes_in_order(broker, topic):
    client = broker.connect()
    client.subscribe(f"{topic}/a", f"{topic}/c")
    codes = client.unsubscribe(f"{topic}/a", f"{topic}/b", f"{topic}/c", f"{topic}/a").reasons
    assert codes == [0, R.NO_SUBSCRIPTION, 0, R.NO_SUBSCRIPTION]


def test_deliveries_that_have_begun_are_completed(broker, version, topic):
    """[MQTT-3.10.4-3]"""
    client = broker.persistent(version)
    client.subscribe(topic, qos=2)
    publisher = broker.connect()
    publisher.publish(topic, b"1", qos=1)
    publisher.publish(topic, b"2", qos=2)
    one = client.expect_publish(topic, b"1", ack=False)
    two = client.expect_publish(topic, b"2", ack=False)
    client.unsubscribe(topic)
    client.ack(T.PUBREC, two.packet_id)
    client.expect(T.PUBREL, packet_id=two.packet_id)
    client.drop()
    again = broker.client(version, client.client_id)
    again.connect(clean=False, session_present=True)
    got = [again.expect_any(), again.expect_any()]
    assert {(g.kind, g.packet_id) for g in got} == {(T.PUBLISH, one.packet_id), (T.PUBREL, two.packet_id)}


@pytest.mark.mosquitto_differs("answers with an empty SUBACK")
def test_empty_payload(broker, version):
    """[MQTT-3.8.3-2], [MQTT-3.10.3-2]"""
    for make in (subscribe_packet, unsubscribe_packet):
        client = broker.connect(version)
        client.send(make(1, [], version=version))
        client.expect_disconnect(R.PROTOCOL_ERROR, R.MALFORMED)


def test_the_same_filter_twice_in_a_packet(broker, version, topic):
    """As two packets: the second replaces the first."""
    client = broker.connect(version)
    client.subscribe((topic, 0), (topic, 1))
    client.publish(topic, b"x", qos=1)
    client.expect_publish(topic, b"x", qos=1)
    client.ping()


@pytest.mark.skerry_only
def test_subscription_limit(make_broker, version):
    """limits.subscriptions per session: the rest gets 0x97 (0x80 in 3.x); replacing what is there goes on."""
    broker = make_broker(options={"limits": {"subscriptions": 10}})
    client = broker.connect(version)
    base = unique()
    refused = R.QUOTA if version == 5 else 0x80
    client.subscribe(*[f"{base}/{n}" for n in range(12)], reasons=[0] * 10 + [refused] * 2)
    client.subscribe((f"{base}/3", 1))
    client.unsubscribe(f"{base}/0")
    client.subscribe(f"{base}/new")


@pytest.mark.mosquitto_differs("sends it all the same")
def test_suback_that_cannot_fit(broker, topic):
    """One byte for each filter: more than the client's maximum packet size leaves nothing but to say so. [MQTT-3.1.2-24]"""
    client = broker.connect(props={"maximum_packet_size": 40})
    client.subscribe(*(f"{topic}/{n}" for n in range(30)))
    client.send(subscribe_packet(9, [(f"{topic}/{n}", 0) for n in range(60)]))
    client.expect_disconnect(R.TOO_LARGE)
    broker.connect().ping()
