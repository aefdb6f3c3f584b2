"""Files that change under a running broker: certificates, passwords, rules. All or nothing, and what was before stays when they are wrong."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
from broker import elapse, eventually, free_port, skerry_binary
from certificates import Authority, Secure, client_context
from test_process import with_fds
from wire import SLOW, TIMEOUT_S, Client, Closed, R, Stream, T

pytestmark = pytest.mark.skerry_only

QUIET_S = 0.2  # what a change is held back for


def openssl(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, text=True, timeout=30).stdout


def make_certificate(directory, name, days=30):
    """A self-signed certificate and its key, into <name>.pem and <name>.key."""
    key, cert, request = (directory / f"{name}.{kind}" for kind in ("key", "pem", "csr"))
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", request)
    openssl("x509", "-req", "-in", request, "-signkey", key, "-days", str(days), "-out", cert)
    request.unlink()


def add_password(path, user, password):
    subprocess.run(
        [skerry_binary(), "passwd", path, user], input=f"{password}\n{password}\n".encode(), check=True, capture_output=True,
        timeout=30,
    )


def shown_certificate(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as plain:
        with context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True)


def der(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.fixture
def secure(make_broker, tmp_path):
    """A broker with a listener with TLS; its files are in broker.directory."""

    def make(tls=None, **options):
        files, port = tmp_path / "files", free_port()
        files.mkdir()
        make_certificate(files, "server")
        listener = {"url": f"mqtts://127.0.0.1:{port}", "anonymous": True,
                    "tls": {"cert": str(files / "server.pem"), "key": str(files / "server.key"), **(tls or {})}}
        broker = make_broker(options={"listeners": [listener, *options.pop("listeners", [])], **options})
        broker.tls_port, broker.files = port, files
        return broker

    return make


def replace(source, target):
    """As careful programs do it: a new file takes the old one's place."""
    os.replace(source, target)


# ------------------------------------------------------------------------------------------------------- certificates


def test_a_new_certificate_is_taken_by_itself(secure):
    broker = secure()
    before = der(broker.files / "server.pem")
    assert shown_certificate(broker.tls_port) == before
    make_certificate(broker.files, "new")
    after = der(broker.files / "new.pem")
    replace(broker.files / "new.pem", broker.files / "server.pem")
    replace(broker.files / "new.key", broker.files / "server.key")
    broker.wait_event("credentials_changed")
    assert shown_certificate(broker.tls_port) == after != before
    assert not broker.events("files_refused")


def test_a_new_certificate_written_in_place(secure):
    broker = secure()
    make_certificate(broker.files, "new")
    for kind in ("key", "pem"):
        (broker.files / f"server.{kind}").write_bytes((broker.files / f"new.{kind}").read_bytes())
    broker.wait_event("credentials_changed")
    assert shown_certificate(broker.tls_port) == der(broker.files / "new.pem")


def test_a_link_that_is_flipped(secure, tmp_path):
    """As Kubernetes does it: server.pem -> ..data/server.pem, ..data -> a directory; ..data is replaced by a rename."""
    mount = tmp_path / "mount"
    for version in ("one", "two"):
        (mount / f"..{version}").mkdir(parents=True)
        make_certificate(mount / f"..{version}", "server")
    (mount / "..data").symlink_to("..one")
    for kind in ("pem", "key"):
        (mount / f"server.{kind}").symlink_to(f"..data/server.{kind}")
    broker = secure(tls={"cert": str(mount / "server.pem"), "key": str(mount / "server.key")})
    assert shown_certificate(broker.tls_port) == der(mount / "..one/server.pem")
    for version in ("two", "one", "two"):
        changes = len(broker.events("credentials_changed"))
        (mount / "..tmp").symlink_to(f"..{version}")
        replace(mount / "..tmp", mount / "..data")
        broker.wait_event("credentials_changed", changes + 1)
        assert shown_certificate(broker.tls_port) == der(mount / f"..{version}/server.pem")


