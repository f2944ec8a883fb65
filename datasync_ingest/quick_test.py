"""`bin/quick-test`: what a run needs, looked at one after the other; and, when it is let, one request with the key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from .api.client import Ask, Response, is_loopback
from .api.endpoints import OwnFeedEndpoint
from .api.envelope import Envelope, NotAPageError, read
from .api.limits import NO_LIMIT, rate_limits
from .api.outcomes import Fault, Outcome, outcome_of
from .api.probing import EVENTS, NotAskedError, Prober, Question
from .api.reading import said
from .api.stream_access import granted_by, question
from .checks import Check, Checks
from .conversions import API_PATH
from .database_check import check_database
from .errors import ApiError, ApiUnreachableError, DiskFullError, KeyRefusedError, NotTheApiError, OtherSourceError
from .estimate import Estimate, by_limit
from .key_clock import KEY_LIFE_S
from .key_use import KeyUse
from .ledger import Ledger
from .messages import FEED
from .settings import Settings
from .units import show_bytes, show_seconds

PURPOSE = "bin/quick-test"

_KEYLESS_REQUESTS = 2  # /health and the manifest
_READ_TIMEOUT_S = 20.0  # for answers that hold next to nothing
_EVENTS = 3_000_000  # of the documented service
_EVENT_BYTES = 600  # measured: 300 in the table with its index, the rest in the write-ahead log
_LEAST_BYTES = 512 * 2**20  # an empty embedded server with its log


class QuickTest:
    """`shown` gets each check as soon as it is made, `say` what is under way."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None], shown: Callable[[Check], None]) -> None:
        self.checks = Checks(shown)
        self.estimate: Estimate | None = None
        self._settings = settings
        self._say = say
        self._present = 0  # events in the table

    def as_json(self) -> dict[str, Any]:
        estimate = None if self.estimate is None else asdict(self.estimate)
        made = [asdict(check) for check in self.checks.made]
        return {"checks": made, "estimate": estimate, "exit_code": self.checks.exit_code}

    def without_key(self) -> None:
        """Everything that a run needs but the key's acceptance; makes two requests, without the key."""
        self._check_settings()
        self._check_address()
        self._check_disk()
        if self._check_data_directory():
            self._present = check_database(self._settings, self.checks, say=self._say)
        with closing(self._prober(_KEYLESS_REQUESTS)) as prober:
            if self._check_health(prober):
                self._check_manifest(prober)

    def key_left_s(self) -> float | None:
        """Seconds until the key ends; None where its clock has not begun."""
        return KeyUse(self._settings, purpose=PURPOSE).left_s()

    @property
    def keyed_requests(self) -> int:
        """How many `with_key` makes."""
        return 2 if self._settings.endpoint == FEED else 1

    def with_key(self) -> None:
        """One request with the key, for the first page that a run would ask for, and the estimate from it; for the feed
        another one, whether it lets us in."""
        use = KeyUse(self._settings, purpose=PURPOSE)
        with closing(self._prober(self.keyed_requests, use)) as prober:
            self._check_key(prober, use)
            if self._settings.endpoint == FEED and not self.checks.exit_code:
                self._check_feed(prober)

    def _check_key(self, prober: Prober, use: KeyUse) -> None:
        with self.checks.named("key"):
            ask = Ask(f"{self._settings.api_base_url}/events", {"limit": str(self._settings.batch_size)})
            response = _asked(prober, Question("GET /events", ask, (EVENTS,), retries=0))
            if (page := self._accepted(prober, response)) is not None:
                self._check_estimate(prober, page, response.read_at - response.sent_at, use.left_s())

    # --- without the key ---

    def _check_settings(self) -> None:
        shown = self._settings.shown()
        told = (f"{name} {shown[name]}" for name in ("BATCH_SIZE", "WORKER_CONCURRENCY", "DATA_DIR"))
        self.checks.ok("settings", ", ".join(told))
        with self.checks.named("key"):
            length = len(self._settings.required_api_key.reveal())
            self.checks.ok("key", f"one of {length} characters is set; whether the API takes it is the last check")

    def _check_address(self) -> None:
        url = self._settings.api_base_url
        if urlsplit(url).scheme == "https" or is_loopback(url):
            self.checks.ok("address", url)
        else:
            self.checks.warn(
                "address",
                f"{url} is plain http to another machine: whoever is on the way can read the key",
                "set API_BASE_URL to https:// if the service has it, else use a network that you trust",
            )

    def _check_disk(self) -> None:
        """Room for the spool and the embedded database; of a named one's server nothing is known."""
        directory = self._settings.data_dir
        there = next(folder for folder in (directory, *directory.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        embedded = self._settings.database is None
        need = (_EVENTS * _EVENT_BYTES + _LEAST_BYTES if embedded else 0) + self._settings.spool_limit
        what = f"{_EVENTS:,} events and a full spool need" if embedded else "a full spool needs"
        told = f"{show_bytes(free)} free for {directory}, {what} {show_bytes(need)}"
        if free >= need:
            self.checks.ok("disk", told)
        elif free >= _LEAST_BYTES:
            self.checks.warn("disk", told, "make room, set DATA_DIR to a larger disk or set a smaller SPOOL_LIMIT")
        else:
            self.checks.fail("disk", told, "make room, or set DATA_DIR to a larger disk", DiskFullError)

    def _check_data_directory(self) -> bool:
        """Whether it can be used."""
        with self.checks.named("data directory"), Ledger.open(self._settings.data_dir, purpose=PURPOSE) as ledger:
            source = ledger.fact("source")
            if source not in (None, self._settings.source):
                raise OtherSourceError(
                    f"{self._settings.data_dir} belongs to {source}, not to {self._settings.source}",
                    hint="use another DATA_DIR for another API; bin/ingest --adopt where the same API has moved",
                )
            state = "a run can go on there" if source else "nothing was ingested into it yet"
            self.checks.ok("data directory", f"{self._settings.data_dir} can be written, {state}")
            return True
        return False

    def _check_health(self, prober: Prober) -> bool:
        """Whether anything answers."""
        url = f"{self._settings.origin}/health"
        with self.checks.named("API"):
            response = _asked(prober, _keyless("GET /health", url))
            took_ms = (response.read_at - response.sent_at) * 1000
            if response.status == 200 and not response.body.lstrip().startswith(b"<"):
                self.checks.ok("API", f"{url} answers in {took_ms:,.0f} ms")
            else:
                what = "a web page" if response.status == 200 else said(response, self._settings)
                self.checks.warn("API", f"{url} answers {what}", "check API_BASE_URL: scheme, host and port")
            return True
        return False

    def _check_manifest(self, prober: Prober) -> None:
        url = self._settings.api_base_url
        with self.checks.named("manifest"):
            response = _asked(prober, _keyless(f"GET {API_PATH}", url))
            if name := _name_of(response):
                self.checks.ok("manifest", name)
            elif response.status in (401, 403):
                self.checks.ok("manifest", f"{url} asks for a key ({response.status}), as an API does")
            else:
                what = "no manifest" if response.status == 200 else said(response, self._settings)
                self.checks.warn("manifest", f"{url} answers {what}", f"check the path in API_BASE_URL: {API_PATH}")

    # --- with the key ---

    def _check_feed(self, prober: Prober) -> None:
        """With a token of the user's own one event is asked for, else a token."""
        with self.checks.named("feed"):
            if self._settings.stream_token is not None:
                endpoint = OwnFeedEndpoint(self._settings)
                ask = Ask(endpoint.url, {"limit": "1"}, headers=endpoint.access().headers)
                response = _asked(prober, Question("GET the feed", ask, retries=0))
                endpoint.answered(endpoint.access(), response)
                if response.status != 200:
                    raise NotTheApiError(f"{endpoint.url} answers {said(response, self._settings)}", endpoint.hint)
                self.checks.ok("feed", "your token is accepted")
                return
            response = _asked(prober, Question("POST stream access", question(self._settings), retries=0))
            try:
                granted = granted_by(response, self._settings)
            except Fault as fault:
                raise ApiUnreachableError(f"stream access: {fault}", "run the same command again later") from None
            life = "" if granted.life_s is None else f" for {show_seconds(granted.life_s)}"
            self.checks.ok("feed", f"granted{life}: {granted.path}")

    def _accepted(self, prober: Prober, response: Response) -> Envelope | None:
        """The page, where the answer is one."""
        outcome = outcome_of(response.status, response.body)
        if outcome is Outcome.PAGE:
            return self._whole(prober, response)
        if outcome is Outcome.KEY_REFUSED:
            remedy = "check TARGET_API_KEY; a key lives for 3 hours from its first call, some for 90 minutes"
            self.checks.fail("key", f"the API refuses it: {said(response, self._settings)}", remedy, KeyRefusedError)
        elif outcome is Outcome.LIMIT_REFUSED:
            remedy = "bin/ingest steps down by itself; bin/explore-api finds the largest page"
            words = said(response, self._settings)
            self.checks.warn("key", f"no page of {self._settings.batch_size:,} events: {words}", remedy)
        else:
            remedy = "check API_BASE_URL: scheme, host, port and path"
            self.checks.fail("key", f"/events answers {said(response, self._settings)}", remedy, NotTheApiError)
        return None

    def _whole(self, prober: Prober, response: Response) -> Envelope | None:
        try:
            page = read(response.body)
        except NotAPageError as error:
            remedy = "check API_BASE_URL; where it is right, run the same command again"
            self.checks.fail("key", f"/events answers no whole page: {error}", remedy, ApiError)
            return None
        told = prober.windows.last(EVENTS)
        window = "" if told is None else f", {told.remaining} of {told.limit} requests left in this window"
        took_s = response.read_at - response.sent_at
        self.checks.ok("key", f"accepted: {page.received:,} events in {took_s:.2f} s{window}")
        return page

    def _check_estimate(self, prober: Prober, page: Envelope, page_s: float, left_s: float | None) -> None:
        if page.total is None:
            self.checks.warn("estimate", "the API tells no total, so that nothing can be estimated")
            return
        self.estimate = self._estimate(prober, page, page.total, page_s)
        there = f" ({self._present:,} are in the table)" if self._present else ""
        sentence = f"{page.total:,} events{there}, {self.estimate.sentence()}"
        life_s = KEY_LIFE_S if left_s is None else left_s
        if (self.estimate.seconds or 0) > life_s:
            ends = f"{sentence}, and the key ends in {show_seconds(life_s)}"
            self.checks.warn("estimate", ends, "bin/ingest goes on with a new key where it ended")
        else:
            self.checks.ok("estimate", sentence)

    def _estimate(self, prober: Prober, page: Envelope, total: int, page_s: float) -> Estimate:
        missing = max(0, total - self._present)
        size = page.received if page.has_more else self._settings.batch_size
        limit = next((one for one in rate_limits(prober.windows.told) if one.window == EVENTS), NO_LIMIT)
        return by_limit(missing, size, limit, unused=self._settings.rate_limit_buffer, page_s=page_s)

    def _prober(self, budget: int, use: KeyUse | None = None) -> Prober:
        return Prober(
            self._settings,
            budget,
            say=self._say,
            first_keyed=use.begin if use else lambda: None,
            events_asked=use.keep if use else lambda _: None,
            saved=use.saved() if use else None,
            quiet=True,
        )


def _asked(prober: Prober, question: Question) -> Response:
    try:
        return prober.ask(question)
    except NotAskedError as error:
        raise ApiUnreachableError(
            f"{question.ask.url} cannot be had: {error}",
            hint="check API_BASE_URL and the network; a server in trouble may be well in a minute",
        ) from None


def _keyless(name: str, url: str) -> Question:
    return Question(name, Ask(url, keyed=False, read_timeout_s=_READ_TIMEOUT_S), retries=0)


def _name_of(response: Response) -> str:
    """What the manifest calls the API; empty for what is no manifest."""
    try:
        found = json.loads(response.body)
        endpoints = ", ".join(map(str, found["endpoints"]))
        return f"{found['name']} {found.get('version', '')} with {endpoints}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
