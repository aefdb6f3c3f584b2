"""Writes, resizes, renames and removes files here at random; run under powercut.c by crash.py --prove.

    scribble.py SEED SNAPSHOT

In the middle everything is synced, and what is there then is copied to the directory SNAPSHOT.
"""

import os
import random
import shutil
import sys

NAMES = ["a", "b", "c", "d"]


def step(chance):
    name, kind = chance.choice(NAMES), chance.random()
    if kind < 0.5:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if chance.random() < 0.1 else 0), 0o600)
        os.pwrite(fd, chance.randbytes(chance.choice([1, 100, 512, 3000])), chance.choice([0, 0, 7, 512, 1500]))
        os.close(fd)
    elif kind < 0.6:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, chance.randbytes(700))
        os.close(fd)
    elif kind < 0.8:
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        if chance.random() < 0.5:
            os.posix_fallocate(fd, 0, chance.randint(1, 4000))
        else:
            os.ftruncate(fd, chance.randint(0, 3000))
        os.close(fd)
    elif kind < 0.9:
        if os.path.exists(name):
            os.rename(name, chance.choice(NAMES))
    elif os.path.exists(name):
        os.unlink(name)


def sync_all():
    for name in [name for name in os.listdir() if name in NAMES]:
        fd = os.open(name, os.O_RDONLY)
        os.fdatasync(fd)
        os.close(fd)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def main():
    chance = random.Random(int(sys.argv[1]))
    for _ in range(30):
        step(chance)
    sync_all()
    shutil.copytree(".", sys.argv[2])
    for _ in range(30):
        step(chance)


if __name__ == "__main__":
    main()