def test_a_directory_that_is_a_link(secure, tmp_path):
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        make_certificate(tmp_path / version, "server")
    (tmp_path / "current").symlink_to(tmp_path / "one")
    broker = secure(tls={kind: str(tmp_path / f"current/server.{end}") for kind, end in (("cert", "pem"), ("key", "key"))})
    (tmp_path / "next").symlink_to(tmp_path / "two")
    replace(tmp_path / "next", tmp_path / "current")
    broker.wait_event("credentials_changed")
    assert shown_certificate(broker.tls_port) == der(tmp_path / "two/server.pem")


def test_a_directory_that_goes_and_comes(secure, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    make_certificate(folder, "server")
    broker = secure(tls={"cert": str(folder / "server.pem"), "key": str(folder / "server.key")})
    before = der(folder / "server.pem")
    folder.rename(tmp_path / "away")
    broker.wait_event("files_refused")
    assert shown_certificate(broker.tls_port) == before
    folder.mkdir()
    make_certificate(folder, "server")
    broker.wait_event("credentials_changed")
    assert shown_certificate(broker.tls_port) == der(folder / "server.pem") != before


# ------------------------------------------------------------------------------------------------------ who is gone


@pytest.mark.parametrize("shards", [1, 2])
def test_users_who_are_deleted_are_disconnected(make_broker, tmp_path, shards):
    """By a change of the file, and by a reload that names another; by each listener's own file."""
    port, other_port = free_port(), free_port()
    mine, others = tmp_path / "passwd.txt", tmp_path / "others.txt"
    for path, user in ((mine, "ann"), (mine, "bob"), (others, "ann")):
        add_password(path, user, "secret")
    listeners = [{"url": f"mqtt://127.0.0.1:{port}", "auth": ["password"]},
                 {"url": f"mqtt://127.0.0.1:{other_port}", "auth": ["password"], "passwords": str(others)}]
    broker = make_broker(shards=shards, options={"auth": {"passwords": str(mine)}})
    broker.config["listeners"] += listeners
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")

    def come_in(at, user, version=5):
        return Client(Stream(("127.0.0.1", at)), version).connect(username=user, password="secret")

    anns = [come_in(port, "ann", version) for version in (3, 4, 5, 5)]
    stay = [come_in(port, "bob"), come_in(other_port, "ann"), broker.connect()]
    subprocess.run([skerry_binary(), "passwd", "--delete", mine, "ann"], check=True, timeout=30)
    for client in anns:
        client.expect_disconnect(R.NOT_AUTHORIZED)
    for client in stay:
        client.ping()
    assert len(broker.events("client_dismissed")) == 4
    broker.config["listeners"][-1].pop("passwords")
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded", 2)
    stay.pop(1).expect_disconnect(R.NOT_AUTHORIZED)
    for client in stay:
        client.ping()


@pytest.mark.parametrize("shards", [1, 2])
def test_users_who_are_deleted_while_they_come_in(make_broker, tmp_path, shards):
    """Their passwords wait to be looked at, by the file as it was: what that says does not let them in any more."""
    path, port = tmp_path / "passwd.txt", free_port()
    add_password(path, "ann", "secret")
    add_password(path, "bob", "secret")
    broker = make_broker(shards=shards, options={"auth": {"passwords": str(path)}, "listeners": [
        {"url": f"mqtt://127.0.0.1:{port}", "auth": ["password"]}, {"url": f"unix://{tmp_path}/broker.sock", "anonymous": True}]})
    clients = [Client(Stream(("127.0.0.1", port))) for _ in range(40)]
    for number, client in enumerate(clients):
        client.send_connect(username="bob" if number % 4 == 0 else "ann", password=b"secret")
    subprocess.run([skerry_binary(), "passwd", "--delete", path, "ann"], check=True, timeout=30)
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    for number, client in enumerate(clients):
        reason = client.expect(T.CONNACK).reason
        if number % 4 == 0:
            assert reason == R.SUCCESS
            client.ping()
        elif reason == R.SUCCESS:  # it was in before
            client.expect_disconnect(R.NOT_AUTHORIZED)
        else:
            assert reason in (R.BAD_USER, R.NOT_AUTHORIZED)


def test_devices_whose_key_is_gone_are_disconnected(make_broker, tmp_path):
    """mosquitto_sub is such a device: Python knows no pre-shared keys."""
    port, keys = free_port(), tmp_path / "psk.txt"
    lines = {name: f"{name}:{name.encode().hex() * 4}\n" for name in ("pump-1", "pump-2", "pump-3")}
    keys.write_text("".join(lines.values()))
    broker = make_broker(options={"auth": {"psk": str(keys)}, "listeners": [
        {"url": f"mqtts://127.0.0.1:{port}", "auth": ["psk"]}, {"url": f"mqtt://127.0.0.1:{free_port()}"}]})
    devices = [subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "--psk-identity", name, "--psk",
                                 name.encode().hex() * 4, "-t", "a"], stderr=subprocess.DEVNULL) for name in lines]
    try:
        eventually(lambda: len(broker.events("client_connected")) == 3, "three devices")
        keys.write_text(lines["pump-1"] + lines["pump-3"].replace("\n", "00\n"))  # the second is gone, the third has another
        broker.wait_event("pre_shared_key_gone", 2)
        assert not broker.events("certificate_revoked")
        eventually(lambda: broker.metrics().total("skerry_clients") == 1, "one is left")
    finally:
        for device in devices:
            device.kill()
            device.wait()


