"""A request as the API sees it, and the answer that it gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any


class RefusedError(Exception):
    """Raised for a request that does not get what it asks for; `status` and `code` are what the client is told."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """`body` yields the blocks of the body, once; `target` is path and query as they came; `opens`: it is the first
    one on its connection."""

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Message
    body: Iterator[bytes] = field(repr=False)
    opens: bool = False


@dataclass(slots=True)
class Answer:
    """`parts` make the body, one after the other. `reset`: the connection breaks in the middle of it; `cut`: only its
    first half is sent, with the length of that half. `encoding`: the parts are compressed already. `silent`: the
    connection breaks without a byte of an answer; `early`: it is sent before the request's body has been read."""

    status: int
    parts: Sequence[bytes | memoryview]
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset: bool = False
    cut: bool = False
    silent: bool = False
    early: bool = False
    encoding: str = ""

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, [json.dumps(value, separators=(",", ":")).encode()])


def refusal(error: RefusedError) -> Answer:
    """What the API says, or the load balancer in its place: nothing of the reason."""
    if error.status in (200, 502):
        return web_page(error.status)
    return json_answer({"error": str(error), "code": error.code}, error.status)


def web_page(status: int) -> Answer:
    """As the load balancer makes them."""
    heading = "Welcome to nginx!" if status == 200 else str(status)
    return text_answer(f"<html><body><h1>{heading}</h1></body></html>", "text/html", status)


def text_answer(text: str, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> Answer:
    return Answer(status, [text.encode()], content_type)
