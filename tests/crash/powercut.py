"""Takes back what a power cut would have taken: reads the undo log of powercut.c and rolls the directory back.

What was synced stays. Of what was not, any may be there: each sector has a history of contents since the last sync of its
file, and the disk may hold any of them; of the changes of a directory since its last sync the first few.
"""

import collections
import contextlib
import os
import pathlib
import struct

SECTOR = 512
HEADER = struct.Struct("=IIIIQQQQ")
WRITE, RESIZE, SYNC, CREATE, RENAME, UNLINK, SYNC_DIRECTORY = range(1, 8)
MODES = ("all", "none", "random", "prefix")

Record = collections.namedtuple("Record", "at kind file offset length size one two data")


def read_log(path):
    """The records in order. The last one may be cut off: then what it describes was not done either."""
    with open(path, "rb") as log:
        raw = log.read()
    at = 0
    while at + HEADER.size <= len(raw):
        kind, one_size, two_size, data_size, file, offset, length, size = HEADER.unpack_from(raw, at)
        begin = at + HEADER.size
        if begin + one_size + two_size + data_size > len(raw):
            return
        assert WRITE <= kind <= SYNC_DIRECTORY, f"not an undo log: {path} at {at}"
        one = raw[begin : begin + one_size].decode()
        two = raw[begin + one_size : begin + one_size + two_size].decode()
        data = raw[begin + one_size + two_size : begin + one_size + two_size + data_size]
        yield Record(at, kind, file, offset, length, size, one, two, data)
        at = begin + one_size + two_size + data_size


class PowerCut:
    """The undo log of one directory. `environment` is for the process to watch; `cut` after its end rolls back."""

    def __init__(self, library, directory, log, lie=None, delay_us=0):
        self.directory, self.log = pathlib.Path(directory), pathlib.Path(log)
        self.kept = pathlib.Path(f"{log}.kept")
        self.fault_file = pathlib.Path(f"{log}.fault")
        self.hold_file = pathlib.Path(f"{log}.hold")
        self.environment = {
            "LD_PRELOAD": str(library),
            "POWERCUT_DIRECTORY": str(directory),
            "POWERCUT_LOG": str(log),
            "POWERCUT_LIE": lie or "",
            "POWERCUT_DELAY_US": str(delay_us),
            "POWERCUT_FAULT": str(self.fault_file),
            "POWERCUT_HOLD": str(self.hold_file),
            # The library has nothing to do with the sanitizer that wants to be first.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }

    def fault(self, kind):
        """'writes' or 'syncs' fail from now on, None: no more."""
        if kind:
            self.fault_file.write_text(kind[0])
        else:
            self.fault_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self):
        """No sync of a file ends meanwhile: what waits for the disk waits for the end of this."""
        self.hold_file.touch()
        try:
            yield
        finally:
            self.hold_file.unlink()

    def records(self):
        return list(read_log(self.log)) if self.log.exists() else []

    def clear(self):
        """What is there now is on the disk."""
        self.log.unlink(missing_ok=True)
        if self.kept.exists():
            for name in self.kept.iterdir():
                name.unlink()

    def cut(self, mode, random):
        """Rolls back and begins a new log. Returns how many (sectors, directory changes) were taken back."""
        records = self.records()
        until = None  # with "prefix": nothing from here on has reached the disk, everything before has
        if mode == "prefix" and records:
            until = random.choice(records).at
        choose = Chooser(mode, random, until)
        sectors = self._roll_back_files(records, choose)
        changes = self._roll_back_directories(records, choose)
        self.clear()
        return sectors, changes

    def _paths(self):
        """Any name of each file, by inode."""
        found = {}
        for top in (self.kept, self.directory):
            for path in top.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    found[path.stat().st_ino] = path
        return found

    def _roll_back_files(self, records, choose):
        safe = {}
        for record in records:
            if record.kind == SYNC:
                safe[record.file] = record.offset
        histories = {}
        for record in records:
            if record.kind in (WRITE, RESIZE) and record.at >= safe.get(record.file, 0):
                histories.setdefault(record.file, History()).add(record)
        paths = self._paths()
        return sum(history.apply(paths[file], choose) for file, history in histories.items() if file in paths)

    def _roll_back_directories(self, records, choose):
        safe = {}
        for record in records:
            if record.kind == SYNC_DIRECTORY:
                safe[os.path.normpath(record.one)] = record.offset
        changes = [
            record for record in records
            if record.kind in (CREATE, RENAME, UNLINK) and record.at >= safe.get(os.path.dirname(record.one), 0)
        ]
        lost = changes[choose.directory(changes) :]
        for record in reversed(lost):
            self._undo(record)
        return len(lost)

    def _undo(self, record):
        kept = self.kept / record.data.decode() if record.data else None
        # Each is noted before it is done: the last of all may not have been.
        if record.kind == CREATE:
            pathlib.Path(record.one).unlink(missing_ok=True)
        elif record.kind == RENAME:
            if not os.path.exists(record.one):
                os.rename(record.two, record.one)
                if kept:
                    os.link(kept, record.two)
        elif not os.path.exists(record.one):
            os.link(kept, record.one)