# ------------------------------------------------------------------------------------------------------ passed sockets


def test_a_socket_from_systemd_gets_tls_and_loses_it(tmp_path):
    """It can be taken again as often as a reload needs it, also when it was not used for a while."""
    given, unix = socket.create_server(("127.0.0.1", 0)), str(tmp_path / "other.sock")
    port, config_file, log_file = given.getsockname()[1], tmp_path / "c.yaml", tmp_path / "log"
    make_certificate(tmp_path, "server")
    other = {"url": f"unix://{unix}", "anonymous": True}
    plain = {"url": "systemd://mqtt", "anonymous": True}
    secure = plain | {"tls": {"cert": "server.pem", "key": "server.key"}}
    reloads = 0

    def reload(*listeners):
        nonlocal reloads
        reloads += 1
        write_config(*listeners)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: log_file.read_text().count(" reloaded ") == reloads, f"reload {reloads}")

    def write_config(*listeners):
        config_file.write_text(json.dumps({"broker": {"data": str(tmp_path / "data")}, "listeners": listeners}))

    write_config(plain)
    with open(log_file, "wb") as log:
        process = with_fds([given], ["mqtt"], ["broker", "-c", str(config_file)], log, tmp_path)
    try:
        eventually(lambda: " ready " in log_file.read_text(), "ready")
        stays = Client(Stream(("127.0.0.1", port))).connect()
        reload(secure)
        assert shown_certificate(port) == der(tmp_path / "server.pem")
        reload(plain)
        Client(Stream(("127.0.0.1", port))).connect().ping()
        reload(other)
        Client(Stream(unix)).connect().ping()
        reload(other, secure)
        assert shown_certificate(port) == der(tmp_path / "server.pem")
        stays.ping()
        assert "listener_lost" not in log_file.read_text()
    finally:
        process.kill()
        process.wait()
        given.close()


# ---------------------------------------------------------------------------------------------------------------- CRLs


DAY_S = 24 * 3600


