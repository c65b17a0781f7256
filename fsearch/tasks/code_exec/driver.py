"""What runs inside the sandbox: takes one step after another, runs it, says what became of it.

It is started as a file, by path, with the standard library alone: nothing of fsearch is in sight there.

File descriptor 0 is the channel, a socket. A step comes in as its length (4 bytes, big endian), its source
and a seal of SEAL_BYTES; the answer is the seal, a word of WORDS, a space, a reason and a line end. The seal
is read only after the source has run: a program that looks through frames, objects or memory finds no seal
that is still good for anything, nor the tests that are yet to come.
"""

from __future__ import annotations

import builtins
import errno
import os
import resource
import select
import signal
import sys
import types

CPU_LIMIT_S = 10
MEMORY_LIMIT_MIB = 1024
PROCESS_LIMIT = 16
FILE_LIMIT_MIB = 16
OPEN_FILE_LIMIT = 64
FILES_LIMIT = 10_000

SEAL_BYTES = 16
WORDS = ("ok", "syntax", "assertion", "refused", "error")
TOO_MANY_PROCESSES, TOO_MUCH_MEMORY, TOO_MANY_FILES = 120, 121, 122
TOO_MUCH = {
    TOO_MANY_PROCESSES: f"more than {PROCESS_LIMIT} processes",
    TOO_MUCH_MEMORY: f"more than {MEMORY_LIMIT_MIB} MiB of memory in all its processes together",
    TOO_MANY_FILES: f"more than {FILES_LIMIT:,} files",
}
"""Exit statuses of `watch` and what they stand for."""

_REFUSED = {
    *(errno.EPERM, errno.EACCES, errno.EROFS),
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED),
}
_LOOK_EVERY_S = 0.01
_REASON_LENGTH = 300
_LINKS = 20  # of a chain of exceptions

# The functions below look names up in this copy: a program that replaces `exec` or `isinstance` for itself
# does not replace them for us.
globals()["__builtins__"] = dict(vars(builtins))


def main() -> None:
    """`driver.py` runs the steps; `driver.py watch` has a child of its own do so, and keeps an eye on it."""
    channel = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    limit()
    if sys.argv[1:] == ["watch"]:
        child = os.fork()
        if child:
            os.close(channel)
            watch(child)
    serve(channel)


def limit() -> None:
    """Limits of the kernel, for this process and each that it starts."""
    mib = 2**20
    for what, most in (
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_AS, MEMORY_LIMIT_MIB * mib),
        (resource.RLIMIT_NPROC, 2 * PROCESS_LIMIT),
        (resource.RLIMIT_FSIZE, FILE_LIMIT_MIB * mib),
        (resource.RLIMIT_NOFILE, OPEN_FILE_LIMIT),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # At the soft limit of processor time the kernel says which it was, at the hard one it just kills.
        resource.setrlimit(what, (most, most + 1 if what == resource.RLIMIT_CPU and hard != most else most))


def watch(child: int) -> None:
    """Wait for the child; end everything where all processes of this PID namespace together take too much.

    The kernel limits the memory of one process. This is process 1 of its namespace: nothing in there
    can kill or stop it, and when it ends, all of it does.
    """
    handle = os.pidfd_open(child)
    while True:
        select.select([handle], [], [], _LOOK_EVERY_S)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # also what has lost its parent
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                os._exit(code if code >= 0 else 128 - code)
        pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
        room = os.statvfs("/tmp")
        if len(pids) - 1 > PROCESS_LIMIT:  # the first is this one
            end_all(TOO_MANY_PROCESSES)
        if sum(map(_resident_bytes, pids)) > MEMORY_LIMIT_MIB * 2**20:
            end_all(TOO_MUCH_MEMORY)
        if room.f_files - room.f_ffree > FILES_LIMIT:
            end_all(TOO_MANY_FILES)


def end_all(status: int) -> None:
    """Kill every process of this PID namespace at once, then end it."""
    try:
        os.kill(-1, signal.SIGKILL)  # all but this one, before a fork bomb takes the time to end them singly
    finally:
        os._exit(status)


def _resident_bytes(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):  # it has ended meanwhile
        return 0


def serve(channel: int) -> None:
    """Run what comes in until nothing comes any more, in the namespace of one module."""
    read, write, leave, pid = os.read, os.write, os._exit, os.getpid
    own = pid()
    program = types.ModuleType("program")  # not "__main__": what a script does when started is not tested
    program.__dict__["__builtins__"] = builtins
    sys.modules["program"] = sys.modules["__main__"] = program

    def take(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = read(channel, count - len(data))
            if not more:
                leave(0)
            data += more
        return data

    while True:
        source = take(int.from_bytes(take(4), "big"))
        word, reason = step(source, program.__dict__)
        if pid() != own:  # a child that the program forked has come back here
            leave(0)
        answer = take(SEAL_BYTES) + word.encode() + b" " + reason + b"\n"
        while answer:
            answer = answer[write(channel, answer) :]


def step(source: bytes, names: dict[str, object]) -> tuple[str, bytes]:
    """Run a source; a word and a reason."""
    try:
        text = source.decode("utf-8", "surrogatepass")
        # `dont_inherit`: this file's __future__ is not the program's. `optimize`: asserts stay.
        code = compile(text, "<program>", "exec", dont_inherit=True, optimize=0)
    except BaseException as error:
        return "syntax", said(error)
    try:
        exec(code, names)
    except AssertionError as error:
        return "assertion", said(error)
    except BaseException as error:
        return "refused" if refused(error) else "error", said(error)
    return "ok", b""


def refused(error: BaseException | None) -> bool:
    """Whether an access that the sandbox refuses stands behind an exception."""
    for _ in range(_LINKS):
        if isinstance(error, OSError):
            number = error.errno
            if number is not None and (number < 0 or number in _REFUSED):  # below 0: no name is resolved
                return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


def said(error: BaseException) -> bytes:
    """Kind and text of an exception in one line, which may take code of the program to find out."""
    try:
        kind = type(error).__name__
        text = " ".join(str(error)[: 4 * _REASON_LENGTH].split())
        return f"{kind}: {text}"[:_REASON_LENGTH].encode("utf-8", "replace") if text else kind.encode()
    except BaseException:
        return b"an exception that cannot be put into words"


if __name__ == "__main__":
    main()
