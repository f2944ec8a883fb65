"""The key's clock over several commands, with a real ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

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


def test_a_key_that_is_used_again_goes_on_after_another_one(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        for key, at in ((KEY, 1000.0), (Secret("another"), 2000.0), (KEY, 3000.0)):
            KeyClock(ledger, key, wall=lambda at=at: at).first_call()  # type: ignore[misc]
        ours, another = (KeyClock(ledger, key, wall=lambda: 3000.0) for key in (KEY, Secret("another")))
        assert (ours.first_used_at, ours.left_s()) == (1000.0, KEY_LIFE_S - 2000)
        assert another.first_used_at == 2000.0
        assert ours.mark != another.mark
        facts = {KEY_FACT: ledger.fact(KEY_FACT)}
    assert key_end(facts, KEY) == KeyEnd(1000 + KEY_LIFE_S, is_ours=True)
    assert key_end(facts, Secret("a third")) == KeyEnd(2000 + KEY_LIFE_S, is_ours=False)
    assert key_end(facts, None) == KeyEnd(2000 + KEY_LIFE_S, is_ours=None)


@pytest.mark.parametrize("salt", [None, "salt"])
def test_a_key_that_an_earlier_version_kept_stays_known_beside_another_one(tmp_path: Path, salt: str | None) -> None:
    digest = hashlib.sha256(f"{salt or 'the-database'}:a-key".encode()).hexdigest()[:12]
    fact = {"digest": digest, "at": 1000.0} if salt is None else {"salt": salt, "digest": digest, "at": 1000.0}
    with Ledger.open(tmp_path, purpose="test") as ledger:
        ledger.keep(database_id="the-database", **{KEY_FACT: fact})
        KeyClock(ledger, Secret("another")).first_call()
        assert KeyClock(ledger, KEY).first_used_at == 1000.0


def test_a_clock_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        digest = hashlib.sha256(b"the-database:a-key").hexdigest()[:12]
        ledger.keep(database_id="the-database", **{KEY_FACT: {"digest": digest, "at": 1000.0}})
        assert KeyClock(ledger, KEY, wall=lambda: 1001.0).left_s() == KEY_LIFE_S - 1


def test_the_key_itself_is_not_kept(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, purpose="test") as ledger:
        KeyClock(ledger, KEY).first_call()
    assert all(b"a-key" not in path.read_bytes() for path in tmp_path.iterdir())
