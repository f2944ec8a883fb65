"""What a log line is about: fields of the blocks around it, in its own thread, in both formats."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable
from contextvars import copy_context

from datasync_ingest.log_lines import about, note
from datasync_ingest.messages import PageId
from datasync_ingest.progress import Lines, logging_to
from datasync_ingest.settings import Secret, Settings

_log = logging.getLogger("datasync_ingest.somewhere.deep")
PAGE = PageId("7d1f0c2a-0000", 12)


def logged(log_format: str, write: Callable[[], None]) -> list[str]:
    stream = io.StringIO()
    with logging_to(Lines(stream), Settings(Secret("the-key"), log_format=log_format), debug=False):
        write()
    return stream.getvalue().splitlines()


def fault() -> None:
    with about(run=3), about(page=PAGE):
        note(attempt=2, request_id="5c1e")
        _log.warning("page %s: the server answered 503", PAGE)


def test_a_text_line_says_what_its_message_does_not() -> None:
    (line,) = logged("text", fault)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d warning: page 7d1f0c2a/12: the server answered 503 \[run 3, attempt 2, request 5c1e\]", line
    )


def test_a_json_line_has_every_field_that_is_known() -> None:
    (line,) = logged("json", fault)
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "warning",
        "room": "somewhere.deep",
        "message": "page 7d1f0c2a/12: the server answered 503",
        "run": 3,
        "page": "7d1f0c2a/12",
        "attempt": 2,
        "request_id": "5c1e",
    }


def test_a_line_outside_of_all_blocks_has_no_such_field_and_a_page_is_known_by_its_name() -> None:
    def write() -> None:
        note(attempt=1)
        _log.info("nothing yet")
        _log.info("worker 1 died over page 7d1f0c2a/3")

    nothing, page = (json.loads(line) for line in logged("json", write))
    assert set(nothing) == {"time", "level", "room", "message"}
    assert page["page"] == "7d1f0c2a/3"


def test_a_field_ends_with_its_block_and_can_be_taken_away() -> None:
    def write() -> None:
        with about(run=1):
            with about(page=PAGE):
                note(attempt=1, request_id="first")
                note(attempt=2, request_id=None)
                _log.info("inside")
            _log.info("outside")

    inside, outside = (json.loads(line) for line in logged("json", write))
    assert (inside["run"], inside["attempt"]) == (1, 2)
    assert "request_id" not in inside
    assert outside["run"] == 1
    assert not {"page", "attempt"} & set(outside)


def test_a_thread_has_the_fields_of_the_context_that_it_was_given() -> None:
    def write() -> None:
        with about(run=1):
            thread = threading.Thread(target=copy_context().run, args=(one_page,))
            thread.start()
            thread.join()
            _log.info("here")

    def one_page() -> None:
        with about(page=PAGE):
            _log.info("there")

    there, here = (json.loads(line) for line in logged("json", write))
    assert (there["run"], there["page"]) == (1, "7d1f0c2a/12")
    assert "page" not in here


def test_a_secret_that_json_would_escape_is_masked_all_the_same() -> None:
    stream = io.StringIO()
    chosen = Settings(Secret('quoted"key'), log_format="json")
    with logging_to(Lines(stream), chosen, debug=False), about(request_id='quoted"key'):
        _log.info('the key is quoted"key', extra={"facts": {"ending": 'quoted"key'}})
    assert "quoted" not in stream.getvalue()
    assert json.loads(stream.getvalue())["message"] == "the key is ***"