def test_a_listener_that_is_lost_comes_back(make_broker, tmp_path):
    """It was closed for another one that could not be opened, and then not again itself: its directory is gone."""
    files, place = tmp_path / "files", tmp_path / "place"
    files.mkdir()
    place.mkdir()
    add_password(files / "passwd.txt", "ann", "secret")
    control = str(tmp_path / "control.sock")
    broker = make_broker(options={"auth": {"passwords": str(files / "passwd.txt")}, "control": {"socket": control}})
    lost = {"url": f"unix://{place}/b.sock", "auth": ["password"]}
    broker.config["listeners"].append(lost)

    def reload(**changes):
        lost.update(changes)
        broker.write_config()
        return subprocess.run([skerry_binary(), "ctl", "-s", control, "reload"], capture_output=True, timeout=30).returncode

    def connack():
        client = Client(Stream(f"{place}/b.sock"))
        client.send_connect(username="ann", password=b"secret")
        return client.expect(T.CONNACK).reason

    assert reload() == 0
    assert connack() == R.SUCCESS
    place.rename(tmp_path / "elsewhere")
    assert reload(mode="0600") == 2
    broker.wait_event("listener_lost")
    status = subprocess.run([skerry_binary(), "ctl", "-s", control, "status"], capture_output=True, text=True, timeout=30)
    assert status.returncode == 0 and f"  unix://{place}/b.sock: 0 connections, lost" in status.stdout
    add_password(files / "passwd.txt", "bob", "secret")
    broker.wait_event("credentials_changed")
    assert reload(mode="0666") == 2
    broker.alive()
    place.mkdir()
    assert reload(mode="0666") == 0
    assert connack() == R.SUCCESS
    broker.stop()


@pytest.fixture
def listed(make_broker, tmp_path):
    """make(start_s, end_s): a broker that wants certificates of clients and has a list with this life; broker.come_in() is such a client."""
    authority = Authority(tmp_path / "authority")
    server, client = authority.server(), authority.client("/CN=ann")

    def make(**life):
        crl, port = authority.crl(tmp_path / "crl.pem", **life), free_port()
        broker = make_broker(options={"listeners": [
            {"url": f"mqtts://127.0.0.1:{port}", "name": "door", "auth": ["cert"],
             "tls": {"cert": str(server.cert), "key": str(server.key), "client_ca": str(authority.cert), "crl": str(crl)}},
            {"url": f"mqtt://127.0.0.1:{free_port()}", "anonymous": True},
        ]})
        broker.authority, broker.crl, broker.server = authority, crl, server

        def come_in(context=None, session=None):
            context = context or client_context(authority, client)
            return Client(Secure(("127.0.0.1", port), context, session=session)).connect()

        broker.come_in, broker.context = come_in, lambda: client_context(authority, client)
        return broker

    return make


def crl_end(broker):
    return broker.metrics().total("skerry_tls_crl_end_seconds", listener="door")


def test_a_crl_that_ends_soon_is_told_at_the_start_and_at_a_change(listed):
    """A list of 30 days within its last six; of another it depends on how long it lives."""
    broker = listed(start_s=-25 * DAY_S, end_s=5 * DAY_S + 60)
    told = broker.events("crl_ends_soon")
    assert len(told) == 1 and "listener=door" in told[0] and "days=5" in told[0]
    assert abs(crl_end(broker) - time.time() - 5 * DAY_S - 60) < 120
    broker.authority.crl(broker.crl, start_s=-1 * DAY_S, end_s=7 * DAY_S)
    broker.wait_event("credentials_changed")
    assert abs(crl_end(broker) - time.time() - 7 * DAY_S) < 120
    broker.authority.crl(broker.crl, start_s=-7 * DAY_S, end_s=1 * DAY_S)
    broker.wait_event("crl_ends_soon", 2)
    broker.signal(signal.SIGHUP)
    broker.wait_event("crl_ends_soon", 3)
    assert not broker.events("crl_has_ended")


def test_a_broker_does_not_start_with_a_crl_that_has_ended(listed):
    with pytest.raises(AssertionError, match="out of date"):
        listed(start_s=-DAY_S, end_s=-60)


