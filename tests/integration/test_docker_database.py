"""The settings that docker/compose.yaml gives PostgreSQL, read by a PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from datasync_ingest.postgres.accounts import server_account
from datasync_ingest.postgres.programs import programs
from tests.harness import TOP
from tests.servers import query

(PROGRAM, *FLAGS) = YAML(typ="safe").load(TOP / "docker/compose.yaml")["services"]["database"]["command"]


def value(server: str, name: str, output: Path) -> str:
    """What `name` would be in a server that is started with the flags."""
    account = server_account()
    data = query(server, "SHOW data_directory")
    with output.open("wb") as told:
        words = [programs(account) / PROGRAM, "-D", data, *FLAGS, "-C", name]
        code = account.run(words, output=told, directory=Path("/"))
    text = output.read_text().strip()
    assert code == 0, text
    return text


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "wal_compression"])
def test_the_database_is_durable(server: str, tmp_path: Path, name: str) -> None:
    assert value(server, name, tmp_path / "told") in ("on", "pglz")


def test_the_database_is_made_for_bulk_load_and_listens_on_its_own_loopback(server: str, tmp_path: Path) -> None:
    assert value(server, "shared_buffers", tmp_path / "told") == "65536"  # pages of 8 KiB
    assert value(server, "max_wal_size", tmp_path / "told") == "4096"
    assert value(server, "listen_addresses", tmp_path / "told") == "localhost"
