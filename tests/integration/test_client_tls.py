"""TLS in Skerry's own clients: against Skerry, and against Debian's mosquitto as the foreign party."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest
from broker import SLOW, free_port, skerry_binary
from certificates import Authority, openssl
from wire import unique

pytestmark = pytest.mark.skerry_only

TIMEOUT_S = 20 * SLOW
KEY = "00112233445566778899aabbccddeeff"
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
VERSIONS = ["1.2", "1.3"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def psk(tmp_path_factory):
    path = tmp_path_factory.mktemp("psk") / "psk.txt"
    path.write_text(f"press-4:{KEY}\npress-5:{KEY[::-1]}\n")
    return path


class Site:
    def __init__(self, make_broker, authority, psk, passwords):
        self.ports = {name: free_port() for name in ("mqtts", "wss", "cert", "psk", "password", "mqtt", "named")}
        server = authority.server()
        named = authority.server(names=("DNS:broker.plant.example",))
        tls = {"cert": str(server.cert), "key": str(server.key)}
        self.authority = authority
        asks = tls | {"client_ca": str(authority.cert)}
        listeners = [
            {"url": f"mqtts://127.0.0.1:{self.ports['mqtts']}", "anonymous": True, "tls": tls},
            {"url": f"wss://127.0.0.1:{self.ports['wss']}/mqtt", "anonymous": True, "tls": tls},
            {"url": f"mqtts://127.0.0.1:{self.ports['cert']}", "auth": ["cert"], "identity": "cert.cn", "tls": asks},
            {"url": f"mqtts://127.0.0.1:{self.ports['psk']}", "auth": ["psk"]},
            {"url": f"mqtts://127.0.0.1:{self.ports['password']}", "auth": ["password"], "tls": tls},
            {"url": f"mqtts://127.0.0.1:{self.ports['named']}", "anonymous": True,
             "tls": {"cert": str(named.cert), "key": str(named.key)}},
            {"url": f"mqtt://127.0.0.1:{self.ports['mqtt']}", "anonymous": True},
        ]
        self.broker = make_broker(1, {"listeners": listeners, "auth": {"psk": str(psk), "passwords": str(passwords)}})
        self.broker.port = self.ports["mqtt"]

    def url(self, scheme, name=None, path=""):
        return f"{scheme}://localhost:{self.ports[name or scheme]}{path}"


@pytest.fixture
def site(make_broker, authority, psk, tmp_path):
    passwords = tmp_path / "passwd.txt"
    subprocess.run([skerry_binary(), "passwd", str(passwords), "ann"], input="secret word\nsecret word\n", text=True, check=True,
                   capture_output=True, timeout=TIMEOUT_S)
    return Site(make_broker, authority, psk, passwords)


def run(command, *words, **kw):
    return subprocess.run([skerry_binary(), command, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT_S,
                          stdin=subprocess.DEVNULL, **kw)


def publish(*words, ok=True):
    done = run("pub", "-t", unique("tls/"), "-m", "x", "-q", 1, *words)
    if ok:
        assert (done.returncode, done.stderr) == (0, "")
    return done


@contextlib.contextmanager
def subscriber(*words):
    """A skerry sub that has subscribed; out() is what it has printed when it ends by itself."""
    argv = [skerry_binary(), "sub", "-d", *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "received SUBACK" in line:
                    break
            assert "received SUBACK" in said[-1], said
            process.said = said
            process.out = lambda: process.communicate(timeout=TIMEOUT_S)[0]
            yield process
        finally:
            process.kill()


def refused(done, *texts):
    assert done.returncode == 1, done
    assert done.stdout == ""
    for text in texts:
        assert text in done.stderr


# ------------------------------------------------------------------------------------------------- what works


@pytest.mark.parametrize("tls", VERSIONS)
@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_messages_pass(site, scheme, tls, tmp_path):
    path = "/mqtt" if scheme == "wss" else ""
    common = ("-L", site.url(scheme, path=path), "--cafile", site.authority.cert, "--tls-version", tls)
    topic = unique("tls/")
    large = tmp_path / "large"
    large.write_bytes(bytes(i * 7 & 0x3F | 0x40 for i in range(300_000)))
    with subscriber(*common, "-t", topic, "-q", 2, "-C", 4) as process:
        assert any(f"secured by TLSv{tls}, " in line for line in process.said)
        for qos in (0, 1, 2):
            assert run("pub", *common, "-t", topic, "-m", f"hello {qos}", "-q", qos).returncode == 0
        assert run("pub", *common, "-t", topic, "-f", large, "-q", 1).returncode == 0
        lines = process.out().splitlines()
        assert lines[:3] == ["hello 0", "hello 1", "hello 2"]
        assert lines[3] == large.read_text()
        assert process.returncode == 0


def test_many_lines(site):
    common = ("-L", site.url("mqtts"), "--cafile", site.authority.cert)
    topic, count = unique("tls/"), 20_000
    with subscriber(*common, "-t", topic, "-q", 1, "-C", count) as process:
        done = subprocess.run([skerry_binary(), "pub", *map(str, common), "-t", topic, "-l", "-q", "1"], text=True,
                              input="".join(f"line {i}\n" for i in range(count)), timeout=TIMEOUT_S * 2)
        assert done.returncode == 0
        assert process.out() == "".join(f"line {i}\n" for i in range(count))


def test_options_instead_of_a_url(site):
    publish("-h", "localhost", "-p", site.ports["mqtts"], "--cafile", site.authority.cert)
    publish("-h", "127.0.0.1", "-p", site.ports["mqtts"], "--cafile", site.authority.cert)


def test_the_system_is_trusted_by_default(site):
    environment = {**os.environ, "SSL_CERT_FILE": str(site.authority.cert)}
    done = run("pub", "-L", site.url("mqtts"), "-t", "a", "-m", "x", "-q", 1, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("pub", "-h", "localhost", "-p", site.ports["mqtts"], "--tls", "-t", "a", "-m", "x", env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_directory_of_authorities(site, tmp_path):
    digest = openssl("x509", "-hash", "-noout", "-in", site.authority.cert).strip()
    (tmp_path / f"{digest}.0").symlink_to(site.authority.cert)
    publish("-L", site.url("mqtts"), "--capath", tmp_path)


@pytest.mark.parametrize("tls", VERSIONS)
def test_client_certificate(site, authority, tls):
    ann = authority.client("/CN=ann")
    common = ("-L", site.url("mqtts", "cert"), "--cafile", authority.cert, "--tls-version", tls)
    publish(*common, "--cert", ann.cert, "--key", ann.key)
    wants = "wants a certificate of ours" if tls == "1.3" else "no cipher, no kind of key or no way to log in"
    refused(publish(*common, ok=False), wants)


@pytest.mark.parametrize("tls", VERSIONS)
def test_psk(site, psk, tmp_path, tls):
    common = ("-L", site.url("mqtts", "psk"), "--tls-version", tls)
    publish(*common, "--psk-file", psk, "--psk-identity", "press-4")
    publish(*common, "--psk-file", psk, "--psk-identity", "press-5")
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(f"press-4:{KEY[::-1]}\n")
    refused(publish(*common, "--psk-file", wrong, ok=False), "another pre-shared key?")
    # Who does not know the key does not get away with a certificate.
    refused(publish("-L", site.url("mqtts"), "--psk-file", wrong, "--tls-version", "1.3", ok=False),
            "shows a certificate instead")


def test_password_from_a_file(site, tmp_path):
    secret = tmp_path / "secret"
    common = ("-L", site.url("mqtts", "password"), "--cafile", site.authority.cert, "-u", "ann", "--pw-file", secret)
    refused(publish(*common, ok=False), "secret: No such file or directory")
    secret.write_text("secret word\n")
    publish(*common)
    secret.write_text("another\n")
    assert publish(*common, ok=False).returncode == 0x86


def test_top(site):
    with subscriber("-L", site.url("mqtts"), "--cafile", site.authority.cert, "-t", "none"):
        done = run("top", "-L", site.url("mqtts"), "--cafile", site.authority.cert, "--plain", "--seconds", "1.5")
        assert done.returncode == 0
        assert f"mqtts://localhost:{site.ports['mqtts']}" in done.stdout


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_bench(site, scheme, qos):
    common = ("-L", site.url(scheme), "--cafile", site.authority.cert, "--quiet")
    done = run("bench", *common, "-q", qos, "--messages", 20000)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verified"] and result["delivered"] == 20000
    done = run("bench", "connections", *common, "--connections", 20)
    assert done.returncode == 0, done.stderr
    refused(run("bench", "-L", site.url(scheme), "--quiet", "--messages", 10), "which is not in what this system trusts")


def test_sense(site):
    with subscriber("-L", site.url("mqtts"), "--cafile", site.authority.cert, "-t", "#", "-C", 1, "-F", "%t") as process:
        words = ["sense", "-L", site.url("mqtts"), "--cafile", str(site.authority.cert)]
        with subprocess.Popen([skerry_binary(), *words]) as sense:
            try:
                assert process.out().strip()
            finally:
                sense.terminate()


def test_without_tls_the_security_module_is_not_loaded(site):
    trace = ["strace", "-f", "-e", "trace=openat", "-o", "/dev/stdout"]
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    words = ["env", "ASAN_OPTIONS=detect_leaks=0", skerry_binary(), "pub", "-t", "a", "-m", "x"]  # strace is a debugger
    plain = subprocess.run([*trace, *words, "-L", f"mqtt://127.0.0.1:{site.ports['mqtt']}"], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert plain.returncode == 0 and "libssl" not in plain.stdout and "skerry-security" not in plain.stdout
    secure = subprocess.run([*trace, *words, "-L", site.url("mqtts"), "--cafile", str(site.authority.cert)], capture_output=True,
                            text=True, timeout=TIMEOUT_S)
    assert secure.returncode == 0 and "libssl" in secure.stdout and "skerry-security" in secure.stdout


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("command", ["pub", "sub"])
@pytest.mark.parametrize("tls", VERSIONS)
def test_unknown_authority(site, tmp_path, command, tls):
    other = Authority(tmp_path / "other", "Other CA")
    words = ("-t", "a", *(("-m", "x") if command == "pub" else ()), "-L", site.url("mqtts"), "--tls-version", tls)
    refused(run(command, *words, "--cafile", other.cert),
            f"skerry {command}: no TLS with localhost port {site.ports['mqtts']}: the broker's certificate (CN=localhost) is issued by "
            f"CN=Test CA, which is not in {other.cert}: expected a CA file with the certificate of that authority, if you trust it")
    refused(run(command, *words), "which is not in what this system trusts: expected a CA file")


def test_wrong_name(site):
    done = publish("-L", site.url("mqtts", "named"), "--cafile", site.authority.cert, ok=False)
    refused(done, "the broker's certificate is not for localhost, but for broker.plant.example: connect to a name that it is for")
    done = publish("-L", f"mqtts://127.0.0.1:{site.ports['named']}", "--cafile", site.authority.cert, ok=False)
    refused(done, "is not for 127.0.0.1, but for broker.plant.example")


def test_insecure_is_loud(site):
    done = publish("-L", site.url("mqtts", "named"), "--insecure", "--quiet", ok=False)
    assert done.returncode == 0
    assert "WARNING: --insecure: the broker's certificate is not checked" in done.stderr


@contextlib.contextmanager
def listening(port, *argv):
    """Somebody else's server, from when its port is open."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait(TIMEOUT_S)


