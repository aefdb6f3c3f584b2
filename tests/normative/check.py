#!/usr/bin/python3
"""Checks the tables of the standards' normative statements: each is there once, and what binds a server is tested.

The tables are tab-separated: statement, binds (server, client, both), test, in short. The test is one of

  tests/integration/test_x.py::test_y   a function of a Python file, from the root of the repository
  unit:core/shard_test.c::some_test     a cmocka test function, the file from tests/unit
  sim:publish                           an oracle of the simulation, oracle_publish
  untestable: why                       no test is possible, and why
  -                                     for statements that bind clients only

several of the first three separated by commas. `in short` is a paraphrase: the standard's own words are in the standard.

ids_*.txt hold the numbers as the standards have them, frozen: a table with a row too few or too many fails. Numbers run
from 1 within a section; KNOWN_GAPS are the standards' own. The last line is `N passed, N failed`, counted in statements.
"""

import ast
import functools
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# table: (file of the numbers, how many there are)
TABLES = {"mqtt5.tsv": ("ids_mqtt5.txt", 251), "mqtt311.tsv": ("ids_mqtt311.txt", 141), "mqtt31.tsv": (None, 19)}
KNOWN_GAPS = {"mqtt5.tsv": {"MQTT-2.2.1-1"}}
HEADER = "statement\tbinds\ttest\tin short"
OWN_NUMBER = re.compile(r"MQTT31-([1-9]\d*)$")
NUMBER = re.compile(r"(MQTT-\d+(?:\.\d+)+)-([1-9]\d*)$")


@functools.cache
def python_tests(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@functools.cache
def unit_tests(path):
    """Functions that the file hands to cmocka."""
    text = (ROOT / "tests/unit" / path).read_text()
    return set(re.findall(r"cmocka_unit_test\w*\(\s*(\w+)", text)) | set(
        re.findall(r"^static void (\w+)\(void \*\*", text, re.M)
    )


@functools.cache
def oracles():
    text = "".join(path.read_text() for path in sorted((ROOT / "sim").glob("*.[ch]")))
    return set(re.findall(r"\boracle_(\w+)\(", text))


def test_problem(test):
    """Why this is no test, or None."""
    try:
        if match := re.fullmatch(r"(tests/integration/test_\w+\.py)::(test_\w+)", test):
            return None if match[2] in python_tests(match[1]) else "no such function"
        if match := re.fullmatch(r"unit:([\w/]+_test\.c)::(\w+)", test):
            return None if match[2] in unit_tests(match[1]) else "no such function"
        if match := re.fullmatch(r"sim:(\w+)", test):
            return None if match[1] in oracles() else "no such oracle"
    except (OSError, SyntaxError) as error:
        return str(error)
    return "not a test's name"


def row_problems(binds, tests, short):
    if binds not in ("server", "client", "both"):
        yield f'binds "{binds}"'
    if not 10 <= len(short) <= 250 or not short.endswith((".", ").")):
        yield "the paraphrase is missing, too long, or has no full stop"
    if tests == "-":
        if binds != "client":
            yield "binds the server and has no test"
        return
    if tests.startswith("untestable:"):
        if len(tests.removeprefix("untestable:").split()) < 5:
            yield "says untestable without a real reason"
        return
    for test in tests.split(", "):
        if problem := test_problem(test):
            yield f"{test}: {problem}"


def sequence_problems(name, statements):
    """Numbers that a section leaves out."""
    sections = {}
    for statement in statements:
        own, found = OWN_NUMBER.match(statement), NUMBER.match(statement)
        if own:
            sections.setdefault("MQTT31", set()).add(int(own[1]))
        elif found:
            sections.setdefault(found[1], set()).add(int(found[2]))
        else:
            yield statement, "not a statement's number"
    for section, numbers in sections.items():
        for number in range(1, max(numbers) + 1):
            statement = f"{section}-{number}"
            if number not in numbers and statement not in KNOWN_GAPS.get(name, ()):
                yield statement, "left out of its section"


def check_table(name):
    """(rows, problems): rows as lists, problems as (statement, what)."""
    ids_file, count = TABLES[name]
    problems, rows = [], []
    lines = [line for line in (HERE / name).read_text().splitlines() if not line.startswith("#")]
    if lines[:1] != [HEADER]:
        problems.append((name, "the header is not as it should be"))
    for line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != 4:
            problems.append((cells[0], "has not four cells"))
            continue
        rows.append(cells)
        problems += [(cells[0], what) for what in row_problems(*cells[1:])]
    statements = [row[0] for row in rows]
    wanted = (HERE / ids_file).read_text().split() if ids_file else [f"MQTT31-{n}" for n in range(1, count + 1)]
    if len(wanted) != count:
        problems.append((ids_file, f"{len(wanted)} numbers instead of {count}"))
    problems += [(s, "is missing") for s in wanted if s not in statements]
    problems += [(s, "is not in the standard") for s in statements if s not in wanted]
    problems += [(s, "is there twice") for s in set(statements) if statements.count(s) > 1]
    if sorted(statements, key=wanted.index if set(statements) <= set(wanted) else None) != statements:
        problems.append((name, "is not in the order of the standard"))
    problems += list(sequence_problems(name, wanted))
    return rows, problems


def main():
    passed = failed = 0
    for name in TABLES:
        rows, problems = check_table(name)
        for statement, what in problems:
            print(f"{name}: {statement}: {what}")
        bad = {statement for statement, _ in problems}
        failed += len(bad)
        passed += sum(row[0] not in bad for row in rows)
        server = [row for row in rows if row[1] != "client"]
        untestable = [row for row in server if row[2].startswith("untestable:")]
        print(
            f"{name}: {len(rows)} statements, {len(server)} bind a server: "
            f"{len(server) - len(untestable)} tested, {len(untestable)} untestable"
        )
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
