"""`skerry passwd`: users and passwords in a file, from a pipe and from a terminal, and files of mosquitto_passwd."""

import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import termios
import threading
import time

import pytest
from broker import START_S, skerry_binary
from wire import SLOW

pytestmark = pytest.mark.skerry_only


def passwd(*words, stdin=""):
    """(exit code, standard output, standard error)"""
    done = subprocess.run(
        [skerry_binary(), "passwd", *map(str, words)], input=stdin, text=True, capture_output=True, timeout=START_S * 3
    )
    return done.returncode, done.stdout, done.stderr


def ok(*words, stdin=""):
    code, out, err = passwd(*words, stdin=stdin)
    assert code == 0, f"exit code {code}\n{out}\n{err}"
    return out


def right(file, user, password):
    code, _, err = passwd("--verify", file, user, stdin=password + "\n")
    assert code in (0, 1), err
    return code == 0


@pytest.fixture
def file(tmp_path):
    return tmp_path / "passwd.txt"


def test_a_user_is_added_verified_changed_and_deleted(file):
    assert "made; ann added" in ok(file, "ann", stdin="secret\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch(r"ann:\$argon2id\$v=19\$m=19456,t=2,p=1\$[^:$]+\$[^:$]+\n", file.read_text())
    assert right(file, "ann", "secret") and not right(file, "ann", "Secret")
    assert "has a new password" in ok(file, "ann", stdin="other\n")
    assert right(file, "ann", "other") and not right(file, "ann", "secret")
    ok("--delete", file, "ann")
    assert file.read_text() == ""


def test_only_the_first_line_of_standard_input_counts(file):
    ok(file, "ann", stdin="first\r\nsecond\n")
    assert right(file, "ann", "first")
    ok(file, "bob", stdin="no line end")
    assert right(file, "bob", "no line end")


def test_comments_and_other_users_stay_as_they_are(file):
    ok(file, "ann", stdin="a\n")
    text = "# operators\r\n\n" + file.read_text() + "# machines\n"
    file.write_bytes(text.encode())
    ok(file, "bob", stdin="b\n")
    assert file.read_bytes().decode().startswith(text)


def test_rotation_keeps_two_passwords_right_until_the_first_ends(file):
    ok("--group", "line-7,night", file, "press", stdin="old\n")
    before = time.time()
    ok("--rotate", "--keep", "2d", file, "press", stdin="new\n")
    assert right(file, "press", "old") and right(file, "press", "new") and not right(file, "press", "x")
    end = re.search(r"until=([0-9TZ:-]+):", file.read_text())[1]
    left = time.mktime(time.strptime(end, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - before
    assert abs(left - 2 * 86400) < 60
    file.write_text(file.read_text().replace(end, "2020-01-01T00:00:00Z"))
    assert not right(file, "press", "old") and right(file, "press", "new")
    assert "(over)" in ok("--list", file)
    ok("--rotate", file, "press", stdin="newer\n")
    assert "2020" not in file.read_text()
    assert right(file, "press", "new") and right(file, "press", "newer")
    assert file.read_text().count(":groups=line-7,night\n") == 2


def test_rotated_scram_verifiers_share_their_salt(file):
    ok("--scram", file, "press", stdin="old\n")
    ok("--rotate", file, "press", stdin="new\n")
    salts = re.findall(r"\$scram-sha-256\$15000\$([^$]+)\$", file.read_text())
    assert len(salts) == 2 and salts[0] == salts[1]
    assert right(file, "press", "old") and right(file, "press", "new")
    ok(file, "press", stdin="third\n")
    salts += re.findall(r"\$scram-sha-256\$15000\$([^$]+)\$", file.read_text())
    assert len(salts) == 3 and salts[2] != salts[0]


def test_the_list_shows_kinds_ends_and_groups_and_no_hash(file):
    ok("--group", "ops", "--group", "night", "--until", "2099-12-31T23:59:59Z", file, "ann", stdin="a\n")
    ok("--scram", file, "bob", stdin="b\n")
    lines = [line.split() for line in ok("--list", file).splitlines()]
    assert lines == [
        ["USER", "KIND", "UNTIL", "GROUPS"],
        ["ann", "argon2id", "2099-12-31T23:59:59Z", "ops,night"],
        ["bob", "scram-sha-256", "-", "-"],
    ]
    ok("--regroup", "--group", "", file, "ann")
    assert "groups=" not in file.read_text() and right(file, "ann", "a")


@pytest.mark.skipif(not shutil.which("mosquitto_passwd"), reason="mosquitto_passwd is not installed")
def test_files_of_mosquitto_passwd_are_taken_over(file):
    for user, words in {"ann": ["-c"], "bob": [], "cho": ["-H", "sha512"]}.items():
        subprocess.run(["mosquitto_passwd", *words, "-b", file, user, f"of {user}"], check=True, timeout=START_S)
    for user in ["ann", "bob", "cho"]:
        assert right(file, user, f"of {user}") and not right(file, user, "of")
    ok("--rotate", file, "ann", stdin="new\n")
    assert right(file, "ann", "of ann") and right(file, "ann", "new")
    kinds = [line.split()[1] for line in ok("--list", file).splitlines()[1:]]
    assert kinds == ["pbkdf2-sha512", "argon2id", "pbkdf2-sha512", "sha512"]


def test_mode_and_symbolic_links_stay(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("# none\n")
    real.chmod(0o640)
    link.symlink_to(real)
    ok(link, "ann", stdin="a\n")
    assert link.is_symlink() and "ann:" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_the_owner_stays(file):
    ok(file, "ann", stdin="a\n")
    os.chown(file, 1234, 2345)
    ok(file, "bob", stdin="b\n")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 2345)


def test_several_at_a_time_lose_nothing(file):
    users = [f"user{i}" for i in range(8)]
    threads = [threading.Thread(target=ok, args=(file, user), kwargs={"stdin": f"{user}\n"}) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split(":")[0] for line in file.read_text().splitlines()) == users


@pytest.mark.parametrize("words, text", [
    ([], "no file given"),
    (["{file}"], "no user given"),
    (["{file}", "ann", "secret"], "never given on the command line"),
    (["{file}", "a:b"], "separates"),
    (["{file}", ""], "empty"),
    (["--list", "{file}", "ann"], "one word too many"),
    (["--keep", "1d", "{file}", "ann"], "--keep goes with --rotate"),
    (["--list", "--delete", "{file}", "ann"], "at a time"),
    (["--group", "a,,b", "{file}", "ann"], "empty"),
    (["--until", "tomorrow", "{file}", "ann"], "2026-12-31T23:59:59Z"),
    (["--regroup", "{file}", "ann"], "needs --group"),
    (["--delete", "--scram", "{file}", "ann"], "new password"),
])
def test_wrong_command_lines_exit_with_2_and_change_nothing(file, words, text):
    code, out, err = passwd(*[word.format(file=file) for word in words], stdin="x\n")
    assert (code, out) == (2, "") and text in err
    assert not file.exists()


def test_what_cannot_be_done_exits_with_1(file, tmp_path):
    for words in (["--delete"], ["--rotate"], ["--regroup", "--group", "x"], ["--verify"], ["--list"]):
        code, _, err = passwd(*words, file, *([] if words == ["--list"] else ["ann"]), stdin="x\n")
        assert code == 1 and str(file) in err, words
        assert not file.exists()
    assert passwd(file, "ann", stdin="")[0] == 1
    assert passwd(file, "ann", stdin="\n")[0] == 1
    assert passwd(file, "ann", stdin="x" * 5000)[0] == 1
    assert passwd(tmp_path / "none" / "passwd", "ann", stdin="x\n")[0] == 1
    assert not file.exists()


@pytest.mark.parametrize("line, text", [
    ("bob:hunter2", "no hash follows"),
    ("bob", 'no ":"'),
    ("bob:$2y$10$abcdefghijklmnopqrstuu", "not known"),
    ("bob:$7$99999999$c2FsdHNhbHRzYWx0$" + "A" * 86 + "==", "99999999 iterations"),
    ("bob:$argon2id$v=19$m=9999999,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pbviq+1UUgwZCmLIr4Hgk7mEMsxnRLuOb2HfvIaBwGY", "m=9999999"),
])
def test_a_file_with_a_mistake_is_told_by_line_and_not_touched(file, line, text):
    content = f"# users\n{line}\n"
    file.write_text(content)
    for words in ([], ["--list"], ["--verify"], ["--delete"]):
        code, out, err = passwd(*words, file, *([] if words == ["--list"] else ["ann"]), stdin="x\n")
        assert (code, out) == (2, "")
        assert f"{file}:2: " in err and text in err and "hunter2" not in err
    assert file.read_text() == content


# ---- On a terminal


class Terminal:
    """The command on a pseudo terminal; what it shows."""

    def __init__(self, *words):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.process = subprocess.Popen(
            [skerry_binary(), "passwd", *map(str, words)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        self.shown = ""

    def wait_for(self, text):
        end = time.monotonic() + 10 * SLOW
        while text not in self.shown:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"never showed {text!r}: {self.shown!r}"
            self.shown += os.read(self.master, 4096).decode()

    def type(self, text):
        os.write(self.master, text.encode())

    def has_echo(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def end(self):
        code = self.process.wait(10 * SLOW)
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 4096).decode()
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    made = []

    def make(*words):
        made.append(Terminal(*words))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_terminal_is_asked_twice_and_shows_nothing(file, terminal):
    asked = terminal(file, "ann")
    asked.wait_for("New password: ")
    assert not asked.has_echo()
    asked.type("top secret\n")
    asked.wait_for("Once more: ")
    asked.type("top secret\n")
    asked.wait_for("added")
    assert asked.end() == 0 and asked.has_echo()
    assert "top secret" not in asked.shown
    assert right(file, "ann", "top secret")


def test_two_that_differ_are_refused(file, terminal):
    asked = terminal(file, "ann")
    asked.wait_for("New password: ")
    asked.type("one\n")
    asked.wait_for("Once more: ")
    asked.type("two\n")
    asked.wait_for("differ")
    assert asked.end() == 1 and asked.has_echo()
    assert not file.exists()


def test_an_interrupt_gives_the_echo_back(file, terminal):
    asked = terminal(file, "ann")
    asked.wait_for("New password: ")
    asked.type("half")
    asked.process.send_signal(signal.SIGINT)
    assert asked.end() == 1 and asked.has_echo()
    assert not file.exists()


def test_a_wrong_file_is_told_before_anybody_types(file, terminal):
    file.write_text("ann:hunter2\n")
    asked = terminal(file, "bob")
    assert asked.end() == 2
    assert "New password" not in asked.shown
