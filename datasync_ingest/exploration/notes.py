"""What is known so far of an API, while it is looked at: what later questions need, and what the report will say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..api.client import Ask, Response
from ..api.envelope import Envelope, NotAPageError, read
from ..api.probing import EVENTS, NotAskedError, Prober, Question
from ..api.reading import said
from ..conversions import API_PATH
from ..settings import Settings
from .sample import Sample, StructureError, sample_of

_TRIES = 3  # for a page that is not whole: cut off, or a web page


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and the page in it: None where the status is another than 200."""

    response: Response
    sample: Sample
    page: Envelope | None

    @property
    def whole(self) -> Envelope:
        """Raises NotAskedError where there is no page."""
        if self.page is None:
            raise NotAskedError(f"the server answered {said(self.response)}")
        return self.page

    @property
    def ids(self) -> list[str]:
        return list(map(str, self.sample.ids))


@dataclass(slots=True)
class Notes:
    """`found` is the report so far, by topic. The other fields are what later questions compare with."""

    settings: Settings
    prober: Prober
    found: dict[str, Any] = field(default_factory=dict)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)
    page: Envelope | None = None
    first_date: float | None = None  # the server's clock, epoch seconds, when it answered with the first page
    after_first: str | None = None  # the id of the first event behind the first page

    @property
    def first_page(self) -> Envelope:
        """Raises NotAskedError where it is not there."""
        if self.page is None:
            raise NotAskedError("it needs the first page, which is not there")
        return self.page

    def events(self, parameters: Mapping[str, str]) -> Answer:
        """GET /events with the key, in its window. Raises NotAskedError."""
        return self.whole(lambda: self.keyed("/events", parameters, EVENTS))

    def whole(self, asks: Callable[[], Response]) -> Answer:
        """Asks until a page is whole, three times at most. Raises NotAskedError."""
        for tries in range(1, _TRIES + 1):
            response = asks()
            if response.status != 200:
                return Answer(response, Sample(), None)
            try:
                return Answer(response, sample_of(response.body), read(response.body))
            except (NotAPageError, StructureError) as error:
                if tries == _TRIES:
                    raise NotAskedError(f"the answer is not a whole page: {error}") from None
        raise AssertionError("the last try returns or raises")

    def keyed(self, path: str, parameters: Mapping[str, str], window: str = "") -> Response:
        """GET of a path below the API's, with the key; `window` is the one that it may have for itself."""
        shown = "&".join(f"{name}={_short(text)}" for name, text in parameters.items())
        name = f"GET {API_PATH}{path}{'?' if shown else ''}{shown}"
        ask = Ask(self.settings.api_base_url + path, parameters)
        return self.prober.ask(Question(name, ask, (window,) if window else ()))

    def keyless(self, url: str, name: str) -> Response:
        """GET without the key."""
        return self.prober.ask(Question(f"GET {name}, no key", Ask(url, keyed=False)))

    def answered(self, method: str, path: str, response: Response, remark: str = "", *, key: bool = True) -> None:
        """Enters an endpoint, as the first answer to it shows it."""
        self.endpoints.append(
            {
                "method": method,
                "path": path,
                "key": key,
                "status": response.status,
                "remark": remark,
                "tells_its_limit": response.header("X-RateLimit-Limit") is not None,
            }
        )


def _short(text: str) -> str:
    """Never a cursor in full."""
    return text if len(text) <= 40 else f"{text[:12]}..."


def content_of(response: Response) -> dict[str, Any]:
    """The members of a JSON object; none of anything else."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
