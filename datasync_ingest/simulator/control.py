"""The control endpoint, for those who test a client: counters, the true ids, other options. No key is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from .answers import Answer, Request, json_answer, text_answer
from .counters import Counters
from .event_pages import EventPages
from .fault_plan import damaged_by
from .listings import feed_text
from .options import OptionError, changed
from .world import World

PREFIX = "/simulator/"
_IDS_IN_A_BLOCK = 10_000


class Control:
    """`GET counters`, `POST reset`, `POST options`, `GET ids`, `GET events`, `GET damaged`."""

    def __init__(self, world: World, pages: EventPages, counters: Counters) -> None:
        self._world = world
        self._pages = pages
        self._counters = counters

    def answer(self, request: Request) -> Answer:
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "counters":
                return json_answer(self._counters.as_json())
            case "POST", "reset":
                self._counters.reset()
                return json_answer({})
            case "POST", "options":
                return self._change(request)
            case "GET", "ids":
                return Answer(200, list(self._ids()), "text/plain; charset=utf-8", encoding="identity")
            case "GET", "events":
                return Answer(200, self._events(), "application/x-ndjson", encoding="identity")
            case "GET", "damaged":
                return Answer(200, list(self._damaged()), "application/x-ndjson", encoding="identity")
        return text_answer(f"{self.__doc__}\n", status=404)

    def _change(self, request: Request) -> Answer:
        try:
            texts = json.loads(b"".join(request.body))
            options = changed(self._world.options, texts, running=True)
        except (OptionError, ValueError, TypeError, AttributeError) as error:
            return text_answer(f"{error}\n", status=400)
        with self._world.lock:
            anew = options.fault != self._world.options.fault
            self._world.options = options
            if anew:
                self._pages.plan_faults()
        return json_answer({})

    def _ids(self) -> Iterator[bytes]:
        """One a line, newest first, in blocks: 3,000,000 ids are 111 MB."""
        shown = self._world.shown
        for first in range(shown.start, shown.stop, _IDS_IN_A_BLOCK):
            block = range(first, min(first + _IDS_IN_A_BLOCK, shown.stop))
            yield "".join(f"{one}\n" for one in self._world.dataset.ids(block)).encode()

    def _events(self) -> Sequence[bytes]:
        """Every event as it is served without faults, one a line, newest first."""
        return [self._world.dataset.event(index) + b"\n" for index in self._world.shown]

    def _damaged(self) -> Iterator[bytes]:
        """Every event that was served damaged: its true id, and the text, as either endpoint spells it; as that need
        not be UTF-8, it is read as Latin-1, a character a byte."""
        dataset, seed = self._world.dataset, self._world.options.seed
        for index, damages in sorted(self._pages.damaged.copy()):
            for spelled in sorted({dataset.event(index), feed_text(dataset, index)}):
                text = damaged_by(spelled, damages, seed, index)
                yield json.dumps({"id": str(dataset.event_id(index)), "text": text.decode("latin-1")}).encode() + b"\n"
