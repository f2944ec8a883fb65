"""Settings put into `.env`: every other line stays as it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from datasync_ingest.env_file import changed, put
from datasync_ingest.errors import ConfigurationError

# before | after BATCH_SIZE=1000 was put
CASES = {
    "no file": ("", "BATCH_SIZE=1000\n"),
    "another line": ("TARGET_API_KEY=k\n", "TARGET_API_KEY=k\nBATCH_SIZE=1000\n"),
    "no newline at the end": ("TARGET_API_KEY='k # k'", "TARGET_API_KEY='k # k'\nBATCH_SIZE=1000\n"),
    "in its place": ("A=1\nBATCH_SIZE=5\nB=2\n", "A=1\nBATCH_SIZE=1000\nB=2\n"),
    "exported": ("export BATCH_SIZE=5\n", "export BATCH_SIZE=1000\n"),
    "last line without newline": ("BATCH_SIZE=5", "BATCH_SIZE=1000"),
    "twice": ("BATCH_SIZE=5\nBATCH_SIZE=6\n", "BATCH_SIZE=1000\nBATCH_SIZE=1000\n"),
    "in a comment": ("# BATCH_SIZE=5\n", "# BATCH_SIZE=5\nBATCH_SIZE=1000\n"),
    "in a comment before": ("# BATCH_SIZE=5\nBATCH_SIZE=6\n", "# BATCH_SIZE=5\nBATCH_SIZE=1000\n"),
    "blank lines before": ("A=1\n\n\nBATCH_SIZE=5\n", "A=1\n\n\nBATCH_SIZE=1000\n"),
    "in a value of two lines": ('A="x\nBATCH_SIZE=5\n"\n', 'A="x\nBATCH_SIZE=5\n"\nBATCH_SIZE=1000\n'),
    "a name that is longer": ("MY_BATCH_SIZE=5\n", "MY_BATCH_SIZE=5\nBATCH_SIZE=1000\n"),
    "carriage returns": ("A=1\r\nBATCH_SIZE=5\r\n", "A=1\r\nBATCH_SIZE=1000\r\n"),
    "a line that is none": ("what is this\nA=1\n", "what is this\nA=1\nBATCH_SIZE=1000\n"),
    "quoted": ("BATCH_SIZE = '5' # why\nA=1\n", "BATCH_SIZE=1000\nA=1\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_variable_changes_and_nothing_else(name: str) -> None:
    before, after = CASES[name]
    assert changed(before, {"BATCH_SIZE": "1000"}) == after
    assert changed(after, {"BATCH_SIZE": "1000"}) == after


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / ".env"
    real.write_text("TARGET_API_KEY=k\n")
    real.chmod(0o640)
    link.symlink_to(real)
    put(link, {"BATCH_SIZE": "1000"})
    assert link.is_symlink()
    assert real.read_text() == "TARGET_API_KEY=k\nBATCH_SIZE=1000\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "real"]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    put(tmp_path / ".env", {"BATCH_SIZE": "1000"})
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_neither_the_key_nor_a_database_can_be_put(tmp_path: Path) -> None:
    for variable in ("TARGET_API_KEY", "TARGET_API_KEY_FILE", "DATABASE_URL"):
        with pytest.raises(AssertionError):
            put(tmp_path / ".env", {variable: "x"})


def test_a_file_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigurationError, match="cannot be changed"):
        put(path, {"BATCH_SIZE": "1000"})
    assert path.read_bytes() == b"A=\xff\n"
