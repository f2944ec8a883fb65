"""What the API's answers to submissions mean, and what speaks against a submission before one is made."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from datasync_ingest.api.client import Response, Upload
from datasync_ingest.api.outcomes import Answered
from datasync_ingest.api.submissions import accepted, listing_of
from datasync_ingest.books import Balance
from datasync_ingest.errors import (
    ConfigurationError,
    IngestError,
    KeyRefusedError,
    SubmissionRefusedError,
    SubmissionUnknownError,
)
from datasync_ingest.ledger import Export, Ledger, Submission
from datasync_ingest.output import Output
from datasync_ingest.postgres.source import Holdings
from datasync_ingest.submission import (
    IdFile,
    checked_repository,
    ending_of,
    objections,
    opened,
    reminders,
    require_unchanged,
    tries_with,
)
from datasync_ingest.submitted import Accepted, Tries

REPOSITORY = "https://github.com/me/repo"
SHA = "a" * 64
FOUND = IdFile("ids.txt", 3, 12, SHA, ends_whole=True, mark=())
EXPORT = Export("ids.txt", 3, 12, SHA, exported_at=1_800_000_000.0)
DATA = {"submissionId": "s1", "eventCount": 3, "submissionNumber": 2, "remainingSubmissions": 3}


def response(status: int, body: object) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {}, content, 0.0, 0.0, 0.0)


def submission(**changes: Any) -> Submission:
    facts = {
        "number": 1,
        "intended_at": 100.0,
        "github_repo": REPOSITORY,
        "path": "ids.txt",
        "ids": 3,
        "size": 12,
        "sha256": SHA,
        "source": "here",
        "ended_at": 101.0,
        "status": 200,
        "reply": json.dumps({"success": True, "data": DATA}),
        "key": "ours",
    }
    return Submission(**{**facts, **changes})


# --- the repository ---


@pytest.mark.parametrize("url", [REPOSITORY, "https://github.com/A-b9/x.y_z-1", "https://github.com/a/.github"])
def test_the_url_of_a_repository_is_taken_as_it_is(url: str) -> None:
    assert checked_repository(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "me/repo",
        "http://github.com/me/repo",
        "https://www.github.com/me/repo",
        "https://gitlab.com/me/repo",
        "https://github.com/me",
        "https://github.com/me/repo/",
        "https://github.com/me/repo.git",
        "https://github.com/me/repo/tree/main",
        "https://github.com/me/repo?tab=readme",
        "https://github.com/me/repo\n",
        "https://github.com/me/..",
        "https://github.com/OWNER/REPO",
        "https://github.com/-me/repo",
        "https://token@github.com/me/repo",
        " https://github.com/me/repo",
    ],
)
def test_what_is_no_url_of_a_repository_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of a repository"):
        checked_repository(url)


# --- the file ---


@pytest.mark.parametrize(
    ("content", "ids", "ends_whole"),
    [(b"a\nb\n", 2, True), (b"a\nb", 2, False), (b"a", 1, False), (b"x" * 3 * 2**20 + b"\n", 1, True)],
)
def test_a_file_is_read_and_stands_at_its_beginning(tmp_path: Path, content: bytes, ids: int, ends_whole: bool) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with opened(str(path)) as (file, found):
        assert (found.ids, found.ends_whole, found.size) == (ids, ends_whole, len(content))
        assert found.sha256 == hashlib.sha256(content).hexdigest()
        assert file.read() == content


def test_a_pipe_a_directory_an_empty_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name, why in (
        ("pipe", "no regular file"),
        (".", "Is a directory"),
        ("empty", "empty"),
        ("none", "No such file"),
    ):
        with pytest.raises(ConfigurationError, match=why), opened(str(tmp_path / name)):
            pass


def test_a_file_that_is_written_to_after_it_was_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"a\n")
    with opened(str(path)) as (file, found):
        require_unchanged(file, found)
        path.write_bytes(b"a\nb\n")
        with pytest.raises(ConfigurationError, match="was changed"):
            require_unchanged(file, found)


def test_an_upload_is_as_long_as_it_said_or_an_error() -> None:
    shown: list[int] = []
    upload = Upload(io.BytesIO(b"abcdef and what was added since"), 6, shown.append)
    assert [upload.read(4), upload.read(4), upload.read(4)] == [b"abcd", b"ef", b""]
    assert (len(upload), upload.sent, shown) == (6, 6, [4, 6])
    shorter = Upload(io.BytesIO(b"abc"), 6, shown.append)
    assert shorter.read(4) == b"abc"
    with pytest.raises(OSError, match="ends after 3 of 6 bytes"):
        shorter.read(4)


def test_an_upload_goes_on_when_nobody_can_be_told() -> None:
    def gone(sent: int) -> None:
        raise BrokenPipeError(sent)

    upload = Upload(io.BytesIO(b"abc"), 3, gone)
    assert (upload.read(), upload.sent) == (b"abc", 3)


# --- what speaks against it ---


def balance(events: int, total: int | None) -> Balance:
    return Balance(Holdings(events, 0), total)


def test_nothing_speaks_against_the_last_export_of_a_complete_table() -> None:
    assert objections(FOUND, EXPORT, balance(3, 3)) == []


@pytest.mark.parametrize(
    ("found", "export", "books", "words"),
    [
        (FOUND, None, balance(3, 3), ["no export"]),
        (FOUND, EXPORT, None, ["Nothing was ingested"]),
        (FOUND, EXPORT, balance(3, 4), ["holds 3 events"]),
        (FOUND, EXPORT, balance(3, None), ["no total"]),
        (FOUND, EXPORT, balance(4, 4), ["lines in ids.txt is 3"]),
        (IdFile("x", 3, 12, "b" * 64, True, ()), EXPORT, balance(3, 3), ["not the last export"]),
        (
            IdFile("x", 2, 8, "b" * 64, False, ()),
            EXPORT,
            balance(3, 3),
            ["end in a newline", "Lines: 2 in the place of 3", "lines in x is 2"],
        ),
    ],
)
def test_each_disagreement_is_a_sentence(
    found: IdFile, export: Export | None, books: Balance | None, words: list[str]
) -> None:
    said = objections(found, export, books)
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        (submission(), ["accepted as number 2"]),
        (submission(reply='{"submissionNumber": 2}'), ["answered 200; it may have counted"]),
        (submission(status=413, reply="<html>"), ["answered 413; it may have counted"]),
        (submission(ended_at=None, status=None, reply=None), ["no known ending"]),
        (submission(ended_at=None, status=None, reply=None, sha256="other"), ["no known ending"]),
        (submission(status=None, reply=None), []),
        (submission(sha256="other"), []),
    ],
)
def test_earlier_tries_with_this_key_are_remembered(earlier: Submission, words: list[str]) -> None:
    said = reminders(FOUND, [earlier])
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


@pytest.mark.parametrize(
    ("earlier", "counts"),
    [
        (submission(intended_at=1.0), True),  # the clock was ahead when the key was first used
        (submission(key="another"), False),
        (submission(key="another", ended_at=None, status=None), False),
        (submission(key=None), True),
        (submission(key=None, intended_at=1.0), False),
        (submission(key=None, intended_at=1.0, ended_at=None, status=None), True),
    ],
)
def test_the_tries_of_a_key_are_told_from_those_of_others(earlier: Submission, counts: bool) -> None:
    assert tries_with("ours", [earlier], since=50.0) == ([earlier] if counts else [])


def test_a_try_without_a_connection_is_known_to_have_cost_nothing() -> None:
    assert "no try is gone" in ending_of(submission(status=None, reply=None))


# --- answers ---


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("body", [{"success": True, "data": DATA}, {"data": DATA}])
def test_an_acceptance_is_its_data(status: int, body: object) -> None:
    assert accepted(response(status, body), 12) == DATA


def test_an_acceptance_may_say_nothing_else() -> None:
    assert accepted(response(200, {"success": True}), 12) == {}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, {"success": False, "message": "no such repository"}, SubmissionRefusedError, "no such repository"),
        (200, {"success": "true"}, SubmissionRefusedError, "A try is gone"),
        (200, b"<html>", SubmissionUnknownError, "cannot be read"),
        (200, b"", SubmissionUnknownError, "cannot be read"),
        (200, [1], SubmissionUnknownError, "cannot be read"),
        (200, {"data": {}}, SubmissionUnknownError, "cannot be read"),
        (204, b"", SubmissionRefusedError, "204"),
        (302, b"", SubmissionRefusedError, "302"),
        (400, {"error": "bad", "code": "NO_IDS"}, SubmissionRefusedError, "400 NO_IDS"),
        (401, {"code": "API_KEY_EXPIRED"}, KeyRefusedError, "401 API_KEY_EXPIRED"),
        (403, b"", KeyRefusedError, "403"),
        (408, b"", SubmissionUnknownError, "may have counted"),
        (413, b"<html>", SubmissionRefusedError, "takes no body of 111,000,000 bytes"),
        (429, b"", SubmissionRefusedError, "may have counted"),
        (500, b"", SubmissionUnknownError, "may even have accepted"),
        (502, b"<html>", SubmissionUnknownError, "may even have accepted"),
        (504, b"", SubmissionUnknownError, "may even have accepted"),
    ],
)
def test_anything_else_is_a_named_ending(status: int, body: object, kind: type[IngestError], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        accepted(response(status, body), 111_000_000)
    assert raised.value.exit_code == 3
    assert "--list" in raised.value.hint or kind is KeyRefusedError


@pytest.mark.parametrize(
    ("body", "left", "told", "count"),
    [
        ({"success": True, "data": [], "remainingSubmissions": 5}, 5, True, 0),
        ({"data": {"submissions": [DATA], "remainingSubmissions": 2}}, 2, True, 1),
        ({"data": [DATA]}, 3, False, 1),
        ({"data": [{}, {}]}, 3, False, 2),
        ([{}], 4, False, 1),
        ({"data": [{}] * 7}, 0, False, 7),
        ({"data": [], "remainingSubmissions": -1}, 0, True, 0),
        ({"data": [], "remainingSubmissions": "4"}, 5, False, 0),
    ],
)
def test_a_list_tells_the_tries_left_or_they_are_deduced(body: object, left: int, told: bool, count: int) -> None:
    listing = listing_of(json.dumps(body).encode())
    assert (listing.left, listing.told, len(listing.entries)) == (left, told, count)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": {}}', b'{"data": [1]}', b"3", b'{"data": null}'])
def test_what_is_no_list_of_submissions_is_not_taken_for_an_empty_one(body: bytes) -> None:
    with pytest.raises(Answered):
        listing_of(body)


# --- what is said ---


def test_an_answer_is_shown_whatever_it_leaves_out() -> None:
    text = Accepted(REPOSITORY, FOUND, {"submissionId": "a\x1b[31m", "timeToSubmit": {"formatted": "1h 2m"}}).text()
    assert "a?[31m" in text
    assert "1h 2m" in text
    assert "not told" in text


def test_a_count_that_differs_is_an_ending() -> None:
    Accepted(REPOSITORY, FOUND, DATA).require_all_counted()
    Accepted(REPOSITORY, FOUND, {}).require_all_counted()
    with pytest.raises(SubmissionRefusedError, match="counted 3 IDs where 4 were sent"):
        Accepted(REPOSITORY, IdFile("x", 4, 12, SHA, True, ()), DATA).require_all_counted()


def test_a_list_is_shown_with_what_the_server_does_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    tries = Tries(listing_of(b'{"data": [{}]}'), (submission(),))
    Output().result(tries.text(), {})
    shown = capsys.readouterr().out
    assert "Tries left: at most 4 (the server does not tell)." in shown
    assert "accepted as number 2" in shown
    (own,) = json.loads(json.dumps(tries.as_json()))["own"]
    assert own["ending"] == "accepted as number 2"
    assert "key" not in own


# --- the sidecar ---


def test_an_intention_is_in_the_sidecar_until_it_has_an_ending(tmp_path: Path) -> None:
    facts = {"github_repo": REPOSITORY, "path": "ids.txt", "ids": 3, "size": 12, "sha256": SHA, "source": "here"}
    facts["key"] = "ours"
    with Ledger.open(tmp_path, purpose="a test") as ledger:
        assert ledger.submissions.last_export() is None
        ledger.exported("ids.txt", ids=3, size=12, sha256="old")
        ledger.exported("ids.txt", ids=3, size=12, sha256=SHA)
        for _ in range(3):
            ledger.submissions.intend(**facts)  # type: ignore[arg-type]
        ledger.submissions.ended(2, 200, "{}")
        ledger.submissions.ended(3)
    with Ledger.open(tmp_path, purpose="a test") as ledger:
        export = ledger.submissions.last_export()
        assert export is not None
        assert export.sha256 == SHA
        found = ledger.submissions.all()
    assert [(one.number, one.ended_at is None, one.status, one.reply) for one in found] == [
        (1, True, None, None),
        (2, False, 200, "{}"),
        (3, False, None, None),
    ]
    with Ledger.open_anew(tmp_path, purpose="a test", facts=()) as ledger:
        assert ledger.submissions.all() == found
