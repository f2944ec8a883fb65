"""Files that are whole or as they were before."""

from __future__ import annotations

import io
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
