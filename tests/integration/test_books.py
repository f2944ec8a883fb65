"""A data directory held against schemas that are not its own: nothing is made, and nothing of its pages goes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from datasync_ingest.books import reconcile
from datasync_ingest.errors import LedgerDivergedError, OtherSourceError
from datasync_ingest.ledger import Ledger, Walk
from datasync_ingest.postgres.source import SourceDatabase
from tests.harness import Database
from tests.pools import page

API = "http://api/api/v1"
WALK = Walk(page(0).page.walk, until=None, cursor=None, after=None, head=None, state="active")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, purpose="test") as opened:
        yield opened


def schema(database: Database, name: str) -> SourceDatabase:
    return SourceDatabase(database.conninfo, schema=name, patience_s=5, waiting=print)


def test_nothing_is_made_for_another_api(ledger: Ledger, database: Database) -> None:
    with closing(schema(database, "own")) as own:
        reconcile(ledger, own, API, adopt=False)
    with closing(schema(database, "other")) as other:
        with pytest.raises(OtherSourceError, match="The data directory belongs to"):
            reconcile(ledger, other, "http://other/api/v1", adopt=False)
        assert database.value("SELECT to_regnamespace('other') IS NULL")
        reconcile(ledger, other, "http://other/api/v1", adopt=True)


def test_pages_of_the_spool_do_not_go_into_the_schema_of_another_data_directory(
    ledger: Ledger, database: Database
) -> None:
    with closing(schema(database, "own")) as own, closing(schema(database, "taken")) as taken:
        reconcile(ledger, own, API, adopt=False)
        taken.prepare(API)
        ledger.begin(WALK)
        ledger.spool.put(page(0))
        with pytest.raises(LedgerDivergedError, match="was filled into the schema own, and this is taken"):
            reconcile(ledger, taken, API, adopt=False)
        assert reconcile(ledger, own, API, adopt=False).events == 0
    with closing(schema(database, "anew")) as anew:
        reconcile(ledger, anew, API, adopt=False)
