"""The control socket and `skerry ctl`: reload, confirm, roll back, status, clients; who may ask, and what hostile clients can do."""

import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from broker import elapse, eventually, free_port, skerry_binary
from wire import TIMEOUT_S, Client, R, Stream, T, subscribe_packet

pytestmark = pytest.mark.skerry_only


@pytest.fixture
def controlled(make_broker, tmp_path):
    broker = make_broker(options={"control": {"socket": str(tmp_path / "control.sock")}})
    broker.control = str(tmp_path / "control.sock")
    return broker


def ctl(broker, *words):
    """(exit code, standard output, standard error)"""
    done = subprocess.run(
        [skerry_binary(), "ctl", "-s", broker.control, *words], capture_output=True, text=True, timeout=TIMEOUT_S * 2
    )
    return done.returncode, done.stdout, done.stderr


def ask(path, *lines):
    """The answers to lines of bytes."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect(path)
        stream.sendall(b"".join(line + b"\n" for line in lines))
        with stream.makefile("rb") as answers:
            return [json.loads(answers.readline()) for _ in lines]


def change(broker, **sections):
    broker.config.update(sections)
    broker.write_config()


def in_flight(broker):
    return broker.connect().connack.prop("receive_maximum")


def test_status(controlled):
    client = controlled.connect()
    code, text, wrong = ctl(controlled, "status")
    assert code == 0 and not wrong
    assert "clients: 1" in text and f"mqtt://127.0.0.1:{controlled.port}: 1 connection," in text
    code, text, _ = ctl(controlled, "status", "--json")
    status = json.loads(text)
    assert code == 0 and status["ok"] and status["id"] == "test" and status["clients"] == 1
    assert status["configuration"] == str(controlled.config_file)
    assert status["listeners"][0] == {
        "url": f"mqtt://127.0.0.1:{controlled.port}", "name": f"mqtt://127.0.0.1:{controlled.port}", "tls": False,
        "anonymous": True, "connections": 1,
    }
    client.ping()


def test_reload_tells_what_changed(controlled):
    change(controlled, limits={"in_flight": 5, "packet_size": "512KiB"})
    code, text, _ = ctl(controlled, "reload")
    assert code == 0
    assert "  limits.in_flight: 32 -> 5\n" in text and "  limits.packet_size: 1MiB -> 512KiB\n" in text
    assert in_flight(controlled) == 5
    code, text, _ = ctl(controlled, "reload")
    assert code == 0 and "the same" in text


def test_reload_with_mistakes(controlled):
    change(controlled, limits={"in_flite": 5, "packet_size": 1})
    code, text, wrong = ctl(controlled, "reload")
    assert code == 2 and not text
    assert "everything stays as it was" in wrong and 'did you mean "in_flight"?' in wrong and "packet_size" in wrong
    answer = json.loads(ctl(controlled, "--json", "reload")[1])
    assert not answer["ok"] and len(answer["mistakes"]) == 2 and answer["why"] == answer["mistakes"][0]
    assert in_flight(controlled) == 32


def test_reload_that_needs_a_restart(controlled):
    controlled.config["broker"]["memory_limit"] = "100MiB"
    change(controlled, limits={"in_flight": 5})
    code, _, wrong = ctl(controlled, "reload")
    assert code == 2
    assert "broker.memory_limit: 64MiB -> 100MiB  (needs a restart)" in wrong and "limits.in_flight: 32 -> 5\n" in wrong
    assert in_flight(controlled) == 32


def test_a_reload_that_warns(controlled, tmp_path):
    """Also the start and `skerry check` do, with an exit code of 0."""
    add_password(tmp_path / "passwd.txt", "ann", "secret")
    listeners = controlled.config["listeners"] + [{"url": f"mqtt://*:{free_port()}", "auth": ["password"]}]
    change(controlled, listeners=listeners, auth={"passwords": str(tmp_path / "passwd.txt")})
    code, text, _ = ctl(controlled, "reload")
    assert code == 0 and "].auth: warning: passwords travel in clear" in text
    assert len(json.loads(ctl(controlled, "--json", "reload")[1])["warnings"]) == 1
    assert len(controlled.events("configuration_warning")) == 2
    controlled.stop()
    controlled.start()
    assert len(controlled.events("configuration_warning")) == 3
    done = subprocess.run([skerry_binary(), "check", controlled.config_file], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "warning: passwords" in done.stderr and done.stdout.endswith(": ok\n")


def test_a_reload_that_is_confirmed(controlled):
    change(controlled, limits={"in_flight": 5})
    code, text, _ = ctl(controlled, "reload", "--confirm", "4s")
    assert code == 0 and "rolled back in 4 s" in text
    assert "waits to be confirmed" in ctl(controlled, "status")[1]
    assert ctl(controlled, "confirm")[0] == 0
    elapse(4.3)
    assert in_flight(controlled) == 5
    code, _, wrong = ctl(controlled, "confirm")
    assert code == 2 and "no reload waits" in wrong


@pytest.mark.parametrize("how", ["time", "word"])
def test_a_reload_that_is_rolled_back(controlled, how):
    """Listeners come back and go, connections stay."""
    client, added = controlled.connect(), free_port()
    before = list(controlled.config["listeners"])
    change(controlled, limits={"in_flight": 5},
           listeners=[before[0], {"url": f"mqtt://127.0.0.1:{added}", "anonymous": True}])
    assert ctl(controlled, "reload", "--confirm", "3s" if how == "time" else "1h")[0] == 0
    Client(Stream(("127.0.0.1", added))).connect().ping()
    if how == "word":
        assert ctl(controlled, "rollback")[0] == 0
    controlled.wait_event("reload_rolled_back")
    assert in_flight(controlled) == 32
    with pytest.raises(ConnectionRefusedError):
        Stream(("127.0.0.1", added))
    controlled.client(transport="unix").connect().ping()
    client.ping()
    # The file still holds it: the next reload brings it.
    assert ctl(controlled, "reload")[0] == 0
    assert in_flight(controlled) == 5


@pytest.fixture
def with_files(make_broker, tmp_path):
    """A broker with a list of rules and one of passwords, in files."""
    rules, passwords, port = tmp_path / "acl.yaml", tmp_path / "passwd.txt", free_port()
    add_password(passwords, "ann", "ann-secret")
    rules.write_text(rules_for("a"))
    broker = make_broker(options={"control": {"socket": str(tmp_path / "control.sock")}, "acl": str(rules),
                                  "auth": {"passwords": str(passwords)}})
    broker.config["listeners"].append({"url": f"mqtt://127.0.0.1:{port}", "auth": ["password"]})
    broker.write_config()
    broker.control, broker.door, broker.rules, broker.passwords = str(tmp_path / "control.sock"), port, rules, passwords
    assert ctl(broker, "reload")[0] == 0
    return broker


def rules_for(topic):
    return json.dumps([{"who": "*", "allow": ["subscribe"], "topics": [topic]}])


def may_subscribe(broker, topic):
    client = broker.connect()
    packet_id = client.next_id()
    client.send(subscribe_packet(packet_id, [(topic, 0)]))
    answer = client.expect_ack(T.SUBACK, packet_id)
    client.disconnect()
    return answer.reasons == [R.SUCCESS]


def reload_at_once(broker, path, text, **members):
    """Writes a file and has it read by a reload, before the broker has noticed by itself that it has changed."""
    broker.signal(signal.SIGSTOP)
    path.write_text(text)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect(broker.control)
        stream.sendall(json.dumps({"command": "reload", **members}).encode() + b"\n")
        broker.signal(signal.SIGCONT)
        assert json.loads(stream.makefile("rb").readline())["ok"]


def test_files_stay_rolled_back(with_files):
    """Until they change once more, or a reload is asked for; whatever happens to other files meanwhile."""
    reload_at_once(with_files, with_files.rules, rules_for("b"), confirm_ms=3_600_000)
    assert may_subscribe(with_files, "b") and not may_subscribe(with_files, "a")
    assert ctl(with_files, "rollback")[0] == 0
    assert may_subscribe(with_files, "a") and not may_subscribe(with_files, "b")
    elapse(0.5)  # for the watcher, which is quiet for 0.2 s
    add_password(with_files.passwords, "bob", "bob-secret")
    with_files.wait_event("credentials_changed")
    come_in(with_files, "bob").disconnect()
    assert may_subscribe(with_files, "a") and not may_subscribe(with_files, "b")
    with_files.rules.write_text(rules_for("c"))
    eventually(lambda: may_subscribe(with_files, "c"), "the next change is taken")


def test_passwords_stay_rolled_back(with_files, tmp_path):
    """Who has come in by them goes."""
    more = tmp_path / "more.txt"
    more.write_text(with_files.passwords.read_text())
    add_password(more, "bob", "bob-secret")
    reload_at_once(with_files, with_files.passwords, more.read_text(), confirm_ms=3_600_000)
    ann, bob = come_in(with_files, "ann"), come_in(with_files, "bob")
    assert ctl(with_files, "rollback")[0] == 0
    bob.expect_disconnect(R.NOT_AUTHORIZED)
    with_files.rules.write_text(rules_for("c"))
    eventually(lambda: may_subscribe(with_files, "c"), "another file is taken")
    with pytest.raises(AssertionError):
        come_in(with_files, "bob")
    ann.ping()
    with_files.passwords.write_text(more.read_text() + "# once more\n")
    with_files.wait_event("credentials_changed")
    come_in(with_files, "bob").ping()


def test_a_reload_takes_what_was_rolled_back(with_files):
    reload_at_once(with_files, with_files.rules, rules_for("b"), confirm_ms=3_600_000)
    assert ctl(with_files, "rollback")[0] == 0
    assert may_subscribe(with_files, "a")
    assert ctl(with_files, "reload")[0] == 0
    assert may_subscribe(with_files, "b") and not may_subscribe(with_files, "a")


def test_what_changes_while_a_reload_waits_is_not_rolled_back(with_files):
    """A user who is deleted in that time does not come back."""
    reload_at_once(with_files, with_files.rules, rules_for("b"), confirm_ms=3_600_000)
    add_password(with_files.passwords, "bob", "bob-secret")
    with_files.wait_event("credentials_changed")
    assert ctl(with_files, "rollback")[0] == 0
    with_files.wait_event("credentials_changed", 2)
    come_in(with_files, "bob").disconnect()
    assert may_subscribe(with_files, "a") and not may_subscribe(with_files, "b")


def test_another_reload_waits_for_the_confirmation(controlled):
    change(controlled, limits={"in_flight": 5})
    assert ctl(controlled, "reload", "--confirm", "1h")[0] == 0
    code, _, wrong = ctl(controlled, "reload")
    assert code == 2 and "waits for its confirmation" in wrong
    controlled.signal(signal.SIGHUP)
    controlled.wait_event("reload_failed", 2)
    assert ctl(controlled, "confirm")[0] == 0
    assert ctl(controlled, "reload")[0] == 0


def test_a_refused_reload_waits_for_nothing(controlled):
    change(controlled, limits={"no": 5})
    assert ctl(controlled, "reload", "--confirm", "1h")[0] == 2
    assert ctl(controlled, "confirm")[0] == 2


def test_stop_while_a_reload_waits(controlled):
    change(controlled, limits={"in_flight": 5})
    assert ctl(controlled, "reload", "--confirm", "1h")[0] == 0
    controlled.stop()
    assert controlled.events("reload_rolled_back")
    assert not os.path.exists(controlled.control)


def test_the_socket_itself_moves(controlled, tmp_path):
    """Whoever asked on the old one gets the answer."""
    new = str(tmp_path / "other.sock")
    change(controlled, control={"socket": new})
    assert ctl(controlled, "reload")[0] == 0
    assert not os.path.exists(controlled.control)
    controlled.control = new
    assert ctl(controlled, "status")[0] == 0
    change(controlled, control={"socket": new, "mode": "0660"})
    assert ctl(controlled, "reload")[0] == 0
    assert stat.S_IMODE(os.stat(new).st_mode) == 0o660
    del controlled.config["control"]
    controlled.write_config()
    assert ctl(controlled, "reload")[0] == 0
    eventually(lambda: not os.path.exists(new), "the socket is gone")
    controlled.alive()


@pytest.mark.parametrize("second", ["reload", "rollback"])
def test_the_socket_moves_twice_for_one_who_asks(controlled, tmp_path, second):
    """On one connection, to a socket that has gone with the first time already."""
    with socket.socket(socket.AF_UNIX) as stream, stream.makefile("rb") as answers:
        stream.settimeout(TIMEOUT_S)
        stream.connect(controlled.control)

        def ask_here(**request):
            stream.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(answers.readline())

        change(controlled, control={"socket": str(tmp_path / "second.sock")})
        assert ask_here(command="reload", confirm_ms=60_000 if second == "rollback" else 0)["ok"]
        change(controlled, control={"socket": str(tmp_path / "third.sock")})
        assert ask_here(command=second)["ok"]
        assert ask_here(command="status")["ok"]
        assert answers.readline() == b""  # closed a moment later
    if second == "reload":
        controlled.control = str(tmp_path / "third.sock")
    assert ctl(controlled, "status")[0] == 0
    controlled.stop()
    assert not list(tmp_path.glob("**/*.sock"))


# ------------------------------------------------------------------------------------------------------------ clients


def add_password(path, user, password):
    subprocess.run([skerry_binary(), "passwd", path, user], input=f"{password}\n{password}\n".encode(), check=True,
                   capture_output=True, timeout=30)


@pytest.fixture(params=[1, 2], ids=["one shard", "two shards"])
def known(make_broker, tmp_path, request):
    """A broker with a listener at broker.door for users with passwords, and one for everybody."""
    passwords, port = tmp_path / "passwd.txt", free_port()
    for user in ("ann", "bob"):
        add_password(passwords, user, f"{user}-secret")
    broker = make_broker(shards=request.param, options={"control": {"socket": str(tmp_path / "control.sock")},
                                                        "auth": {"passwords": str(passwords)}})
    broker.config["listeners"].append({"url": f"mqtt://127.0.0.1:{port}", "name": "door", "auth": ["password"]})
    broker.write_config()
    broker.control, broker.door, broker.passwords = str(tmp_path / "control.sock"), port, passwords
    assert ctl(broker, "reload")[0] == 0
    return broker


def come_in(broker, user, client_id=None, version=5):
    return Client(Stream(("127.0.0.1", broker.door)), version, client_id).connect(username=user, password=f"{user}-secret")


def clients_of(broker, *words):
    code, text, _ = ctl(broker, "--json", "clients", *words)
    assert code == 0
    answer = json.loads(text)
    return answer["total"], {one["client"]: one for one in answer["clients"]}


def test_clients(known):
    clients = [come_in(known, "ann", f"press-{i}", version=3 + i % 3) for i in range(6)] + [known.connect(client_id="guest")]
    clients[2].subscribe("a", "b")
    total, there = clients_of(known)
    assert total == 7 and sorted(there) == ["guest"] + [f"press-{i}" for i in range(6)]
    press, guest = there["press-2"], there["guest"]
    assert (press["user"], press["method"], press["listener"], press["version"]) == ("ann", "password", "door", "5.0")
    assert press["address"].startswith("127.0.0.1:") and press["subscriptions"] == 2 and press["silent_ms"] < 60_000
    assert {there[f"press-{i}"]["version"] for i in range(2)} == {"3.1", "3.1.1"}
    assert (guest["user"], guest["method"]) == (None, "anonymous")
    assert clients_of(known, "--user", "ann")[0] == 6 and clients_of(known, "--client", "press-3")[0] == 1
    assert clients_of(known, "--client", "guest", "--user", "ann")[0] == 0
    text = ctl(known, "clients", "--client", "press-2")[1]
    assert text.startswith("1 client is connected\n  press-2: user ann (password), 127.0.0.1:")
    assert " at door, MQTT 5.0, 2 subscriptions, silent for" in text


def test_very_many_clients_are_not_all_listed(known):
    many = [known.connect(client_id=f"c{i}-" + "x" * 40) for i in range(1010)]
    code, text, _ = ctl(known, "clients")
    assert code == 0 and text.startswith("1010 clients are connected\n")
    assert text.endswith("  ... and 10 more; name a client or a user\n") and text.count("\n") == 1002
    for one in many:
        one.drop()


def test_long_and_rude_names(known):
    """They neither overflow the answer nor reach the terminal as they are."""
    rude = [known.connect(client_id=f"{i}\x1b[2J\u0085\n" + "\x01" * 60_000) for i in range(8)]
    code, text, _ = ctl(known, "clients")
    assert code == 0 and "8 clients are connected" in text
    assert "\x1b" not in text and "\x85" not in text and "\x01" not in text and "0?[2J???" in text
    for one in rude:
        one.drop()


def test_disconnect_a_user(known):
    """On all shards; others stay; 5.0 clients are told."""
    anns = [come_in(known, "ann", f"press-{i}", version=4 + i % 2) for i in range(10)]
    others = [come_in(known, "bob", "saw"), known.connect()]
    code, text, _ = ctl(known, "disconnect", "--user", "ann")
    assert code == 0 and text.startswith("10 clients are disconnected")
    for client in anns:
        client.expect_disconnect(R.ADMINISTRATIVE_ACTION)
    for client in others:
        client.ping()
    assert "user=ann" in known.events("disconnect_asked")[0] and "count=10" in known.events("disconnect_asked")[0]
    come_in(known, "ann", "press-0").ping()  # nothing keeps it out
    assert ctl(known, "disconnect", "--user", "nobody")[1] == "0 clients are disconnected\n"


def test_disconnect_a_client(known):
    one, two = come_in(known, "ann", "press-1"), come_in(known, "ann", "press-2")
    assert ctl(known, "disconnect", "--client", "press-1", "--user", "bob")[1].startswith("0 clients")
    assert ctl(known, "disconnect", "--client", "press-1")[1].startswith("1 client is disconnected")
    one.expect_disconnect(R.ADMINISTRATIVE_ACTION)
    two.ping()


def test_locked_out_in_one_go(known):
    """A user that has just been deleted cannot come back in the moment before the file is looked at."""
    client = come_in(known, "ann")
    subprocess.run([skerry_binary(), "passwd", "--delete", known.passwords, "ann"], check=True, timeout=30)
    assert ctl(known, "disconnect", "--user", "ann")[0] == 0
    with pytest.raises(AssertionError):
        come_in(known, "ann")
    client.expect_disconnect(R.NOT_AUTHORIZED)  # as the file was read first
    come_in(known, "bob").ping()


def test_disconnect_says_that_a_file_is_not_in_use(known):
    client = come_in(known, "ann")
    good = known.passwords.read_text()
    known.passwords.write_text("ann\n")
    code, text, _ = ctl(known, "disconnect", "--user", "ann")
    assert code == 0 and "1 client is disconnected" in text and "files_refused" in text
    client.expect_disconnect(R.ADMINISTRATIVE_ACTION)
    known.wait_event("files_refused")  # for good
    assert not json.loads(ctl(known, "--json", "disconnect", "--user", "ann")[1])["files_current"]
    known.passwords.write_text(good + "# mended\n")
    assert json.loads(ctl(known, "--json", "disconnect", "--user", "ann")[1])["files_current"]


# ------------------------------------------------------------------------------------------------------ the socket itself


def test_permissions_and_the_owner(controlled):
    info = os.stat(controlled.control)
    assert stat.S_IMODE(info.st_mode) == 0o600 and info.st_uid == os.geteuid()
    asked = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", skerry_binary(), "ctl", "-s", controlled.control, "status"],
        capture_output=True, text=True, timeout=TIMEOUT_S,
    ) if os.geteuid() == 0 else None
    if asked:
        assert asked.returncode == 1


@pytest.mark.parametrize("there", ["file", "live socket", "open directory"])
def test_a_path_that_cannot_be_used(make_broker, tmp_path, there):
    path = tmp_path / "control.sock"
    other = None
    if there == "file":
        path.write_text("x")
    elif there == "live socket":
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
        other.listen()
    else:
        tmp_path.chmod(0o777)
    broker = make_broker(options={"control": {"socket": str(path)}}, wait=False)
    assert broker.wait() == 1
    assert "control.socket" in broker.log()
    assert there != "file" or path.read_text() == "x"
    if other:
        other.close()


def test_a_socket_left_by_a_crash(controlled):
    controlled.kill()
    assert os.path.exists(controlled.control)
    controlled.start()
    assert ctl(controlled, "status")[0] == 0


@pytest.mark.parametrize(
    "line, word",
    [
        (b"", "not a JSON object"),
        (b"status", "not a JSON object"),
        (b"{}", "no command"),
        (b'{"command":"status"', "not a JSON object"),
        (b'{"command":"explode"}', "unknown command"),
        (b'{"command":7}', "unknown command"),
        (b'{"command":"status","x":1}', "unknown member"),
        (b'{"command":"reload","confirm_ms":-1}', "confirm_ms"),
        (b'{"command":"reload","confirm_ms":"60s"}', "confirm_ms"),
        (b'{"command":"reload","confirm_ms":99999999999}', "confirm_ms"),
        (b'{"command":"status","confirm_ms":5}', "goes with reload"),
        (b'{"command":"disconnect"}', "needs a client"),
        (b'{"command":"disconnect","user":""}', "user has to be"),
        (b'{"command":"disconnect","client":"' + b"x" * 2000 + b'"}', "client has to be"),
        (b'{"command":"status"} x', "not a JSON object"),
        (b"[" * 3000, "not a JSON object"),
        (b'{"command":"sta\0tus"}', "not a JSON object"),
        (b'{"command":"\xff"}', "unknown command"),
    ],
)
def test_wrong_requests(controlled, line, word):
    wrong, right = ask(controlled.control, line, b'{"command":"status"}')
    assert not wrong["ok"] and word in wrong["text"]
    assert right["ok"]


def test_lines_that_never_end(controlled):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(TIMEOUT_S)
        stream.connect(controlled.control)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):
                stream.sendall(b"x" * 1000)
    assert ctl(controlled, "status")[0] == 0


def test_too_many_clients(controlled):
    """More than there is room for are closed; those that are there go on."""
    many = []
    for _ in range(40):
        many.append(socket.socket(socket.AF_UNIX))
        many[-1].connect(controlled.control)  # waits while others are before it; with a time-out it would not
        many[-1].settimeout(TIMEOUT_S)
    many[0].sendall(b'{"command":"status"}\n')
    assert many[0].recv(10)
    assert many[-1].recv(10) == b""
    for one in many:
        one.close()
    eventually(lambda: ctl(controlled, "status")[0] == 0, "room again")


def test_clients_that_do_not_read(controlled):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(0.5)
        stream.connect(controlled.control)
        with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError)):
            for _ in range(100_000):
                stream.sendall(b'{"command":"status"}\n')
        assert ctl(controlled, "status")[0] == 0
    controlled.alive()


def test_words_of_the_command_line(controlled, tmp_path):
    def run(*words):
        done = subprocess.run([skerry_binary(), "ctl", *words], capture_output=True, text=True, timeout=TIMEOUT_S)
        return done.returncode, done.stdout + done.stderr

    assert run()[0] == 2
    assert run("explode")[0] == 2 and "known are" in run("explode")[1]
    assert run("status", "--confirm", "5s")[0] == 2
    assert run("disconnect")[0] == 2 and "say whom" in run("disconnect")[1]
    assert run("status", "--user", "ann")[0] == 2
    assert run("-c", str(controlled.config_file), "status")[0] == 0
    code, text = run("-s", str(tmp_path / "none.sock"), "status")
    assert code == 1 and "no broker listens there" in text
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    code, text = run("-c", str(empty), "status")
    assert code == 2 and "no control socket" in text
