#!/usr/bin/python3
"""Proves that the pure folders call no system, and that includes point down.

    tests/purity.py [BUILD]        (default: build-check; an uninstrumented build)

Pure is what the design says: time, bytes and completions come in as arguments, effects go out as data. So the archives of
those folders may refer to nothing but each other, memory and strings, and hold no memory that outlives a call.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Each folder may include from itself and from those before it.
ORDER = (
    "base mqtt wire core bridge tls auth security store rules pki cluster fleet net broker agent tower cli".split()
)
PURE = {"base", "mqtt", "wire", "core", "bridge", "fleet"}

SYMBOLS = re.compile(
    r"""^(
    _?mem(cpy|move|set|cmp|chr|rchr|mem|pcpy)
  | str(n?len|n?cmp|n?casecmp|r?chr|chrnul|str|n?cpy|pcpy|spn|cspn|pbrk|sep|tok_r|n?dup)
  | strto(u?l|u?ll|d|u?max) | __isoc\d+_strto\w+
  | malloc | calloc | realloc | reallocarray | free
  | snprintf | vsnprintf | qsort | bsearch | abort
  | __assert_fail | __stack_chk_fail | __cpu_model
  | __(mem|str)\w+_chk | __v?snprintf_chk
  | wslay_\w+
  | _GLOBAL_OFFSET_TABLE_ | __(u?(div|mod|mul|ash|lsh)\w+|clz\w+|ctz\w+|popcount\w+|aeabi_\w+) | __atomic_\w+
)$""",
    re.VERBOSE,
)

HEADERS = set(
    """assert errno float inttypes iso646 limits math stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib
    stdnoreturn string""".split()
)


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def report(self, what, problems):
        for problem in problems:
            print(f"  {what}: {problem}")
        self.passed += not problems
        self.failed += bool(problems)


def nm(archive, *options):
    """(object, fields) of each line, in nm's "sysv" form: name, value, class, type, size, line, section."""
    out = subprocess.run(["nm", "-A", "-f", "sysv", *options, archive], check=True, text=True, capture_output=True).stdout
    for line in out.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 7 and ":" in fields[0]:
            where, name = fields[0].rsplit(":", 1)
            yield where.rsplit(":", 1)[-1].rsplit("/", 1)[-1], name, fields[2], fields[6]


def check_archive(folder, archive, ours):
    """Undefined symbols that nobody pure defines, and memory that can be written and outlives a call."""
    problems = []
    for where, name, kind, section in nm(archive):
        name = name.split("@")[0]
        if kind in "Uwv" and name not in ours and not SYMBOLS.match(name):
            problems.append(f"{where} refers to {name}")
        if re.match(r"\.t?(data|bss)(?!\.rel\.ro)", section) or kind == "C":
            problems.append(f"{where} has a variable of its own: {name}")
    return problems


def check_archives(build, checks):
    ours = set()
    for folder in [name for name in ORDER if name in PURE]:
        if not list((ROOT / "src" / folder).glob("*.c")):
            continue
        archive = build / "src" / folder / f"lib{folder}.a"
        if not archive.exists():
            checks.report(folder, [f"{archive} was not built"])
            continue
        # A folder may call those below it: only what has been seen up to here counts as ours.
        ours |= {name for _, name, kind, _ in nm(archive, "--defined-only") if kind.isupper() or kind in "VW"}
        checks.report(folder, check_archive(folder, archive, ours))


def check_includes(folder, checks):
    allowed = ORDER[: ORDER.index(folder) + 1]
    problems = []
    for path in sorted((ROOT / "src" / folder).rglob("*.[ch]")):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            top = name.split("/")[0] if "/" in name else None
            if top not in ORDER:
                problems.append(f'{where} includes "{name}": write it as folder/file.h')
            elif top not in allowed:
                problems.append(f'{where} includes "{name}": {top} is above {folder}')
        for name in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.MULTILINE):
            if folder in PURE and name.removesuffix(".h") not in HEADERS and not name.startswith("wslay/"):
                problems.append(f"{where} includes <{name}>: not for a pure folder")
    checks.report(f"includes of {folder}", problems)


def main():
    build = (ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build-check")).resolve()
    checks = Checks()
    check_archives(build, checks)
    folders = [path.name for path in sorted((ROOT / "src").iterdir()) if path.is_dir()]
    for folder in folders:
        if folder in ORDER:
            check_includes(folder, checks)
        else:
            checks.report(folder, ["src/ has a folder that the order of includes does not know"])
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
