"""Certificates for tests, made by openssl: an authority, what it issues, what it revokes. And streams with TLS."""

import pathlib
import socket
import ssl
import subprocess
import time

from wire import TIMEOUT_S, Stream, WebSocket

CONFIG = """
[ca]
default_ca = ours
[ours]
dir = {directory}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
unique_subject = no
policy = anything
copy_extensions = copy
[anything]
commonName = optional
organizationName = optional
organizationalUnitName = optional
[server]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
"""

SERVER_NAMES = ("DNS:localhost", "IP:127.0.0.1")


def openssl(*args, **kw):
    done = subprocess.run(["openssl", *(str(a) for a in args)], capture_output=True, text=True, timeout=30, **kw)
    assert done.returncode == 0, f"openssl {args}: {done.stderr}"
    return done.stdout


def date(offset_s):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + offset_s))


class Pair:
    """A certificate and its key, as files."""

    def __init__(self, cert, key):
        self.cert, self.key = pathlib.Path(cert), pathlib.Path(key)


class Authority:
    def __init__(self, directory, name="Test CA"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cert, self.key = self.directory / "ca.pem", self.directory / "ca.key"
        self.config = self.directory / "ca.conf"
        self.config.write_text(CONFIG.format(directory=self.directory))
        (self.directory / "index.txt").write_text("")
        (self.directory / "serial").write_text("1000\n")
        (self.directory / "crlnumber").write_text("01\n")
        self._key(self.key)
        openssl(
            "req", "-x509", "-new", "-key", self.key, "-out", self.cert, "-days", 30, "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )
        self.made = 0

    @staticmethod
    def _key(path, kind="P-256"):
        if kind.isdigit():
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind}", "-out", path)
        else:
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{kind}", "-out", path)

    def _issue(self, extensions, subject, names=(), key="P-256", start_s=-3600, end_s=86400):
        self.made += 1
        base = self.directory / f"{extensions}{self.made}"
        pair = Pair(base.with_suffix(".pem"), base.with_suffix(".key"))
        self._key(pair.key, key)
        request = base.with_suffix(".csr")
        alternative = ["-addext", "subjectAltName=" + ",".join(names)] if names else []
        openssl("req", "-new", "-key", pair.key, "-out", request, "-subj", subject, *alternative)
        openssl(
            "ca", "-batch", "-notext", "-config", self.config, "-extensions", extensions, "-in", request,
            "-out", pair.cert, "-startdate", date(start_s), "-enddate", date(end_s),
        )
        return pair

    def server(self, subject="/CN=localhost", names=SERVER_NAMES, **kw):
        return self._issue("server", subject, names, **kw)

    def client(self, subject="/CN=client", names=(), **kw):
        return self._issue("client", subject, names, **kw)

    def revoke(self, pair):
        openssl("ca", "-config", self.config, "-revoke", pair.cert)

    def crl(self, path=None, start_s=None, end_s=None):
        """A list of what is revoked by now."""
        path = pathlib.Path(path or self.directory / "crl.pem")
        fresh = path.with_suffix(".new")
        times = ["-crl_lastupdate", date(start_s), "-crl_nextupdate", date(end_s)] if end_s is not None else []
        openssl("ca", "-config", self.config, "-gencrl", "-out", fresh, *times)
        fresh.replace(path)
        return path


def client_context(authority, pair=None, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3), alpn=("mqtt",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = versions
    context.load_verify_locations(authority.cert)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    return context


class Secure(Stream):
    """A stream with TLS. `prefix` goes in front of it in plain text: a PROXY header."""

    def __init__(self, address, context=None, server_name="localhost", session=None, **kw):
        super().__init__(address, **kw)
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname=server_name, session=session)
        except BaseException:
            self.socket.close()
            raise

    def send(self, data):
        try:
            super().send(data)
        except ssl.SSLError:
            pass  # what the broker said before it closed is still to be read

    def receive(self, deadline):
        try:
            return super().receive(deadline)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def half_close(self):
        self.socket.unwrap()


class SecureWebSocket(WebSocket, Secure):
    """WebSocket in TLS."""


def half_open(address, source="127.0.0.1"):
    """Connected, and silent."""
    return socket.create_connection(address, timeout=TIMEOUT_S, source_address=(source, 0))
