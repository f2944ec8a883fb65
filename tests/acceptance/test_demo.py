"""The README's first command, as a newcomer runs it, with settings lying about that it must not touch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Workplace
from tests.servers import reachable_folder

LYING_ABOUT = "TARGET_API_KEY=a-real-key\nAPI_BASE_URL=http://127.0.0.1:9\nDATA_DIR=elsewhere\nBATCH_SIZE=1\n"
DATABASE = "postgresql://me:hunter2@127.0.0.1:9/precious"


@pytest.fixture(scope="module")
def demo() -> Iterator[Workplace]:
    """A working directory in which the demo has run once."""
    with reachable_folder() as directory:
        (directory / ".env").write_text(LYING_ABOUT)
        place = Workplace(directory, {"DATABASE_URL": DATABASE, "PGHOST": "127.0.0.1", "PGPORT": "9"})
        ended = place.ingest("--demo")
        assert "Complete." in ended.out
        assert "total by the API       100,000" in ended.out
        assert "0 answered 429" in ended.out
        yield place


def test_the_demo_touches_nothing_of_the_users(demo: Workplace) -> None:
    assert (demo.directory / ".env").read_text() == LYING_ABOUT
    assert sorted(path.name for path in demo.directory.iterdir() if path.suffix != ".txt") == [".env", "data"]
    assert [path.name for path in (demo.directory / "data").iterdir()] == ["demo"]


def test_a_second_demo_says_that_everything_is_there(demo: Workplace) -> None:
    ended = demo.ingest("--demo")
    assert "already there          5,000" in ended.out
    assert "in the table           100,000" in ended.out
    assert "Complete." in ended.out


def test_what_the_demo_says_comes_next_works(demo: Workplace) -> None:
    ended = demo.run("export-ids", "--demo")
    assert ended.code == 0, ended.err
    content = Path(demo.directory / "event_ids.txt").read_bytes()
    assert len(set(content.splitlines())) == 100_000
    assert f"100,000 IDs, 3,700,000 bytes, SHA-256 {hashlib.sha256(content).hexdigest()}" in ended.err
    counted = demo.run("psql", "--demo", "-At", "-c", "SELECT count(*) FROM ingested_events")
    assert (counted.code, counted.out.strip()) == (0, "100000"), counted.err
