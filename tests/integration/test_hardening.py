"""What the process gives up and keeps to itself: root's rights, core files, its memory, secrets in logs and listings."""

import os
import pathlib
import shutil
import signal
import stat
import subprocess

import pytest
from broker import free_port, skerry_binary
from test_reload import add_password, make_certificate
from wire import Client, R, Stream, T

pytestmark = pytest.mark.skerry_only
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
USER = "nobody"


@pytest.fixture
def open_path():
    """A directory that other users can reach."""
    path = pathlib.Path("/tmp") / f"skerry-hardening-{os.getpid()}-{os.urandom(4).hex()}"
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def proc_status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def core_limit(pid):
    lines = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4]


# ------------------------------------------------------------------------------------------------------------- memory


def test_no_core_and_no_reading_of_keys(make_broker, tmp_path):
    make_certificate(tmp_path, "server")
    tls = {"cert": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key")}
    broker = make_broker(options={"listeners": [{"url": f"mqtts://127.0.0.1:{free_port()}", "tls": tls}]})
    assert core_limit(broker.pid) == "0"
    # What is not dumpable is root's in /proc, and a debugger needs its rights.
    if os.geteuid() != 0:
        assert os.stat(f"/proc/{broker.pid}/mem").st_uid == 0


def test_a_broker_without_secrets_may_leave_a_core(make_broker):
    broker = make_broker()
    here = subprocess.run(["sh", "-c", "ulimit -S -c"], capture_output=True, text=True, check=True, timeout=30)
    assert core_limit(broker.pid) == here.stdout.strip()


def test_a_reload_that_brings_secrets_hides_the_memory(make_broker, tmp_path):
    broker = make_broker()
    add_password(tmp_path / "passwd.txt", "ann", "sesame")
    broker.config["auth"] = {"passwords": str(tmp_path / "passwd.txt")}
    broker.config["listeners"][0] = {"url": f"mqtt://127.0.0.1:{broker.port}", "auth": ["password"]}
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    assert core_limit(broker.pid) == "0"


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_files_are_not_for_everybody(make_broker, tmp_path, mask):
    """Stricter masks, of a service manager say, stay."""
    add_password(tmp_path / "passwd.txt", "ann", "sesame")
    broker = make_broker(
        options={"auth": {"passwords": str(tmp_path / "passwd.txt")},
                 "listeners": [{"url": f"mqtt://127.0.0.1:{free_port()}", "auth": ["password"]}]},
        umask=mask,
    )
    assert proc_status(broker.pid)["Umask"] == [f"{mask | 0o027:04o}"]
    for path in (broker.directory / "data").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0, path
    assert stat.S_IMODE((broker.directory / "data" / "secret").stat().st_mode) == 0o600


def test_the_brokers_secret_outlives_it(make_broker, tmp_path):
    """Users that do not exist are asked the same after a restart: so it does not tell that they do not exist."""
    add_password(tmp_path / "passwd.txt", "ann", "sesame")
    broker = make_broker(
        options={"auth": {"passwords": str(tmp_path / "passwd.txt")},
                 "listeners": [{"url": f"mqtt://127.0.0.1:{free_port()}", "auth": ["scram"]}]}
    )
    secret = (broker.directory / "data" / "secret").read_bytes()
    assert len(secret) == 32
    broker.stop()
    broker.start()
    assert (broker.directory / "data" / "secret").read_bytes() == secret


# ---------------------------------------------------------------------------------------------------------------- user


def user_config(path, **more):
    return {
        "broker": {"data": str(path / "data"), "user": USER},
        "control": {"socket": str(path / "run" / "control.sock")},
        **more,
    }


@as_root
def test_root_is_given_up(make_broker, open_path):
    """Sockets are opened as root, everything else is done as the user."""
    (open_path / "run").mkdir(mode=0o755)
    shutil.chown(open_path / "run", USER)
    unix = open_path / "run" / "broker.sock"
    broker = make_broker(options=user_config(open_path))
    broker.config["listeners"][2] = {"url": f"unix://{unix}", "mode": "0660"}
    broker.config_file = open_path / "skerry.yaml"  # to be read again, it has to be where the user can read it
    broker.write_config()
    broker.stop()
    broker.start()
    status = proc_status(broker.pid)
    assert set(status["Uid"]) == {"65534"} and set(status["Gid"]) == {"65534"}
    assert status["CapEff"] == ["0000000000000000"] and status["Groups"] in ([], ["65534"])
    for task in pathlib.Path(f"/proc/{broker.pid}/task").iterdir():
        assert set(proc_status(f"{broker.pid}/task/{task.name}")["Uid"]) == {"65534"}, task.name
    for path in (open_path / "data", open_path / "data" / "journal", unix, open_path / "run" / "control.sock"):
        assert path.stat().st_uid == 65534, path
    client = broker.persistent(client_id="stays")
    client.subscribe("a", qos=1)
    broker.connect().publish("a", b"x", qos=1)
    client.expect_publish("a", b"x")
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    broker.stop()
    assert not unix.exists()


@as_root
def test_a_directory_that_the_user_cannot_use(make_broker, open_path):
    """Refused at the start, not found out at the first write."""
    (open_path / "run").mkdir()
    (open_path / "data").mkdir(mode=0o700)
    broker = make_broker(options=user_config(open_path), wait=False)
    assert broker.wait() == 1
    assert "broker.data" in broker.log() and f"chown -R {USER}" in broker.log()
    assert not list((open_path / "data").iterdir())


@as_root
def test_a_key_that_the_user_cannot_read(make_broker, open_path):
    """What works at the start has to work at a reload: so files are read as the user from the start."""
    (open_path / "run").mkdir()
    make_certificate(open_path, "server")
    (open_path / "server.key").chmod(0o600)
    tls = {"cert": str(open_path / "server.pem"), "key": str(open_path / "server.key")}
    listeners = [{"url": f"mqtts://127.0.0.1:{free_port()}", "tls": tls}]
    broker = make_broker(options=user_config(open_path, listeners=listeners), wait=False)
    assert broker.wait() == 1
    assert "server.key" in broker.log() and "ermission" in broker.log()
    shutil.chown(open_path / "server.key", USER)
    broker.start()
    assert core_limit(broker.pid) == "0"
    broker.stop()


@as_root
@pytest.mark.parametrize("user, words", [("no-such-user", "there is no such user"), ("root", "is root")])
def test_users_that_will_not_do(make_broker, user, words):
    broker = make_broker(options={"broker": {"user": user}}, wait=False)
    assert broker.wait() == 1
    assert words in broker.log()


@as_root
def test_others_than_root_cannot_become_anybody(open_path):
    binary = open_path / "skerry"
    shutil.copy(skerry_binary(), binary)
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", binary, "broker", "--set", "broker.user=daemon",
         "--listen", f"mqtt://127.0.0.1:{free_port()}"],
        capture_output=True, text=True, timeout=30,
    )
    assert done.returncode == 1 and "only root can become another user" in done.stderr


