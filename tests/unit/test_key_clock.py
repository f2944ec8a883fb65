"""The key's clock over several commands, with a real ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

from datasync_ingest.key_clock import KEY_FACT, KEY_LIFE_S, KeyClock, KeyEnd, key_end
from datasync_ingest.ledger import Ledger
from datasync_ingest.settings import Secret

KEY = Secret("a-key")


def test_a_clock_that_began_before_the_first_ingest_is_known_to_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="quick-test") as ledger:
        KeyClock(ledger, KEY, wall=lambda: 1000.0).first_call()
    with Ledger.open(tmp_path, purpose="ingest") as ledger:
        ledger.keep(database_id="made by the first ingest")
        clock = KeyClock(ledger, KEY, wall=lambda: 1600.0)
        clock.first_call()
        assert clock.left_s() == KEY_LIFE_S - 600
        facts = {name: ledger.fact(name) for name in (KEY_FACT, "database_id")}
        assert key_end(facts, KEY) == KeyEnd(1000 + KEY_LIFE_S, is_ours=True)
        assert key_end(facts, Secret("another")) == KeyEnd(1000 + KEY_LIFE_S, is_ours=False)


def test_another_key_has_a_clock_of_its_own(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        KeyClock(ledger, KEY).first_call()
        assert KeyClock(ledger, Secret("another")).left_s() is None


def test_a_clock_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        digest = hashlib.sha256(b"the-database:a-key").hexdigest()[:12]
        ledger.keep(database_id="the-database", **{KEY_FACT: {"digest": digest, "at": 1000.0}})
        assert KeyClock(ledger, KEY, wall=lambda: 1001.0).left_s() == KEY_LIFE_S - 1


def test_the_key_itself_is_not_kept(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        KeyClock(ledger, KEY).first_call()
    assert all(b"a-key" not in path.read_bytes() for path in tmp_path.iterdir())
