"""flock and the record locks of fcntl, between processes."""

import fcntl
import os
import struct
import time
from errno import EACCES, EAGAIN, EBADF, EDEADLK

from suite import *

SHARED, EXCLUSIVE, UNLOCK, TRY = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
F_OFD_SETLK = 37


def record(fd, type, start=0, length=0, wait=False, command=None):
    request = struct.pack("hhqqi4x", type, os.SEEK_SET, start, length, 0)
    return fcntl.fcntl(fd, command or (fcntl.F_SETLKW if wait else fcntl.F_SETLK), request)


def holder(fd, type, start=0, length=0):
    """The process whose lock is in the way of such a lock; None where nothing is."""
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", type, os.SEEK_SET, start, length, 0))
    found, _, _, _, pid = struct.unpack("hhqqi4x", answer)
    return None if found == NONE else pid


def another(take):
    """Whether another process, that opens the file anew, can take the lock."""

    def attempt():
        with opened("f", os.O_RDWR) as fd:
            try:
                take(fd)
            except OSError as error:
                assert error.errno in (EACCES, EAGAIN), str(error)
                return False
            return True

    return elsewhere(attempt)


def can_flock(how):
    return another(lambda fd: fcntl.flock(fd, how | TRY))


def can_record(type, start=0, length=0):
    return another(lambda fd: record(fd, type, start, length))


# flock

for held, wanted, allowed in (
        (SHARED, SHARED, True), (SHARED, EXCLUSIVE, False), (EXCLUSIVE, SHARED, False), (EXCLUSIVE, EXCLUSIVE, False),
        (UNLOCK, EXCLUSIVE, True)):
    def check(held=held, wanted=wanted, allowed=allowed):
        with opened("f") as fd:
            fcntl.flock(fd, held)
            equal(can_flock(wanted), allowed)
        equal(can_flock(wanted), True, "after the close")

    words = {SHARED: "shared", EXCLUSIVE: "exclusive", UNLOCK: "no"}
    case(f"flock/{words[wanted]}-beside-{words[held]}-lock", file("f"))(check)


@case("flock/another-descriptor-of-the-same-process", file("f"))
def _():
    with opened("f") as one, opened("f") as two:
        fcntl.flock(one, EXCLUSIVE)
        with fails(EAGAIN):
            fcntl.flock(two, EXCLUSIVE | TRY)
        fcntl.flock(one, UNLOCK)
        fcntl.flock(two, EXCLUSIVE | TRY)


@case("flock/upgrade-and-downgrade", file("f"))
def _():
    with opened("f") as fd:
        fcntl.flock(fd, SHARED)
        fcntl.flock(fd, EXCLUSIVE | TRY)
        equal(can_flock(SHARED), False)
        fcntl.flock(fd, SHARED | TRY)
        equal((can_flock(SHARED), can_flock(EXCLUSIVE)), (True, False))


@case("flock/lives-as-long-as-a-duplicate", file("f"))
def _():
    fd = os.open("f", os.O_RDONLY)
    fcntl.flock(fd, EXCLUSIVE)
    same = os.dup(fd)
    os.close(fd)
    equal(can_flock(SHARED), False)
    os.close(same)
    equal(can_flock(SHARED), True)


@case("flock/of-a-child-holds-and-ends-with-it", file("f"))
def _():
    with meanwhile(lambda: fcntl.flock(os.open("f", os.O_RDONLY), EXCLUSIVE)):
        equal(can_flock(EXCLUSIVE), False)
    equal(can_flock(EXCLUSIVE), True)


@case("flock/survives-changes-of-the-file", file("f"))
def _():
    with opened("f") as fd:
        fcntl.flock(fd, EXCLUSIVE)
        append("f", b"more")
        os.chmod("f", 0o600)
        os.rename("f", "g")
        os.rename("g", "f")
        equal(can_flock(EXCLUSIVE), False)


@case("flock/by-any-name", file("f"))
def _():
    os.link("f", "g")
    with opened("g") as fd:
        fcntl.flock(fd, EXCLUSIVE)
        equal(can_flock(EXCLUSIVE), False)


@case("flock/of-a-directory", directory("f"))
def _():
    def attempt():
        with opened("f") as fd:
            fcntl.flock(fd, EXCLUSIVE | TRY)

    with opened("f") as fd:
        fcntl.flock(fd, EXCLUSIVE)
        with fails(EAGAIN):
            elsewhere(attempt)
    elsewhere(attempt)


@case("flock/waits", file("f"))
def _():
    def hold():
        fd = os.open("f", os.O_RDONLY)
        fcntl.flock(fd, EXCLUSIVE)

    with meanwhile(hold) as pid, opened("f") as fd:
        started = time.monotonic()
        if os.fork() == 0:
            time.sleep(0.2)
            os.kill(pid, 9)
            os._exit(0)
        fcntl.flock(fd, EXCLUSIVE)
        assert time.monotonic() - started > 0.1


# Record locks

for held, wanted, allowed in ((READ, READ, True), (READ, WRITE, False), (WRITE, READ, False), (WRITE, WRITE, False)):
    def check(held=held, wanted=wanted, allowed=allowed):
        with opened("f", os.O_RDWR) as fd:
            record(fd, held)
            equal(can_record(wanted), allowed)
            record(fd, NONE)
            equal(can_record(wanted), True, "after the unlock")

    words = {READ: "read", WRITE: "write"}
    case(f"record-lock/{words[wanted]}-beside-{words[held]}-lock", file("f"))(check)