@contextlib.contextmanager
def foreign_server(pair, *words):
    """openssl s_server, which shows whatever it is told to."""
    port = free_port()
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pair.cert), "-key", str(pair.key), "-quiet", *words]
    with listening(port, *argv):
        yield port


def test_expired_and_early(authority):
    for words, start_s, end_s in (("has ended on 2", -7200, -3600), ("is valid from 2", 3600, 7200)):
        pair = authority.server(start_s=start_s, end_s=end_s)
        with foreign_server(pair) as port:
            refused(publish("-L", f"mqtts://localhost:{port}", "--cafile", authority.cert, ok=False), "(CN=localhost) " + words)


def test_versions_and_ports_that_do_not_fit(authority, site):
    with foreign_server(authority.server(), "-tls1_2") as port:
        common = ("-L", f"mqtts://localhost:{port}", "--cafile", authority.cert)
        refused(publish(*common, "--tls-version", "1.3", ok=False), "the broker does not speak this version of TLS")
    refused(publish("-L", f"mqtts://localhost:{site.ports['mqtt']}", "--cafile", authority.cert, ok=False),
            "while TLS shakes hands: is it a port with TLS")
    refused(publish("-L", site.url("mqtts"), "--cafile", authority.cert, "--tls-alpn", "h2", ok=False),
            "does not take the protocol that we offer (ALPN)")