class Chooser:
    def __init__(self, mode, random, until):
        assert mode in MODES
        self.mode, self.random, self.until = mode, random, until
        self.loss = random.choice([0.05, 0.5, 0.95])

    def version(self, versions):
        """Which content is left. `versions`, oldest first: (position in the undo log when it was replaced, content)."""
        if self.mode == "all":
            return 0
        if self.mode == "none":
            return len(versions) - 1
        if self.mode == "prefix":
            return next(i for i, (at, _) in enumerate(versions) if at is None or at >= self.until)
        return self.random.randrange(len(versions)) if self.random.random() < self.loss else len(versions) - 1

    def directory(self, changes):
        """How many of the changes are left."""
        if self.mode == "all":
            return 0
        if self.mode == "none":
            return len(changes)
        if self.mode == "prefix":
            return sum(record.at < self.until for record in changes)
        return self.random.randint(0, len(changes))


class History:
    """What one file went through since it was synced last."""

    def __init__(self):
        self.sectors = collections.defaultdict(list)  # number: [(position in the undo log, content before)]
        self.sizes = []  # [(position, size before)]

    def add(self, record):
        if record.kind == RESIZE:
            self.sizes.append((record.at, record.size))
            if record.length >= record.size:
                return
            # Cut off: the first sector partly.
            first = record.offset // SECTOR * SECTOR
            self._add_sectors(record, first, record.size, record.data, record.offset - first)
            return
        if record.offset + record.length > record.size:
            self.sizes.append((record.at, record.size))
        self._add_sectors(record, record.offset, record.offset + record.length, record.data, 0)

    def _add_sectors(self, record, begin, end, data, skipped):
        """`skipped`: so many bytes in front of the data are as they were; None stands for them."""
        for at in range(begin, end, SECTOR):
            piece = data[max(at - begin - skipped, 0) : max(at - begin + SECTOR - skipped, 0)]
            lead = max(begin + skipped - at, 0)
            self.sectors[at // SECTOR].append((record.at, lead, piece))

    def apply(self, path, choose):
        lost = 0
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            for number, versions in self.sectors.items():
                chosen = choose.version([(at, None) for at, _, _ in versions] + [(None, None)])
                if chosen == len(versions):
                    continue
                # What each version says of the sector, the newest first, down to the one chosen.
                file.seek(number * SECTOR)
                content = bytearray(file.read(SECTOR).ljust(SECTOR, b"\0"))
                for _, lead, piece in reversed(versions[chosen:]):
                    content[lead:] = piece.ljust(SECTOR - lead, b"\0")
                file.seek(number * SECTOR)
                file.write(content)
                lost += 1
            if self.sizes:
                sizes = [*self.sizes, (None, size)]
                size = sizes[choose.version(sizes)][1]
            file.truncate(size)
        return lost