@case("record-lock/ranges", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        record(fd, WRITE, 100, 100)
        equal([can_record(WRITE, *place) for place in ((0, 100), (0, 101), (150, 1), (199, 1), (200, 0), (1 << 40, 5))],
              [True, False, False, False, True, True])
        record(fd, NONE, 120, 10)
        equal([can_record(WRITE, *place) for place in ((120, 10), (119, 1), (130, 1))], [True, False, False])
        record(fd, READ, 100, 20)
        equal([can_record(READ, 100, 20), can_record(WRITE, 100, 20)], [True, False])


@case("record-lock/who-holds-it", file("f"))
def _():
    with meanwhile(lambda: record(os.open("f", os.O_RDWR), WRITE, 10, 5)) as pid, opened("f", os.O_RDWR) as fd:
        equal(holder(fd, READ, 12, 1), pid)
        equal(holder(fd, WRITE), pid)
        equal(holder(fd, WRITE, 15, 5), None)
    with opened("f", os.O_RDWR) as fd:
        equal(holder(fd, WRITE), None)


@case("record-lock/goes-with-any-close", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        record(fd, WRITE)
        equal(can_record(WRITE), False)
        touch("f", os.O_RDONLY)
        equal(can_record(WRITE), True)


@case("record-lock/not-handed-to-children", file("f"))
def _():
    def attempt():
        record(fd, WRITE)

    with opened("f", os.O_RDWR) as fd:
        record(fd, WRITE)
        with fails(EAGAIN, EACCES):
            elsewhere(attempt)


@case("record-lock/own-locks-do-not-conflict", file("f"))
def _():
    with opened("f", os.O_RDWR) as one, opened("f", os.O_RDWR) as two:
        record(one, WRITE)
        record(two, WRITE)
        record(two, READ)


@case("record-lock/needs-the-right-descriptor", file("f"))
def _():
    with opened("f", os.O_RDONLY) as reader, opened("f", os.O_WRONLY) as writer:
        record(reader, READ)
        record(writer, WRITE)
        for fd, type in ((reader, WRITE), (writer, READ)):
            with fails(EBADF):
                record(fd, type)


@case("record-lock/survives-changes-of-the-file", file("f"))
def _():
    reader = os.open("f", os.O_RDONLY)
    record(reader, READ)

    def change():
        append("f", b"more")
        os.chmod("f", 0o600)
        os.rename("f", "g")
        os.rename("g", "f")

    elsewhere(change)
    equal((can_record(READ), can_record(WRITE)), (True, False))


@case("record-lock/waits", file("f"))
def _():
    with meanwhile(lambda: record(os.open("f", os.O_RDWR), WRITE)) as pid, opened("f", os.O_RDWR) as fd:
        started = time.monotonic()
        if os.fork() == 0:
            time.sleep(0.2)
            os.kill(pid, 9)
            os._exit(0)
        record(fd, WRITE, wait=True)
        assert time.monotonic() - started > 0.1


@case("record-lock/deadlock-is-refused", file("f"))
def _():
    ready = os.pipe()

    def other():
        with opened("f", os.O_RDWR) as fd:
            record(fd, WRITE, 1, 1)
            os.write(ready[1], b"+")
            record(fd, WRITE, 0, 1, wait=True)

    with opened("f", os.O_RDWR) as fd:
        record(fd, WRITE, 0, 1)
        if (pid := os.fork()) == 0:
            other()
            os._exit(0)
        os.read(ready[0], 1)
        time.sleep(0.1)
        with fails(EDEADLK):
            record(fd, WRITE, 1, 1, wait=True)
    os.waitpid(pid, 0)


@case("record-lock/of-the-open-file-description", file("f"))
def _():
    with opened("f", os.O_RDWR) as one, opened("f", os.O_RDWR) as two:
        record(one, WRITE, command=F_OFD_SETLK)
        with fails(EAGAIN, EACCES):
            record(two, WRITE, command=F_OFD_SETLK)
        touch("f", os.O_RDONLY)
        equal(can_record(READ), False, "after the close of another descriptor")


@case("record-lock/lockf", file("f", content=b"x" * 100))
def _():
    with opened("f", os.O_RDWR) as fd:
        os.lseek(fd, 50, os.SEEK_SET)
        os.lockf(fd, os.F_LOCK, 10)
        equal([can_record(WRITE, 50, 10), can_record(WRITE, 0, 50), can_record(WRITE, 60, 0)], [False, True, True])
        os.lockf(fd, os.F_ULOCK, 10)
        equal(can_record(WRITE), True)


@case("record-lock/apart-from-flock", file("f"))
def _():
    with opened("f", os.O_RDWR) as fd:
        fcntl.flock(fd, EXCLUSIVE)
        equal(can_record(WRITE), True)
        record(fd, WRITE)
        equal(can_flock(SHARED), False)


@case("record-lock/counts-without-loss", file("count", content=b"0"))
def _():
    def increment(times):
        for _ in range(times):
            with opened("count", os.O_RDWR) as fd:
                record(fd, WRITE, wait=True)
                number = int(os.pread(fd, 20, 0)) + 1
                os.pwrite(fd, b"%d" % number, 0)

    children = []
    for _ in range(3):
        if (pid := os.fork()) == 0:
            increment(100)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    equal(read("count"), b"300")
