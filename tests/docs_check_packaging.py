#!/usr/bin/python3
"""The manual pages and the system service fit the program: what they say, what is installed, what the tools think of them.

    tests/docs_check_packaging.py       the binary is $SKERRY, or build/skerry
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKERRY = pathlib.Path(os.environ.get("SKERRY", ROOT / "build/skerry")).resolve()
MAN = ROOT / "docs/man"
COMMANDS = ["broker", "check", "ctl", "journal", "passwd"]


def run(*words, **options):
    return subprocess.run(
        [str(word) for word in words], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **options
    )


def configuration_page():
    """docs/man/skerry.yaml.5 is what packaging/config_page.py makes of docs/configuration.md."""
    made = run(sys.executable, "packaging/config_page.py").stdout
    if made != (MAN / "skerry.yaml.5").read_text():
        yield "docs/man/skerry.yaml.5 is out of date: run packaging/config_page.py --date TODAY > it"


def pages_are_installed():
    meson = (ROOT / "meson.build").read_text()
    for page in sorted(MAN.iterdir()):
        if f"'docs/man/{page.name}'" not in meson:
            yield f"{page.name} is not installed by meson.build"


def options_are_described():
    """The page of a command names the options that its --help names, and no others."""
    for command in COMMANDS:
        shown = set(re.findall(r"(?<!\S)--([a-z][a-z-]*)", run(SKERRY, command, "--help").stdout.split("Options:")[1]))
        page = (MAN / f"skerry-{command}.1").read_text()
        described = set(re.findall(r"^\.It .*Fl Fl ([a-z-]+)", page, re.M))
        if shown != described:
            yield f"skerry-{command}.1: --help has {sorted(shown)}, the page {sorted(described)}"


def references_exist():
    """Pages refer to pages of ours that are there."""
    ours = {page.name for page in MAN.iterdir()}
    for page in sorted(MAN.iterdir()):
        for name, number in re.findall(r"^\.Xr (skerry\S*) (\d)", page.read_text(), re.M):
            if f"{name}.{number}" not in ours:
                yield f"{page.name} refers to {name}({number})"


def groff_is_content():
    if not shutil.which("groff") or run("groff", "-mdoc", "-Tutf8", "/dev/null").returncode != 0:
        print("groff with mdoc is not installed: left out")
        return
    for page in sorted(MAN.iterdir()):
        said = run("groff", "-mdoc", "-Tutf8", "-ww", page).stderr
        if said:
            yield f"{page.name}: {said}"


def service_configuration():
    done = run(SKERRY, "check", "packaging/skerry.yaml")
    if done.returncode != 0:
        yield done.stderr


def service_unit():
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not installed: left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder, "skerry.service")
        text = (ROOT / "packaging/skerry.service").read_text()
        unit.write_text(text.replace("@bindir@", str(SKERRY.parent)))
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
        if done.returncode != 0:
            yield done.stderr


def main():
    passed = failed = 0
    checks = [
        configuration_page, pages_are_installed, options_are_described, references_exist, groff_is_content,
        service_configuration, service_unit,
    ]
    for check in checks:
        faults = list(check())
        for fault in faults:
            print(f"FAILED: {check.__name__}: {fault}")
        passed, failed = passed + (not faults), failed + bool(faults)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
