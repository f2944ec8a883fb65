"""`bin/quick-test` as a subprocess: one line a check, one request with the key, and none where something failed."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from datasync_ingest.simulator.process import SimulatorProcess
from tests.disks import small_disk
from tests.harness import Database, Ended, Workplace, until
from tests.terminals import run_typing

Start = Callable[..., SimulatorProcess]
LINE = re.compile(r"(ok  |warn|FAIL) ([A-Za-z ]+): (.+)")


def verdicts(ended: Ended) -> dict[str, str]:
    """Name -> verdict; every line on stdout must be a check's."""
    matches = [LINE.fullmatch(line) for line in ended.out.splitlines()]
    assert all(matches), ended.out
    return {match[2]: match[1].strip() for match in matches if match}


def keyed(api: SimulatorProcess) -> int:
    return int(api.counters()["requests"]["events"])


def test_all_is_well_and_one_request_has_the_key(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=12_000, rate_limit=10)
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=api.url)
    assert ended.code == 0, ended.err
    assert set(verdicts(ended).values()) == {"ok"}
    assert list(verdicts(ended)) == [
        *("settings", "key", "address", "disk", "data directory", "database", "API", "manifest", "estimate")
    ]
    assert "12,000 events, 3 requests of 5,000 events, 10 in 1 min 00 s: at least" in ended.out
    assert keyed(api) == 1
    assert api.counters()["statuses"] == {"200": 3}, "/health, the manifest, and one page"


def test_as_json_it_is_one_object(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    ended = workplace.run("quick-test", "--yes", "--json", API_BASE_URL=api.url)
    found = json.loads(ended.out)
    assert ended.code == found["exit_code"] == 0
    assert {check["verdict"] for check in found["checks"]} == {"ok"}
    assert found["estimate"]["events"] == 100


def test_at_the_prompt_only_a_yes_makes_the_request(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    refused = run_typing(workplace, "n\n", "quick-test", API_BASE_URL=api.url)
    assert refused.code == 0, refused.err
    assert "It starts the key's clock: 3 hours" in refused.err
    assert "No request was made with the key." in refused.err
    assert keyed(api) == 0
    agreed = run_typing(workplace, "y\n", "quick-test", API_BASE_URL=api.url)
    assert agreed.code == 0, agreed.err
    assert "It starts the key's clock: 3 hours" in agreed.err, "the refusal has not started it"
    assert "accepted: 100 events" in agreed.out
    assert keyed(api) == 1


def test_off_a_terminal_it_must_be_told_yes(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    ended = workplace.run("quick-test", API_BASE_URL=api.url)
    assert ended.code == 2
    assert "say --yes" in ended.err
    assert keyed(api) == 0


@dataclass(frozen=True)
class Case:
    """What is wrong, which check says so, with which exit code and words."""

    check: str
    code: int
    words: str
    environment: dict[str, str]
    asks_with_key: bool = False


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


CASES = {
    "no key": Case("key", 2, "TARGET_API_KEY=", {"TARGET_API_KEY": ""}),
    "wrong key": Case("key", 3, "check TARGET_API_KEY", {"TARGET_API_KEY": "wrong"}, asks_with_key=True),
    "no API": Case("API", 3, "check API_BASE_URL", {"API_BASE_URL": "closed"}),
    "no database": Case("database", 4, "Start the database", {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:9/e"}),
    "a garbled database": Case("database", 4, "DATABASE_URL", {"DATABASE_URL": "postgresql://me:hunter2@[::1/events"}),
    "no data directory": Case("data directory", 2, "Set DATA_DIR", {"DATA_DIR": "file/data"}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_fails_with_its_remedy_and_its_exit_code(
    name: str, simulator: Start, workplace: Workplace
) -> None:
    case, api = CASES[name], simulator(events=100)
    environment = {"API_BASE_URL": api.url, **case.environment}
    if environment["API_BASE_URL"] == "closed":
        environment["API_BASE_URL"] = closed_port()
    (workplace.directory / "file").write_text("in the way of a directory")
    ended = workplace.run("quick-test", "--yes", timeout_s=60.0, **environment)
    assert ended.code == case.code, ended.out
    failed = [line for line in ended.out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1, ended.out
    assert failed[0].startswith(f"FAIL {case.check}: ")
    assert case.words in failed[0]
    assert keyed(api) == case.asks_with_key
    assert ("No request was made with the key" in ended.err) is not case.asks_with_key
    assert "hunter2" not in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_plain_http_to_another_machine_is_a_warning(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=100)
    url = api.url.replace("127.0.0.1", "0.0.0.0")
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=url)
    assert ended.code == 0, ended.out
    assert verdicts(ended)["address"] == "warn"
    assert "can read the key" in ended.out
    assert "https://" in ended.out


@pytest.mark.long
def test_a_database_without_rights_is_told_from_one_with_them(
    simulator: Start, workplace: Workplace, database: Database
) -> None:
    api = simulator(events=100)
    if not database.query("SELECT 1 FROM pg_roles WHERE rolname = 'onlooker'"):
        database.query("CREATE ROLE onlooker")
    onlooker = f"{database.conninfo} options='-c role=onlooker'"
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=api.url, DATABASE_URL=onlooker)
    assert ended.code == 4
    assert "GRANT CREATE ON SCHEMA public TO onlooker" in ended.out
    workplace.ingest(API_BASE_URL=api.url)
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=api.url, DATABASE_URL=onlooker)
    assert ended.code == 4
    assert "INSERT on ingested_events" in ended.out
    there = workplace.run("quick-test", "--yes", API_BASE_URL=api.url)
    assert "with 100 events" in there.out
    assert "100 events (100 are in the table), 0 requests" in there.out
    standby = f"{database.conninfo} options='-c default_transaction_read_only=on'"
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=api.url, DATABASE_URL=standby)
    assert ended.code == 4
    assert "takes no changes" in ended.out
    elsewhere = api.url.replace("/api/v1", "/elsewhere/api/v1")
    ended = workplace.run("quick-test", "--yes", API_BASE_URL=elsewhere, DATA_DIR="another")
    assert ended.code == 2
    assert f"belongs to {api.url}, not to {elsewhere}" in ended.out


def test_a_disk_without_room_fails(simulator: Start, workplace: Workplace, tmp_path: Path) -> None:
    api = simulator(events=100)
    with small_disk(tmp_path / "disk", 64):
        ended = workplace.run("quick-test", "--yes", API_BASE_URL=api.url, DATA_DIR="disk/data")
    assert ended.code == 2
    assert verdicts(ended)["disk"] == "FAIL"
    assert keyed(api) == 0


def test_while_a_run_is_active_the_key_is_left_to_it(simulator: Start, workplace: Workplace) -> None:
    api = simulator(events=5_000, rate_limit=3, rate_window=600)
    process = workplace.start("ingest", "--batch-size", "100", API_BASE_URL=api.url)
    until(partial(_has_pages, workplace, 3), what="3 pages")
    quick = workplace.run("quick-test", "--yes", API_BASE_URL=api.url)
    explored = workplace.run("explore-api", "--yes", API_BASE_URL=api.url)
    process.terminate()
    process.communicate(timeout=20)
    assert quick.code == explored.code == 6
    assert "is in use by bin/ingest" in quick.out
    assert "is in use by bin/ingest" in explored.err
    assert keyed(api) == 3


def _has_pages(workplace: Workplace, pages: int) -> bool:
    return workplace.completed_pages() >= pages