def test_files_that_are_wrong(site, authority, tmp_path):
    url = ("-L", site.url("mqtts"))
    refused(publish(*url, "--cafile", tmp_path / "none.pem", ok=False), "none.pem: No such file or directory")
    ann, ben = authority.client("/CN=ann"), authority.client("/CN=ben")
    refused(publish(*url, "--cafile", authority.cert, "--cert", ann.cert, "--key", ben.key, ok=False), f"{ben.key}: is not the key of {ann.cert}")
    old = authority.client("/CN=old", start_s=-7200, end_s=-3600)
    refused(publish(*url, "--cafile", authority.cert, "--cert", old.cert, "--key", old.key, ok=False), f"{old.cert}: the certificate (CN=old) has ended")


@pytest.mark.parametrize("words, why", [
    (("-L", "mqtt://localhost", "--cafile", "ca.pem"), "with options of TLS the URL begins with mqtts:// or wss://"),
    (("--unix", "/b.sock", "--tls"), "TLS is not spoken over a Unix socket"),
    (("--cert", "c.pem"), "--cert and --key belong together"),
    (("--tls-version", "1.1"), "\"1.1\" is no version of TLS that is spoken here"),
])
def test_usage(words, why):
    done = publish(*words, ok=False)
    assert done.returncode == 2 and why in done.stderr


