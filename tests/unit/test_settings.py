"""Settings: where a value comes from, what is refused and how, and that secrets never print."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from datasync_ingest import settings
from datasync_ingest.errors import ConfigurationError
from datasync_ingest.settings import Secret, load


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    ours = (
        "PG",
        "TARGET_",
        "API_",
        "DATA",
        "BATCH",
        "WORKER",
        "RATE_",
        "STOP",
        "DB_",
        "LOG_",
        "METRICS_",
        "SOURCE",
        "FETCH_",
    )
    for name in list(os.environ):
        if name.startswith(ours):
            monkeypatch.delenv(name)


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load({}, directory=tmp_path).batch_size == 5000
    (tmp_path / ".env").write_text("BATCH_SIZE=1\nTARGET_API_KEY=from-file\n")
    assert load({}, directory=tmp_path).batch_size == 1
    monkeypatch.setenv("BATCH_SIZE", "2")
    assert load({}, directory=tmp_path).batch_size == 2
    assert load({"batch_size": "3"}, directory=tmp_path).batch_size == 3
    assert load({}, directory=tmp_path).required_api_key.reveal() == "from-file"


def test_the_demo_reads_neither_the_environment_nor_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TARGET_API_KEY=k\nBATCH_SIZE=1\nDATABASE_URL=postgres://x")
    monkeypatch.setenv("DATABASE_URL", "postgres://precious")
    monkeypatch.setenv("PGHOST", "precious")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "precious"))
    chosen = load({}, demo=True, directory=tmp_path)
    assert (chosen.database, chosen.api_key, chosen.batch_size) == (None, None, 5000)
    assert chosen.data_dir == tmp_path / "data" / "demo"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://host", "http://host/api/v1"),
        ("http://host/", "http://host/api/v1"),
        ("http://host/api/v1/", "http://host/api/v1"),
        ("https://Host:8443/prefix/api/v1", "https://host:8443/prefix/api/v1"),
        ("http://[::1]:80", "http://[::1]:80/api/v1"),
    ],
)
def test_the_base_url_is_one_thing_however_it_is_spelled(given: str, expected: str, tmp_path: Path) -> None:
    chosen = load({"api_base_url": given}, directory=tmp_path)
    assert chosen.api_base_url == chosen.source == expected


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("BATCH_SIZE", "many", "is not a whole number"),
        ("BATCH_SIZE", "0", "is not from 1"),
        ("BATCH_SIZE", "-5", "is not a whole number"),
        ("WORKER_CONCURRENCY", "1000", "is not from 1 to 64"),
        ("STOP_GRACE", "soon", "is not a number with an optional unit"),
        ("STOP_GRACE", "8 fortnights", "is not a duration"),
        ("MAX_PAGE_BYTES", "64 MB/s", "is not a number with"),
        ("API_BASE_URL", "host/api", "is not an http:// or https:// URL"),
        ("API_BASE_URL", "http://host:port/", "is not an http:// or https:// URL"),
        ("API_BASE_URL", "http://user:secret@host/", "has more than scheme"),
        ("API_BASE_URL", "http://[::1", "is not an http:// or https:// URL"),
        ("SOURCE", "stream", "is not one of events, feed"),
        ("FETCH_CONCURRENCY", "65", "is not from 1 to 64"),
        ("TARGET_USER_AGENT", "a\nb", "holds characters that no HTTP header can carry"),
        ("TARGET_USER_AGENT", " ", "is empty"),
        ("TARGET_STREAM_PATH", "http://host/feed", "is not a path on the API's host"),
        ("TARGET_STREAM_PATH", "//host/feed", "is not a path on the API's host"),
        ("DB_SCHEMA", "Tenant", "is not a plain schema name: lower-case letters, digits and _"),
        ("DB_SCHEMA", 'a"b', "is not a plain schema name"),
        ("DB_SCHEMA", "a b", "is not a plain schema name"),
        ("DB_SCHEMA", "a-b", "is not a plain schema name"),
        ("DB_SCHEMA", "1st", "not beginning with a digit"),
        ("DB_SCHEMA", "größe", "is not a plain schema name"),
        ("DB_SCHEMA", " ", "is not a plain schema name"),
        ("DB_SCHEMA", "a" * 64, "is longer than the 63 characters that PostgreSQL keeps"),
        ("DB_SCHEMA", "pg_own", "is a name that PostgreSQL keeps for itself"),
        ("DB_SCHEMA", "information_schema", "is a name that PostgreSQL keeps for itself"),
        ("LOG_FORMAT", "xml", "is not one of text, json"),
        ("METRICS_PORT", "70000", "is not from 0 to 65,?535"),
        ("METRICS_PORT", "http", "is not a whole number"),
        ("METRICS_HOST", "http://host", "is not a host name or an address"),
        ("METRICS_FILE", " ", "is empty; it must name a file"),
    ],
)
def test_a_bad_value_is_named_with_its_origin_and_a_hint(
    variable: str, text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load({}, directory=tmp_path)
    assert f"{variable}=" in str(caught.value)
    assert "the environment" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_the_key_may_come_from_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("abc\n")
    monkeypatch.setenv("TARGET_API_KEY_FILE", "key")
    assert load({}, directory=tmp_path).required_api_key == Secret("abc")
    monkeypatch.setenv("TARGET_API_KEY_FILE", "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load({}, directory=tmp_path)


@pytest.mark.parametrize("key", ["a b", "a\nb", "schlüssel", "  "])
def test_a_key_that_no_header_can_carry_is_refused_unseen(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_API_KEY", key)
    with pytest.raises(ConfigurationError) as caught:
        load({}, directory=tmp_path)
    assert key not in str(caught.value)


def test_a_stream_token_and_its_path_come_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_STREAM_TOKEN", "deadbeef")
    with pytest.raises(ConfigurationError, match="go together") as caught:
        load({}, directory=tmp_path)
    assert "deadbeef" not in str(caught.value)
    chosen = load({"stream_path": "/feed"}, directory=tmp_path)
    assert (chosen.stream_token, chosen.stream_path) == (Secret("deadbeef"), "/feed")
    assert "deadbeef" in chosen.secrets
    assert "deadbeef" not in f"{chosen!r} {chosen.shown()}"
    monkeypatch.setenv("TARGET_STREAM_TOKEN", "dead beef")
    with pytest.raises(ConfigurationError, match="stream token holds characters") as caught:
        load({"stream_path": "/feed"}, directory=tmp_path)
    assert "beef" not in str(caught.value)


def test_without_a_key_the_sentence_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TARGET_API_KEY") as caught:
        _ = load({}, directory=tmp_path).required_api_key
    assert ".env" in caught.value.hint


def test_what_is_not_wanted_is_called_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_PORT", "9464")
    monkeypatch.setenv("METRICS_FILE", "x.prom")
    chosen = load({"metrics_file": "None"}, directory=tmp_path)
    assert (chosen.metrics_port, chosen.metrics_file) == (9464, None)
    assert chosen.shown()["METRICS_FILE"] == "none"
    assert chosen.changed() == {"METRICS_PORT": "9464", "DATA_DIR": str(tmp_path / "data")}


def test_libpq_variables_name_a_database_and_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({}, directory=tmp_path).database is None
    monkeypatch.setenv("PGUSER", "somebody")
    assert load({}, directory=tmp_path).database is None
    monkeypatch.setenv("PGHOST", "db host")
    monkeypatch.setenv("PGPASSWORD", r"it's \ it")
    database = load({}, directory=tmp_path).database
    assert database is not None
    assert database.reveal() == r"host='db host' user='somebody' password='it\'s \\ it'"


@pytest.mark.parametrize(
    "conninfo",
    ["postgresql://me:hunter2@host/db", "host=h password=hunter2 dbname=d", "host=h password='hunter2'"],
)
def test_no_secret_prints(conninfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", conninfo)
    monkeypatch.setenv("TARGET_API_KEY", "key-of-mine")
    chosen = load({}, directory=tmp_path)
    for text in (repr(chosen), str(chosen), f"{chosen.database} {chosen.api_key}"):
        assert "hunter2" not in text
        assert "key-of-mine" not in text
    assert {"hunter2", "key-of-mine"} <= set(chosen.secrets)
    assert pickle.loads(pickle.dumps(chosen)) == chosen


def test_every_flag_is_its_variable() -> None:
    flags = {settings.flag_of(entry): entry.metadata["variable"] for entry in settings.setting_fields()}
    assert flags["--batch-size"] == "BATCH_SIZE"
    assert flags["--schema"] == "DB_SCHEMA"
    assert not any(
        "KEY" in variable or "TOKEN" in variable or "DATABASE_URL" in variable for variable in flags.values()
    )