def test_when_the_crl_has_ended(listed):
    """No client gets in with a certificate any more, until there is a new list; who is connected stays."""
    broker = listed(start_s=-DAY_S, end_s=6 * SLOW)
    context = broker.context()
    client = broker.come_in(context)
    session = client.stream.socket.session
    ends = crl_end(broker)
    elapse(max(0, ends + 0.2 - time.time()))
    with pytest.raises((ssl.SSLError, OSError, AssertionError, Closed)):
        broker.come_in(context)
    assert any("CRL has expired" in line for line in broker.wait_event("tls_handshake_failed"))
    client.ping()
    with pytest.raises((ssl.SSLError, OSError, AssertionError, Closed)):
        broker.come_in(context, session)
    os.utime(broker.server.cert)  # any sign of a change has it looked at: else it takes a minute
    broker.wait_event("crl_has_ended")
    assert broker.wait_event("files_refused")  # the files are checked as one, and the list is out of date
    client.ping()
    broker.authority.crl(broker.crl)
    broker.wait_event("credentials_changed")
    broker.come_in(context).ping()
    client.ping()


@pytest.mark.parametrize("mistake", ["garbage", "other key", "gone", "ended"])
def test_a_bad_set_is_refused(secure, mistake):
    """The reason is told, and new clients still get what was before."""
    broker = secure()
    before = der(broker.files / "server.pem")
    make_certificate(broker.files, "new", days=-1 if mistake == "ended" else 30)
    if mistake == "garbage":
        (broker.files / "server.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n")
    elif mistake == "gone":
        (broker.files / "server.pem").unlink()
    else:
        replace(broker.files / "new.pem", broker.files / "server.pem")
    if mistake == "ended":
        replace(broker.files / "new.key", broker.files / "server.key")
    refused = broker.wait_event("files_refused")
    assert "server." in refused[0] and "listeners[0].tls.cert" in refused[0]
    assert shown_certificate(broker.tls_port) == before
    assert not broker.events("credentials_changed")
    # An explicit reload refuses it too, as a whole.
    broker.config["limits"] = {"in_flight": 7}
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reload_failed")
    assert shown_certificate(broker.tls_port) == before


def test_half_of_a_set_is_no_mistake(secure):
    """Certificate and key come one after the other: nothing is complained about in between."""
    broker = secure()
    make_certificate(broker.files, "new")
    replace(broker.files / "new.pem", broker.files / "server.pem")
    elapse(QUIET_S + 0.3)
    replace(broker.files / "new.key", broker.files / "server.key")
    broker.wait_event("credentials_changed")
    assert shown_certificate(broker.tls_port) == der(broker.files / "server.pem")
    assert not broker.events("files_refused")


def test_many_changes_are_one(secure):
    broker = secure()
    changed = []
    for _ in range(50):
        os.utime(broker.files / "server.pem")
        changed.append(time.monotonic())
    broker.wait_event("credentials_changed")
    elapse(2 * QUIET_S)
    held_up = sum(after - before > QUIET_S / 2 for before, after in zip(changed, changed[1:]))  # this test, by others
    assert len(broker.events("credentials_changed")) <= 2 + held_up


def test_files_that_do_not_change_are_not_read(secure):
    """Other files in the same directory are nobody's concern."""
    broker = secure()
    for i in range(5):
        (broker.files / f"other{i}").write_text("x")
    elapse(3 * QUIET_S)
    assert not broker.events("credentials_changed") and not broker.events("files_refused")


def test_sighup_takes_new_files(secure):
    broker = secure()
    make_certificate(broker.files, "new")
    replace(broker.files / "new.pem", broker.files / "server.pem")
    replace(broker.files / "new.key", broker.files / "server.key")
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    assert shown_certificate(broker.tls_port) == der(broker.files / "server.pem")


