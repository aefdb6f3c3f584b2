#!/usr/bin/python3
"""Makes the manual page of the configuration from docs/configuration.md, which the program makes from its table of keys.

    packaging/config_page.py > docs/man/skerry.yaml.5

The date of the page is that of the last change: it is taken from the page as it is, unless --date gives another one.
"""

import argparse
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs/configuration.md"
PAGE = ROOT / "docs/man/skerry.yaml.5"

HEAD = """.\\" Made by packaging/config_page.py from docs/configuration.md.
.Dd {date}
.Dt SKERRY.YAML 5
.Os
.Sh NAME
.Nm skerry.yaml
.Nd configuration of the Skerry broker
.Sh DESCRIPTION
.Nm
is what
.Ql skerry broker -c
reads: YAML, one mapping per section.
Every key has a default, and so the file may be empty or missing.
Unknown keys are errors.
.Ql skerry check
lists all mistakes in a file with line and column;
.Ql skerry help config limits.packet_size
shows one key.
.Pp
{notes}
.Pp
Below, a key that
.Dq changes by restart
cannot be changed by a reload.
"""

TAIL = """.Sh EXAMPLES
Two listeners, one of them for the whole network, and metrics:
.Bd -literal -offset indent
broker:
  id: cell-7
  memory_limit: 32MiB
listeners:
  - mqtt://127.0.0.1:1883
  - {url: "mqtt://*:1884", anonymous: true, max_connections: 500}
limits:
  packet_size: 256KiB
metrics:
  listen: "127.0.0.1:9100"
.Ed
.Sh SEE ALSO
.Xr skerry-broker 1 ,
.Xr skerry-check 1
"""


def text(markdown):
    """One line of running text: Markdown's escapes undone, roff's done."""
    plain = re.sub(r"\\([\\*_|`])", r"\1", markdown.replace("`", "")).replace("\\", "\\e")
    return re.sub(r"^([.'])", r"\\&\1", plain)


def sentences(markdown):
    """A sentence a line, as roff wants it."""
    return "\n".join(text(part) for part in re.split(r"(?<=[a-z)]\.) (?=[A-Z])", markdown))


def key(row):
    name, default, takes, changes, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])
    return "\n".join(
        [f".It Cm {text(name)}", sentences(meaning), f"Takes {text(takes)}.", f"Default: {text(default)}.", f"Changes by {changes}."]
    )


def section(title, body):
    lines = [line for line in body.strip().splitlines() if line]
    rows = [line for line in lines if line.startswith("| `")]
    prose = [line for line in lines if not line.startswith("|")]
    assert rows and prose, title
    return "\n".join(
        [f".Ss {title}", *(sentences(line) for line in prose), ".Bl -tag -width Ds", *(key(row) for row in rows), ".El", ""]
    )


def date():
    found = re.search(r"^\.Dd (.*)$", PAGE.read_text(), re.M) if PAGE.exists() else None
    return found[1] if found else "January 1, 1970"


def make(page_date):
    introduction, *parts = re.split(r"^## ", SOURCE.read_text(), flags=re.M)
    notes = [line for line in introduction.split("\n") if line.startswith(("Sizes", "On the command", "SIGHUP"))]
    assert len(notes) == 3, notes
    sections = [section(*part.split("\n", 1)) for part in parts]
    head = HEAD.format(date=page_date, notes="\n.Pp\n".join(sentences(note) for note in notes))
    return head + ".Sh KEYS\n" + "".join(sections) + TAIL


def main():
    parser = argparse.ArgumentParser(description="Makes skerry.yaml.5.")
    parser.add_argument("--date", default=date(), help='of the page: "January 31, 2026"')
    print(make(parser.parse_args().date), end="")


if __name__ == "__main__":
    main()