# ------------------------------------------------------------------------------------------------------------- secrets


def test_secrets_show_nowhere(make_broker, tmp_path):
    """Not in the log at its chattiest, not in metrics, the listing of processes, its environment, or what ctl tells."""
    secrets = ["open-sesame-7", "wrong-guess-9", "00112233445566778899aabbccddeeff"]
    make_certificate(tmp_path, "server")
    add_password(tmp_path / "passwd.txt", "ann", secrets[0])
    (tmp_path / "psk.txt").write_text(f"sensor:{secrets[2]}\n")
    hashed = (tmp_path / "passwd.txt").read_text().split(":")[1].strip()
    key = (tmp_path / "server.key").read_text().splitlines()[1]
    listeners = [{"url": f"mqtts://127.0.0.1:{free_port()}", "auth": ["psk"],
                  "tls": {"cert": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key")}}]
    broker = make_broker(
        options={"auth": {"passwords": str(tmp_path / "passwd.txt"), "psk": str(tmp_path / "psk.txt")},
                 "control": {"socket": str(tmp_path / "control.sock")}, "listeners": listeners}
    )
    broker.config["listeners"].append(
        {"url": f"mqtt://127.0.0.1:{broker.port}", "auth": ["password"], "passwords": str(tmp_path / "passwd.txt")}
    )
    broker.write_config()
    broker.signal(signal.SIGHUP)
    broker.wait_event("reloaded")
    for password in secrets[:2]:
        client = Client(Stream(("127.0.0.1", broker.port)))
        client.send_connect(username="ann", password=password.encode())
        assert (client.expect(T.CONNACK).reason == R.SUCCESS) == (password == secrets[0])
    # Lines with secrets in the wrong place are not repeated in messages.
    (tmp_path / "psk.txt").write_text(f"{secrets[2]}\n")
    broker.wait_event("files_refused")
    told = subprocess.run(
        [skerry_binary(), "ctl", "-s", tmp_path / "control.sock", "--json", "reload"], capture_output=True, text=True, timeout=30
    )
    assert told.returncode == 2
    proc = pathlib.Path(f"/proc/{broker.pid}")
    everything = [broker.log(), broker.metrics().text, told.stdout, (proc / "cmdline").read_text()]
    if os.geteuid() == 0:
        everything.append((proc / "environ").read_text())
    for text in everything:
        for secret in [*secrets, hashed, key]:
            assert secret not in text