def test_the_end_of_a_certificate_is_told(secure):
    broker = secure()
    assert not broker.events("certificate_ends_soon")
    make_certificate(broker.files, "new", days=7)
    replace(broker.files / "new.key", broker.files / "server.key")
    replace(broker.files / "new.pem", broker.files / "server.pem")
    told = broker.wait_event("certificate_ends_soon")
    assert "days=6" in told[0]
    end_s = broker.metrics().total("skerry_tls_certificate_end_seconds")
    end = openssl("x509", "-noout", "-enddate", "-in", broker.files / "server.pem").strip().removeprefix("notAfter=")
    assert ssl.cert_time_to_seconds(end) == end_s


def test_tls_comes_and_goes_with_a_reload(make_broker, tmp_path):
    """A broker without any security gets a listener with TLS, and loses it again; others keep their connections."""
    broker = make_broker()
    stays = broker.connect()
    make_certificate(tmp_path, "server")
    port = free_port()
    plain = list(broker.config["listeners"])
    tls = {"cert": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key")}
    broker.config["listeners"] = [*plain, {"url": f"mqtts://127.0.0.1:{port}", "tls": tls}]
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    assert shown_certificate(port) == der(tmp_path / "server.pem")
    make_certificate(tmp_path, "new")
    replace(tmp_path / "new.key", tmp_path / "server.key")
    replace(tmp_path / "new.pem", tmp_path / "server.pem")
    broker.wait_event("credentials_changed")
    broker.config["listeners"] = plain
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded", 2)
    with pytest.raises(ConnectionRefusedError):
        shown_certificate(port)
    stays.ping()


# ---------------------------------------------------------------------------------------------------- passwords, rules


@pytest.fixture
def guarded(make_broker, tmp_path):
    """A broker whose first listener takes passwords."""
    passwords = tmp_path / "passwd.txt"
    add_password(passwords, "ann", "first")
    broker = make_broker(options={"auth": {"passwords": str(passwords)}})
    broker.config["listeners"][0] = {"url": f"mqtt://127.0.0.1:{broker.port}", "auth": ["password"], "name": "floor"}
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    broker.passwords = passwords
    return broker


def connack_of(broker, user, password):
    client = Client(Stream(("127.0.0.1", broker.port)))
    client.send_connect(username=user, password=password.encode())
    return client, client.expect(T.CONNACK)


def test_passwords_change_by_themselves(guarded):
    client, connack = connack_of(guarded, "ann", "first")
    assert connack.reason == R.SUCCESS
    assert connack_of(guarded, "bob", "second")[1].reason != R.SUCCESS
    add_password(guarded.passwords, "bob", "second")
    guarded.wait_event("credentials_changed")
    bob, connack = connack_of(guarded, "bob", "second")
    assert connack.reason == R.SUCCESS
    client.ping()
    bob.ping()


def test_a_file_is_not_read_while_it_is_written(make_broker, tmp_path):
    """In place, and slowly, while something beside it gives a sign; what is there at first would be a file as well."""
    files, port = tmp_path / "files", free_port()
    files.mkdir()
    path = files / "passwd.txt"
    for user in ("ann", "bob"):
        add_password(path, user, f"{user}-secret")
    broker = make_broker(options={"auth": {"passwords": str(path)}, "listeners": [
        {"url": f"mqtt://127.0.0.1:{port}", "auth": ["password"]}, {"url": f"unix://{tmp_path}/broker.sock", "anonymous": True}]})
    bob = Client(Stream(("127.0.0.1", port))).connect(username="bob", password="bob-secret")
    ann, other = path.read_text().splitlines(keepends=True)
    for _ in range(10):
        with open(path, "w") as file:
            (files / "beside").write_text("")
            begun = last = time.monotonic()
            longest = 0
            file.write(ann)
            while last < begun + 0.8:
                file.write("# not all\n")
                file.flush()
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            file.write(other)
        if longest < QUIET_S / 2:
            break  # this machine has let it write all the time
    broker.wait_event("credentials_changed")
    bob.ping()
    assert not broker.events("client_dismissed") or longest >= QUIET_S / 2


def test_a_broken_password_file_is_refused(guarded):
    guarded.passwords.write_text("nonsense\n")
    refused = guarded.wait_event("files_refused")
    assert "passwd.txt:1:" in refused[0]
    assert connack_of(guarded, "ann", "first")[1].reason == R.SUCCESS


def test_a_mistake_in_one_file_does_not_hold_up_others(make_broker, tmp_path):
    """What belongs together changes together, and a broken list of rights keeps no password out."""
    passwords, rules = tmp_path / "passwd.txt", tmp_path / "acl.yaml"
    add_password(passwords, "ann", "first")
    rules.write_text('- {who: "*", allow: [publish, subscribe, receive], topics: ["#"]}\n')
    broker = make_broker(options={"auth": {"passwords": str(passwords)}, "acl": str(rules)})
    broker.config["listeners"][0] = {"url": f"mqtt://127.0.0.1:{broker.port}", "auth": ["password"]}
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    rules.write_text("- {who: nobody}\n")
    refused = broker.wait_event("files_refused")
    assert "acl.yaml:1" in refused[0]
    add_password(passwords, "bob", "second")
    broker.wait_event("credentials_changed")
    client, connack = connack_of(broker, "bob", "second")
    assert connack.reason == R.SUCCESS
    assert client.subscribe("a/b", qos=1)


def test_rules_change_under_connected_clients(make_broker, tmp_path):
    rules = tmp_path / "acl.yaml"
    rules.write_text('- {who: "*", allow: [publish, subscribe, receive], topics: ["a/#"]}\n')
    broker = make_broker(options={"acl": str(rules)})
    client = broker.connect()
    client.publish("a/b", b"x", qos=1)
    rules.write_text('- {who: "*", allow: [publish], topics: ["b/#"]}\n')

    def denied():
        return client.publish("a/b", b"x", qos=1).reason == R.NOT_AUTHORIZED

    eventually(denied, "the new list")
    client.ping()


# -------------------------------------------------------------------------------------------------------------- mistakes


def test_check_reads_the_files(tmp_path):
    config = tmp_path / "c.yaml"
    make_certificate(tmp_path, "server")
    make_certificate(tmp_path, "other")
    config.write_text(
        'listeners:\n  - url: "mqtts://127.0.0.1:8883"\n    tls: {cert: server.pem, key: server.key}\n'
        'acl:\n  - {who: "*", allow: [publish], topics: ["a/#"]}\n'
    )

    def check(*args):
        done = subprocess.run([skerry_binary(), "check", *args, config], capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout + done.stderr

    assert check() == (0, f"{config}: ok\n")
    replace(tmp_path / "other.key", tmp_path / "server.key")
    code, text = check()
    assert code == 2 and text.startswith(f"{config}:3:17: listeners[0].tls.cert: ") and "server.key" in text
    assert check("--keys-only")[0] == 0
    config.write_text('acl:\n  - {who: "*", allow: [publish], topics: ["a/#/b"]}\n  - {who: "*", alow: [publish]}\n')
    code, text = check()
    assert code == 2 and f"{config}:2" in text and f"{config}:3" in text, text


def test_start_with_a_bad_file(tmp_path):
    """Nothing is started, and nothing is left behind but the words."""
    config = tmp_path / "c.yaml"
    config.write_text(f'broker: {{data: "{tmp_path}/data"}}\nlisteners:\n  - {{url: "mqtt://127.0.0.1:{free_port()}", auth: '
                      "[password]}\nauth: {passwords: none.txt}\n")
    done = subprocess.run([skerry_binary(), "broker", "-c", config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "none.txt" in done.stderr and "auth.passwords" in done.stderr
    assert not (tmp_path / "data").exists()


def test_start_without_a_way_in(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"listeners: [mqtt://0.0.0.0:{free_port()}]\n")
    done = subprocess.run([skerry_binary(), "broker", "-c", config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "anonymous: true" in done.stderr
