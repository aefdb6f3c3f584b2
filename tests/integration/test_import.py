"""`skerry import mosquitto`: what it refuses, what it writes, and that the result lets the same clients do the same as Mosquitto does."""

import getpass
import os
import pathlib
import pwd
import shutil
import socket
import ssl
import stat
import subprocess

import pytest
from broker import START_S, eventually, free_port, skerry_binary
from certificates import Authority, Secure, client_context
from wire import PINGREQ, Client, Closed, Stream, T, WebSocket

pytestmark = pytest.mark.skerry_only

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
foreign = pytest.mark.skipif(
    not MOSQUITTO or not shutil.which("mosquitto_passwd"), reason="mosquitto is not installed"
)


def run(*words, cwd=None):
    """(exit code, standard output, standard error)"""
    done = subprocess.run(
        [skerry_binary(), *map(str, words)], text=True, capture_output=True, timeout=START_S * 3, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def conf(tmp_path):
    return tmp_path / "mosquitto.conf"


def made(conf, text, *options):
    conf.write_text(text)
    code, out, err = run("import", "mosquitto", *options, conf, cwd=conf.parent)
    assert code == 0, err
    return out, err


def refused(conf, text, *options, code=1):
    conf.write_text(text)
    got, out, err = run("import", "mosquitto", *options, conf, cwd=conf.parent)
    assert got == code and out == "", (got, out, err)
    return err


def hashed(file, **users):
    """A password file of mosquitto_passwd."""
    file.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
    subprocess.run(["mosquitto_passwd", "-U", file], check=True, timeout=START_S)
    return file


# What it says


def test_command_line(conf):
    assert run("import")[0] == 2
    assert run("import", "mosquito", "x")[0] == 2
    assert run("import", "mosquitto")[0] == 2
    assert run("import", "mosquitto", "a", "b")[0] == 2
    assert run("import", "mosquitto", "-o", "a", "--output", "b", "c")[0] == 2
    code, _, err = run("import", "mosquitto", conf)
    assert code == 1 and f"{conf}: cannot be read" in err
    code, _, err = run("import", "mosquitto", conf.parent)
    assert code == 1 and "cannot be read" in err


def test_what_is_lost_is_told_and_strict_stops(conf, tmp_path):
    text = "allow_anonymous true\nlistener 1883\nqueue_qos0_messages true\nautosave_interval 7\nconnection up\naddress 10.0.0.1\n"
    out, err = made(conf, text)
    for number, name in ((3, "queue_qos0_messages"), (5, "connection"), (6, "address")):
        assert f"not carried over: {conf}:{number}: {name}: " in err
        assert f"#   {conf}:{number}: {name}: " in out
    assert "autosave_interval" in out and "autosave_interval" not in err
    refused(conf, text, "--strict", code=2)
    refused(conf, text, "--strict", "-o", tmp_path / "new", code=2)
    assert not (tmp_path / "new").exists()
    made(conf, "allow_anonymous true\nlistener 1883\nautosave_interval 7\n", "--strict")


@pytest.mark.parametrize("line", ["plugin /usr/lib/x.so", "mount_point a/", "use_subject_as_username true", "bind_interface lo"])
def test_what_guards_is_never_lost(conf, tmp_path, line):
    new = tmp_path / "new"
    err = refused(conf, f"allow_anonymous true\nlistener 1883\n{line}\n", "-o", new)
    assert f"error: {conf}:3: {line.split()[0]}: " in err and "nothing is written" in err
    assert not new.exists()


def test_passwords_in_plain_text_are_refused(conf, tmp_path):
    (tmp_path / "pw").write_text("# all\nann:secret\n")
    err = refused(conf, "listener 1883\npassword_file pw\n")
    assert f"{tmp_path}/pw:2: " in err and "mosquitto_passwd -U" in err and "secret" not in err
    (tmp_path / "pw").write_text("ann:$9$x\n")
    assert f"{tmp_path}/pw:1: " in refused(conf, "listener 1883\npassword_file pw\n")
    err = refused(conf, "listener 1883\npassword_file nothing\n")
    assert f"{conf}:2: password_file: {tmp_path}/nothing: cannot be read" in err


@foreign
def test_a_user_with_two_passwords_is_refused(conf, tmp_path):
    """Mosquitto takes one of the two; here both would be right."""
    first, second = hashed(tmp_path / "first", ann="old", bob="x"), hashed(tmp_path / "second", ann="new", an="y")
    (tmp_path / "pw").write_text("# all\n" + first.read_text() + second.read_text())
    err = refused(conf, "listener 1883\npassword_file pw\n")
    assert f"{tmp_path}/pw:4: ann is in line 2 too" in err and err.count("pw:") == 1


def test_mistakes_in_rules_and_keys_are_found(conf, tmp_path):
    (tmp_path / "acl").write_text("topic raed a\n")
    assert f"{tmp_path}/acl:1" in refused(conf, "allow_anonymous true\nlistener 1883\nacl_file acl\n")
    (tmp_path / "psk").write_text("dev:0011\n")
    err = refused(conf, "psk_file psk\nlistener 1883\npsk_hint x\nuse_identity_as_username true\n")
    assert f"{tmp_path}/psk:1: " in err and "0011" not in err
    (tmp_path / "psk").write_text(f"dev:{'00' * 16}\na:{'11' * 16}:{'22' * 16}\n")
    err = refused(conf, "psk_file psk\nlistener 1883\npsk_hint x\nuse_identity_as_username true\n")
    assert f"{tmp_path}/psk:2: has two colons" in err and "11" not in err.replace("psk:2", "")


def test_names_that_nobody_checks_are_not_believed(conf, tmp_path):
    (tmp_path / "acl").write_text("topic read a\n\nuser ann\ntopic readwrite #\n")
    _, err = made(conf, "allow_anonymous true\nlistener 1883\nacl_file acl\n")
    assert f"not carried over: {conf}:3: acl_file: " in err
    (tmp_path / "acl").write_text("topic read a\npattern write of/%c\n")
    made(conf, "allow_anonymous true\nlistener 1883\nacl_file acl\n", "--strict")


# What it writes


def test_a_directory_of_its_own(conf, tmp_path):
    new = tmp_path / "new"
    (tmp_path / "pw").write_text("ann:$6$MDEyMzQ1Njc4OWFi$" + "A" * 86 + "==\n")
    (tmp_path / "acl").write_text("user ann\ntopic readwrite #\n")
    (tmp_path / "acl").chmod(0o644)
    text = f"listener {free_port()} 127.0.0.1\npassword_file pw\nacl_file acl\nuser root\n"
    made(conf, text, "-o", new)
    assert sorted(os.listdir(new)) == ["acl.txt", "passwd.txt", "skerry.yaml"]
    assert stat.S_IMODE((new / "passwd.txt").stat().st_mode) & 0o007 == 0
    assert (new / "passwd.txt").read_text() == (tmp_path / "pw").read_text()
    code, out, err = run("check", new / "skerry.yaml")
    assert code == 0, err
    before = (new / "skerry.yaml").read_text()
    err = refused(conf, text, "-o", new)
    assert "exists already" in err and (new / "skerry.yaml").read_text() == before
    (new / "acl.txt").unlink()
    (new / "passwd.txt").unlink()
    refused(conf, text, "-o", new)
    assert os.listdir(new) == ["skerry.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_copies_are_for_the_user_that_the_broker_becomes(conf, tmp_path):
    (tmp_path / "pw").write_text("ann:$6$MDEyMzQ1Njc4OWFi$" + "A" * 86 + "==\n")
    (tmp_path / "pw").chmod(0o644)
    made(conf, "listener 1883\npassword_file pw\nuser nobody\n", "-o", tmp_path / "new")
    copy = (tmp_path / "new" / "passwd.txt").stat()
    assert copy.st_uid == pwd.getpwnam("nobody").pw_uid and stat.S_IMODE(copy.st_mode) == 0o640


def test_a_file(conf, tmp_path):
    new = tmp_path / "new.yaml"
    made(conf, "", "--output", new)
    assert run("check", new)[0] == 0
    assert "exists already" in refused(conf, "", "--output", new)


@pytest.mark.parametrize("seconds", ["1", "600", "65535"])
def test_every_limit_is_one_that_is_taken(conf, seconds):
    limits = (
        "max_inflight_messages 7\nmax_queued_messages 8\nmax_queued_bytes 90000\nmax_packet_size 5000\nmax_connections 9\n"
        f"max_topic_alias 3\nmemory_limit 90000000\npersistent_client_expiration 3d\nmax_keepalive {seconds}\n"
    )
    out, _ = made(conf, f"allow_anonymous true\n{limits}sys_interval {seconds}\npersistence true\n")
    assert f"keep_alive_max: {seconds}s " in out and f"interval: {seconds}s " in out and "session_expiry_max: 259200s " in out


def test_included_files_in_their_order(conf, tmp_path):
    (tmp_path / "conf.d").mkdir()
    for name, port in (("b.conf", 1003), ("a.conf", 1002), ("A.conf", 1001), ("c.txt", 1004)):
        (tmp_path / "conf.d" / name).write_text(f"listener {port}\n")
    (tmp_path / "conf.d" / "d.conf").write_text("include_dir conf.d\n")
    out, _ = made(conf, "allow_anonymous true\ninclude_dir conf.d\nlistener 1005\n")
    urls = [line.split('"')[1] for line in out.splitlines() if "url:" in line]
    assert urls == [f"mqtt://*:{port}" for port in (1001, 1002, 1003, 1005)]
    assert f"{tmp_path}/conf.d/x.conf:1: " not in out
    (tmp_path / "conf.d" / "b.conf").write_text("listener 1003\nplugin x\n")
    assert f"{tmp_path}/conf.d/b.conf:2: plugin: " in refused(conf, "allow_anonymous true\ninclude_dir conf.d\n")
    assert "include_dir: " in refused(conf, "include_dir nowhere\n")


def test_paths_are_relative_to_the_base(conf, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "acl").write_text("topic readwrite #\n")
    out, _ = made(conf, "allow_anonymous true\nlistener 1883\nacl_file acl\n", "--base", tmp_path / "etc")
    assert f'acl: "{tmp_path}/etc/acl"' in out


@foreign
def test_debians_own_file(conf):
    debian = pathlib.Path("/etc/mosquitto/mosquitto.conf")
    if not debian.exists():
        pytest.skip("is not here")
    code, out, err = run("import", "mosquitto", debian)
    assert code == 0, err
    assert 'data: "/var/lib/mosquitto/skerry"' in out and 'url: "mqtt://127.0.0.1:1883"' in out


# What it means


class Running:
    """A broker of either kind, on the ports of its configuration."""

    def __init__(self, command, log, port):
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self.log = log

        def is_open():
            assert self.process.poll() is None, log.read_text(errors="replace")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(is_open, f"{command[0]} listens", START_S)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert "Sanitizer" not in self.log.read_text(errors="replace")


def drained(client):
    """Payloads of what the broker has for a client by now."""
    got = []
    for _ in range(2):
        client.send(PINGREQ)
        while (one := client.receive()).kind != T.PINGRESP:
            assert one.kind == T.PUBLISH, one
            got.append(bytes(one.payload))
    return got


def login(stream, client_id, user):
    """A connected client, or None."""
    try:
        client = Client(stream(), 4, client_id)
    except ConnectionError:
        return None
    name, password = user if user else (None, None)
    client.send_connect(username=name, password=password)
    try:
        connack = client.receive()
    except (Closed, ConnectionError):
        return None
    return client if connack.kind == T.CONNACK and connack.reason == 0 else None


def behaviour(streams, users, topics, overseer):
    """{(listener, user): None, or (topics that a publisher reaches the overseer on, topics that it gets)}"""
    table = {}
    first = streams[overseer[0]]
    watching = login(first, "overseer", overseer[1])
    assert watching
    watching.subscribe("#")
    for place, stream in streams.items():
        for user in users:
            client = login(stream, f"of-{user[0] if user else 'nobody'}", user)
            if client is None:
                table[place, user] = None
                continue
            for topic in topics:
                client.publish(topic, f"to {topic}".encode(), qos=1)
            sent = sorted(drained(watching))
            client.subscribe("#", *topics, reasons=[0] * (len(topics) + 1))
            for topic in topics:
                watching.publish(topic, f"of {topic}".encode(), qos=1)
            got = sorted(set(drained(client)))
            drained(watching)
            table[place, user] = (sent, got)
            client.drop()
    watching.drop()
    return table


def same(tmp_path, conf, text, port, streams, users, topics=("a", "a/b", "c"), overseer=None):
    """Both brokers with the same configuration; returns what both do."""
    conf.write_text(f"user {getpass.getuser()}\n" + text)
    new = tmp_path / "new"
    code, _, err = run("import", "mosquitto", "-o", new, conf, cwd=tmp_path)
    assert code == 0, err
    code, _, err = run("check", new / "skerry.yaml")
    assert code == 0, err
    overseer = overseer or (next(iter(streams)), users[0])
    with Running([MOSQUITTO, "-c", str(conf)], tmp_path / "mosquitto.log", port):
        theirs = behaviour(streams, users, topics, overseer)
    with Running([skerry_binary(), "broker", "-c", str(new / "skerry.yaml")], tmp_path / "skerry.log", port):
        ours = behaviour(streams, users, topics, overseer)
    assert ours == theirs
    return ours


def plain(port):
    return lambda: Stream(("127.0.0.1", port))


ANN, BOB, WRONG, STRANGER, NOBODY = ("ann", "of ann"), ("bob", "of bob"), ("ann", "of bob"), ("eve", "x"), None
EVERYBODY = [ANN, BOB, WRONG, STRANGER, NOBODY]


@pytest.fixture
def password_file(tmp_path):
    return hashed(tmp_path / "pw", ann="of ann", bob="of bob")


@foreign
@pytest.mark.parametrize("anonymous", ["true", "false"])
def test_the_same_users_come_in(conf, tmp_path, password_file, anonymous):
    port = free_port()
    text = f"allow_anonymous {anonymous}\npassword_file {password_file}\nlistener {port} 127.0.0.1\n"
    table = same(tmp_path, conf, text, port, {"tcp": plain(port)}, EVERYBODY)
    assert [user for (_, user), what in table.items() if what] == [ANN, BOB] + ([NOBODY] if anonymous == "true" else [])


@foreign
def test_the_same_rules_hold(conf, tmp_path, password_file):
    rules = tmp_path / "acl"
    rules.write_text(
        "topic read open/#\n\nuser ann\ntopic readwrite #\n\nuser bob\ntopic write in/#\ntopic deny in/secret\n"
        "topic read out/+\ntopic mine\n\npattern readwrite dev/%u/#\npattern read id/%c\n"
    )
    port = free_port()
    text = f"allow_anonymous true\npassword_file {password_file}\nacl_file {rules}\nlistener {port} 127.0.0.1\n"
    topics = ("open/x", "in/x", "in/secret", "out/x", "out/x/y", "mine", "dev/bob/t", "dev/ann/t", "id/of-bob", "other")
    table = same(tmp_path, conf, text, port, {"tcp": plain(port)}, EVERYBODY, topics)
    sent, got = table["tcp", BOB]
    assert b"to in/x" in sent and b"to in/secret" not in sent and b"of out/x" in got and b"of other" not in got
    assert table["tcp", NOBODY] == ([], [b"of open/x"])


@foreign
def test_the_same_listeners(conf, tmp_path, password_file):
    """Each listener with settings of its own, one of them for WebSockets, one a Unix socket."""
    port, other, web = free_port(), free_port(), free_port()
    path = tmp_path / "m.sock"
    text = (
        f"per_listener_settings true\nlistener {port} 127.0.0.1\nallow_anonymous true\n"
        f"listener {other} 127.0.0.1\npassword_file {password_file}\n"
        f"listener {web} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"
        f"listener 0 {path}\nallow_anonymous false\npassword_file {password_file}\n"
    )
    streams = {
        "open": plain(port),
        "closed": plain(other),
        "web": lambda: WebSocket(("127.0.0.1", web)),
        "unix": lambda: Stream(str(path)),
    }
    table = same(tmp_path, conf, text, port, streams, [ANN, WRONG, NOBODY], overseer=("open", NOBODY))
    assert table["closed", NOBODY] is None and table["closed", ANN] and table["open", NOBODY] and table["unix", WRONG] is None


@foreign
def test_the_same_certificates(conf, tmp_path):
    authority, strange = Authority(tmp_path / "ca"), Authority(tmp_path / "strange", "Other CA")
    server, ann, eve = authority.server(), authority.client("/CN=ann"), authority.client("/CN=eve")
    revoked = authority.client("/CN=bob")
    authority.revoke(revoked)
    rules = tmp_path / "acl"
    rules.write_text("user ann\ntopic readwrite #\n\nuser eve\ntopic read a/#\n")
    port = free_port()
    text = (
        f"listener {port} 127.0.0.1\ncafile {authority.cert}\ncertfile {server.cert}\nkeyfile {server.key}\n"
        f"crlfile {authority.crl()}\nrequire_certificate true\nuse_identity_as_username true\nacl_file {rules}\n"
    )

    def secure(pair):
        # A TLS 1.2 client learns in the handshake that it is refused.
        context = client_context(authority, pair, (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))

        def connect():
            try:
                return Secure(("127.0.0.1", port), context=context)
            except (ssl.SSLError, ConnectionError) as error:
                raise ConnectionError from error

        return connect

    streams = {"ann": secure(ann), "eve": secure(eve), "bob": secure(revoked), "none": secure(None)}
    streams["strange"] = secure(strange.client("/CN=ann"))
    table = same(tmp_path, conf, text, port, streams, [NOBODY, ("root", "x")], ("a", "a/b", "c"), ("ann", NOBODY))
    assert table["ann", NOBODY] and table["eve", NOBODY] == ([], [b"of a", b"of a/b"])
    assert all(table[place, NOBODY] is None for place in ("bob", "none", "strange"))


@foreign
def test_the_same_shared_keys(conf, tmp_path):
    """By mosquitto_pub, because Python's ssl knows no such keys."""
    (tmp_path / "psk").write_text("dev:00112233445566778899aabbccddeeff\n")
    port = free_port()
    conf.write_text(
        f"user {getpass.getuser()}\npsk_file psk\nlistener {port} 127.0.0.1\npsk_hint h\nuse_identity_as_username true\n"
    )
    code, _, err = run("import", "mosquitto", "-o", tmp_path / "new", conf, cwd=tmp_path)
    assert code == 0, err

    def comes_in(identity, key):
        words = ["mosquitto_pub", "-p", str(port), "-t", "t", "-m", "m", "-q", "1", "--tls-version", "tlsv1.2"]
        done = subprocess.run([*words, "--psk-identity", identity, "--psk", key], capture_output=True, timeout=START_S)
        return done.returncode == 0

    with Running([skerry_binary(), "broker", "-c", str(tmp_path / "new" / "skerry.yaml")], tmp_path / "log", port):
        assert comes_in("dev", "00112233445566778899aabbccddeeff")
        assert not comes_in("dev", "ff" * 16)
        assert not comes_in("eve", "00112233445566778899aabbccddeeff")