# ------------------------------------------------------------------------------------------------- the foreign party


@contextlib.contextmanager
def mosquitto(directory, lines):
    port = free_port()
    path = pathlib.Path(directory) / "mosquitto.conf"
    # It would give up root, and could not read its files then.
    path.write_text(f"user root\nlistener {port} 127.0.0.1\nlog_dest none\n" + "".join(line + "\n" for line in lines))
    with listening(port, MOSQUITTO, "-c", str(path)):
        yield port


@pytest.mark.skipif(not MOSQUITTO, reason="needs mosquitto")
@pytest.mark.parametrize("tls", VERSIONS)
def test_mosquitto_with_certificates(tmp_path, tls):
    authority = Authority(tmp_path / "ca")
    server, ann = authority.server(), authority.client("/CN=ann")
    lines = (f"cafile {authority.cert}", f"certfile {server.cert}", f"keyfile {server.key}", "require_certificate true",
             "use_identity_as_username true")
    with mosquitto(tmp_path, lines) as port:
        common = ("-L", f"mqtts://localhost:{port}", "--cafile", authority.cert, "--tls-version", tls)
        own = ("--cert", ann.cert, "--key", ann.key)
        with subscriber(*common, *own, "-t", "a/b", "-q", 2, "-C", 2) as process:
            for qos in (1, 2):
                done = run("pub", *common, *own, "-t", "a/b", "-m", f"hello {qos}", "-q", qos)
                assert (done.returncode, done.stderr) == (0, "")
            assert process.out() == "hello 1\nhello 2\n"
        refused(run("pub", *common, "-t", "a", "-m", "x"), "certificate of ours" if tls == "1.3" else "no way to log in")


@pytest.mark.skipif(not MOSQUITTO, reason="needs mosquitto")
@pytest.mark.parametrize("tls", VERSIONS)
def test_mosquitto_with_a_pre_shared_key(tmp_path, psk, tls):
    known = tmp_path / "psk.txt"
    known.write_text(psk.read_text())
    with mosquitto(tmp_path, ("allow_anonymous true", f"psk_file {known}", "psk_hint plant", "ciphers PSK")) as port:
        done = run("pub", "-h", "localhost", "-p", port, "--psk-file", psk, "--psk-identity", "press-4", "--tls-version", tls,
                   "-t", "a", "-m", "x", "-q", 1)
        assert (done.returncode, done.stderr) == (0, "")
