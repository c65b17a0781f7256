"""What a process prints: kept as it came, within a limit, and without harm to whoever keeps it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fsearch.daemon.logs import HEAD_BYTES, TAIL_BYTES, Log, remove_oldest


def logged(path: Path, program: str) -> bytes:
    """What is left of what a real process prints, which nobody waits for."""
    log = Log(path)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=log.writer, stderr=log.writer)
    os.close(log.writer)
    while process.poll() is None:
        log.drain()
    log.close()
    return path.read_bytes() if path.exists() else b""


def test_what_is_printed_is_kept_as_it_is(tmp_path: Path) -> None:
    """Bytes that are no text, terminal commands and lines without an end."""
    program = "import os; os.write(2, bytes(range(256)) + b'\\x1b[31m no end')"
    assert logged(tmp_path / "log", program) == bytes(range(256)) + b"\x1b[31m no end"


def test_nothing_printed_no_file(tmp_path: Path) -> None:
    """A log folder without files is one without complaints."""
    assert logged(tmp_path / "log", "pass") == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [-1, 0, 1, 100_000])
def test_around_the_limit(tmp_path: Path, extra: int) -> None:
    """Up to the limit nothing is lost; beyond it the middle is, and is said to be."""
    size = HEAD_BYTES + TAIL_BYTES + extra
    content = (b"%07d\n" * (size // 8 + 1)) % tuple(range(size // 8 + 1))
    (tmp_path / "content").write_bytes(content[:size])
    program = f"import os; data = open({str(tmp_path / 'content')!r}, 'rb').read()\n"
    program += "while data: data = data[os.write(1, data):]"
    found = logged(tmp_path / "log", program)
    if extra <= 0:
        assert found == content[:size]
    else:
        cut = b"\n[... %d bytes are left out here ...]\n" % extra
        assert found == content[:HEAD_BYTES] + cut + content[size - TAIL_BYTES : size]


def test_a_flood_takes_neither_disk_nor_memory(tmp_path: Path) -> None:
    """100 MB in one line: half a MiB on the disk, and no more than a few MiB here."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = logged(tmp_path / "log", "import os\nfor _ in range(1600): os.write(2, b'x' * 62500)")
    assert HEAD_BYTES + TAIL_BYTES < len(found) < HEAD_BYTES + TAIL_BYTES + 100
    assert b"bytes are left out here" in found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 16 << 10


def test_a_log_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    """The process is read to its end."""
    (tmp_path / "file").write_text("")
    assert logged(tmp_path / "file" / "log", "print('x' * 3000000)") == b""


def test_the_oldest_go(tmp_path: Path) -> None:
    """Of five logs of 10 bytes the newest three fit in 35; other files are nobody's business here."""
    for number in range(5):
        path = tmp_path / f"{number}.log"
        path.write_bytes(bytes(10))
        os.utime(path, (number, number))
    (tmp_path / "other").write_bytes(bytes(1000))
    remove_oldest(tmp_path, 35)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.log", "3.log", "4.log", "other"]
