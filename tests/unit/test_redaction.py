"""What must not be printed: secrets in every spelling, cursors wherever they stand, control characters."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from datasync_ingest.redaction import foreign, mask, shortened
from datasync_ingest.settings import Secret, Settings

KEY = 'k+/ey"x'
SETTINGS = Settings(api_key=Secret(KEY), database=Secret("host=h password=hunter2"))
PLAIN = base64.urlsafe_b64encode(json.dumps({"id": "e" * 36, "ts": 1, "v": 2, "exp": 3}).encode()).decode()
OPAQUE = "opaque.9f8e7d6c5b4a.12/34=="


@pytest.mark.parametrize("form", [KEY, quote(KEY, safe=""), f"?api_key={quote(KEY, safe='')}&limit=5", f"key {KEY}!"])
def test_a_secret_is_masked_in_every_spelling(form: str) -> None:
    shown = mask(f"before {form} after hunter2", SETTINGS)
    assert KEY not in shown
    assert quote(KEY, safe="") not in shown
    assert "hunter2" not in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "/events?api_key=another&limit=5",
        '{"apiKey": "another"}',
        "X-API-Key: another",
        "x-stream-token: another",
        "stream_token=another",
    ],
)
def test_what_is_called_a_key_is_masked_though_it_is_not_ours(text: str) -> None:
    assert "another" not in mask(text, None)


@pytest.mark.parametrize("cursor", [PLAIN, PLAIN.rstrip("="), OPAQUE])
@pytest.mark.parametrize(
    "text",
    [
        "/events?limit=5&cursor={} is not there",
        '{{"nextCursor":"{}"}}',
        '{{\\"next_cursor\\": \\"{}\\"}}',
        "the cursor '{}' is unknown",
        "bad token {}, sorry",
    ],
)
def test_a_cursor_is_cut_short_wherever_it_stands(cursor: str, text: str) -> None:
    for form in (cursor, quote(cursor, safe="")):
        shown = mask(text.format(form), None, cursor)
        assert form[:7] not in shown
        assert f"{form[:6]}…" in shown
        assert mask(shown, None, cursor) == shown, "twice is once"


def test_a_cursor_that_nobody_has_named_is_known_by_what_stands_before_it_or_by_its_form() -> None:
    assert OPAQUE[:7] not in mask(f"GET /events?cursor={OPAQUE}", None)
    assert PLAIN[:7] not in mask(f"no such place: {PLAIN}", None)


@pytest.mark.parametrize(
    "text",
    [
        "The cursor of page 7d1f0000/12 has expired: the server answered 410.",
        "Put TARGET_API_KEY=... into a file named .env",
        "event 0f3b0c1e-2f6a-4b7c-8f1e-0123456789ab is too large",
        f"SHA-256 {'ab' * 32}",
        "page 3",
        '{"cursor": {"version": 2, "id": "e1"}, "cursor": 116}',
    ],
)
def test_other_words_stay_as_they_are(text: str) -> None:
    assert mask(text, SETTINGS, "3") == text


def test_at_most_half_of_a_cursor_is_shown() -> None:
    assert [shortened("a" * length) for length in (1, 4, 12, 200)] == ["…", "aa…", "aaaaaa…", "aaaaaa…"]


def test_a_servers_text_is_one_line_that_a_terminal_can_bear() -> None:
    assert foreign("two\nlines \x1b[31mred\x1b[0m\x00", None) == "two lines ?[31mred?[0m?"
