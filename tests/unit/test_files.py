"""Files that are whole or as they were before."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from datasync_ingest.errors import ConfigurationError
from datasync_ingest.files import whole_file, write_all


class Sparing(io.RawIOBase):
    """Takes three bytes at a time, as a pipe may."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def write(self, block) -> int:
        self.taken += block[:3]
        return min(3, len(block))


def test_all_of_a_block_is_written_also_where_a_part_is_taken_at_a_time() -> None:
    file = Sparing()
    write_all(file, b"every byte of it")  # type: ignore[arg-type]
    assert bytes(file.taken) == b"every byte of it"


def test_a_file_is_whole_or_as_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    with whole_file(path, room="nothing") as file:
        file.write(b"first")
    with pytest.raises(ZeroDivisionError), whole_file(path, room="nothing") as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"), whole_file(tmp_path / "no" / "x", room=""):
        raise AssertionError("there is no file to write to")


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "ids.txt"
    link.symlink_to(Path("there", "real.txt"))
    for content in (b"first", b"second"):  # the first time it names nothing yet
        with whole_file(link, room="nothing") as file:
            file.write(content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "real.txt").read_bytes() == content
    assert len(list((tmp_path / "there").iterdir())) == 1


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "null"  # of a name that may be replaced without harm
    link.symlink_to("/dev/null")
    with whole_file(link, room="nothing") as file:
        file.write(b"for nobody")
    assert link.is_char_device()
    assert not Path(f"/dev/null.{os.getpid()}.tmp").exists()


def test_a_pipe_stays_a_pipe_and_gets_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with whole_file(pipe, room="nothing") as file:
        file.write(b"for the reader")
    reader.join(30)
    assert read == [b"for the reader"]
    assert pipe.is_fifo()


def test_a_standard_output_that_is_a_pipe_can_be_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as read:
        with os.fdopen(writing, "wb"), whole_file(Path(f"/dev/fd/{writing}"), room="nothing") as file:
            file.write(b"through")
        assert read.read() == b"through"
    assert not list(tmp_path.iterdir())


def test_a_directory_is_named_and_stays(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"), whole_file(tmp_path, room=""):
        raise AssertionError("there is no file to write to")
    assert tmp_path.is_dir()
