"""`bin/submit`: the checks, the consent, and then one POST, with its intention and its ending in the sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from .api.client import Response, Upload
from .api.submissions import CHECK, TRIES, Listing, SubmissionApi, accepted
from .books import Balance, require_own
from .errors import ApiUnreachableError, IngestError, NotTheApiError, StoppedError, SubmissionHeldError
from .key_clock import KeyClock
from .ledger import Ledger, Submission
from .postgres.database import database
from .postgres.source import SourceDatabase
from .redaction import without_secrets
from .settings import Settings
from .stopping import StopRequest, Wake, stop_on_signals
from .submission import IdFile, checked_repository, objections, opened, reminders, require_unchanged, tries_with
from .submitted import Accepted, Tries
from .units import show_seconds

PATIENCE_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What the person asked for. `answered`: the question is answered already (`--yes`)."""

    github_repo: str
    path: str
    force: bool = False
    answered: bool = False


def submit(
    settings: Settings, order: Order, *, say: Say, ask: Callable[[str], bool], shown: Callable[[int, int], None]
) -> Accepted:
    """Submits the file, once, if nothing speaks against it and `ask` says yes.

    `shown(done, total)` is told of the bytes that go out. Raises SubmissionHeldError, with every reason, before the
    first of them; SubmissionRefusedError, KeyRefusedError, SubmissionUnknownError or StoppedError after that.
    """
    checked_repository(order.github_repo)
    with ExitStack() as entered:
        enter = entered.enter_context
        stop = enter(_stoppable())
        ledger = enter(Ledger.open(settings.data_dir, purpose="bin/submit"))
        api = enter(SubmissionApi(settings))
        with _nothing_sent_yet():
            file, found = enter(opened(order.path))
            held = _Held(settings, order, say)
            held.settle(_against(settings, ledger, found, stop, say))
            key_clock = _first_call(settings, ledger, say)
            listing = held.listing(api)
            earlier = tries_with(key_clock.mark, _own(settings, ledger), key_clock.first_used_at or 0.0)
            held.consent(found, listing, key_clock, reminders(found, earlier), ask)
            require_unchanged(file, found)
        attempt = _Attempt(settings, order, ledger, key_clock, stop, say)
        response = attempt.made(api, file, found, shown)
        return Accepted(order.github_repo, found, accepted(response, found.size))


def tries(settings: Settings, *, say: Say) -> Tries:
    """The submissions as the server and the sidecar know them. One request, which costs no try."""
    with (
        _stoppable(),
        Ledger.open(settings.data_dir, purpose="bin/submit --list") as ledger,
        SubmissionApi(settings) as api,
    ):
        _first_call(settings, ledger, say)
        return Tries(api.listing(), tuple(_own(settings, ledger)))


class _Held:
    """What may hold a submission back, before a byte of it goes out."""

    def __init__(self, settings: Settings, order: Order, say: Say) -> None:
        self._settings = settings
        self._order = order
        self._say = say

    def settle(self, against: Sequence[str]) -> None:
        """Raises SubmissionHeldError, unless --force overrides what speaks against it."""
        if against and not self._order.force:
            raise _held(
                against,
                "Run bin/ingest until it is complete, then bin/export-ids, then this again. --force submits the file"
                " all the same.",
            )
        for reason in against:
            self._say(f"--force overrides: {reason}")

    def listing(self, api: SubmissionApi) -> Listing | None:
        """None where --force overrides that there is none to be had. Raises SubmissionHeldError: no try is left."""
        try:
            listing = api.listing()
        except (ApiUnreachableError, NotTheApiError) as error:
            if not self._order.force:
                raise
            self._say(f"--force overrides: {error}")
            return None
        if listing.left > 0 or (self._order.force and not listing.told):
            return listing
        raise _held(
            [f"No try is left: a key has {TRIES}, and the server lists {len(listing.entries)} that it accepted."],
            "bin/submit --list shows them. Only another key can submit again."
            + ("" if listing.told else " --force tries all the same, since the server does not tell what is left."),
        )

    def consent(
        self,
        found: IdFile,
        listing: Listing | None,
        key_clock: KeyClock,
        earlier: Sequence[str],
        ask: Callable[[str], bool],
    ) -> None:
        """Raises SubmissionHeldError unless the person says yes; `--yes` does not say it to what `earlier` tells."""
        left = "not known" if listing is None else listing.left_text
        self._say(f"File        {found.text()}")
        self._say(f"SHA-256     {found.sha256}")
        self._say(f"Repository  {self._order.github_repo}")
        self._say(f"Server      {self._settings.api_base_url}")
        self._say(f"Key         ends in {show_seconds(key_clock.left_s() or 0)}")
        self._say(f"Tries left  {left}; this costs one, whatever becomes of it")
        for reminder in earlier:
            self._say(f"Note        {reminder}")
        if earlier and self._order.answered and not self._order.force:
            raise _held(earlier, "Run it without --yes to be asked, or with --force.")
        tries_left = "the last try" if listing is not None and listing.left == 1 else f"{left} tries left"
        if not ask(f"Submit {found.ids:,} IDs from {found.path} for {self._order.github_repo}, with {tries_left}?"):
            raise SubmissionHeldError("Nothing was submitted: the answer was not yes.")


class _Attempt:
    """One POST between its intention and its ending in the sidecar."""

    def __init__(
        self, settings: Settings, order: Order, ledger: Ledger, key_clock: KeyClock, stop: StopRequest, say: Say
    ) -> None:
        self._settings = settings
        self._order = order
        self._ledger = ledger
        self._key_clock = key_clock
        self._stop = stop
        self._say = say

    def made(self, api: SubmissionApi, file: BinaryIO, found: IdFile, shown: Callable[[int, int], None]) -> Response:
        """The server's answer. Where there is none the sidecar keeps that nobody knows the ending."""
        self._say(f"Sending {found.size:,} bytes.")
        self._stop.defer()  # a signal that raised where the program stands could be lost in a library
        number = self._intended(found)
        if self._stop:
            self._ledger.submissions.ended(number)
            raise StoppedError(self._stop.error().exit_code - 128, "Stopped. Nothing was submitted.")
        upload = Upload(file, found.size, lambda done: self._went_out(done, found.size, shown))
        try:
            response = self._stop.wait_for(lambda: api.submit(self._order.github_repo, upload))
        except ApiUnreachableError:
            self._ledger.submissions.ended(number)
            raise
        except StoppedError as stopped:
            raise _stopped(stopped, upload) from None
        self._keep(number, response)
        return response

    def _intended(self, found: IdFile) -> int:
        return self._ledger.submissions.intend(
            github_repo=self._order.github_repo,
            path=found.path,
            ids=found.ids,
            size=found.size,
            sha256=found.sha256,
            source=self._settings.source,
            key=self._key_clock.mark,
        )

    def _went_out(self, done: int, size: int, shown: Callable[[int, int], None]) -> None:
        shown(done, size)
        if done == size:
            self._say("Everything is on its way. The server's answer can take minutes; do not stop this.")

    def _keep(self, number: int, response: Response) -> None:
        """Never raises what would hide the answer."""
        try:
            reply = without_secrets(response.body.decode(errors="replace"), self._settings)
            self._ledger.submissions.ended(number, response.status, reply)
        except IngestError as error:
            self._say(f"warning: the answer could not be kept in the sidecar: {error}")


@contextmanager
def _stoppable() -> Iterator[StopRequest]:
    with closing(Wake()) as wake, stop_on_signals(wake) as stop:
        yield stop


def _against(settings: Settings, ledger: Ledger, found: IdFile, stop: StopRequest, say: Say) -> list[str]:
    known = ledger.fact("source")
    against = objections(found, ledger.submissions.last_export(), _balance(settings, ledger, stop, say))
    if known not in (None, settings.source):
        against.append(f"The events are from {known}, and the submission would go to {settings.source}.")
    return against


def _balance(settings: Settings, ledger: Ledger, stop: StopRequest, say: Say) -> Balance | None:
    """The table against the API's total; the database is let go before anybody is asked or anything is sent."""
    if ledger.fact("source") is None:
        return None
    with (
        database(settings, say=say) as served,
        SourceDatabase(
            served.conninfo.reveal(), schema=settings.schema, patience_s=PATIENCE_S, waiting=say, waits=stop.wait_for
        ) as source,
    ):
        require_own(ledger, source)
        return Balance(source.holdings(), ledger.fact("total"))


def _own(settings: Settings, ledger: Ledger) -> list[Submission]:
    return [one for one in ledger.submissions.all() if one.source == settings.source]


def _first_call(settings: Settings, ledger: Ledger, say: Say) -> KeyClock:
    """Says what a request with the key means for it, which must come before the request."""
    key_clock = KeyClock(ledger, settings.required_api_key)
    left_s = key_clock.left_s()
    if left_s is None:
        say("The sidecar knows of no earlier call with this key: if this is the first one, its three hours begin now.")
    elif left_s <= 0:
        say(f"The key ended {show_seconds(-left_s)} ago, by this machine's clock.")
    key_clock.first_call()
    return key_clock


def _held(reasons: Sequence[str], hint: str) -> SubmissionHeldError:
    lines = "".join(f"\n  - {reason}" for reason in reasons)
    return SubmissionHeldError(f"Nothing was submitted:{lines}", hint=hint)


@contextmanager
def _nothing_sent_yet() -> Iterator[None]:
    """A stop in the block says so; it may come at the question, in whose line it must not be said."""
    try:
        yield
    except StoppedError as stopped:
        raise StoppedError(
            stopped.exit_code - 128,
            f"\nStopped by {stopped.signal_name}. Nothing was submitted.",
            hint="Run the same command again.",
        ) from None


def _stopped(stopped: StoppedError, upload: Upload) -> StoppedError:
    return StoppedError(
        stopped.exit_code - 128,
        f"Stopped by {stopped.signal_name} when {upload.sent:,} of {len(upload):,} bytes had gone out. The server may"
        " have counted it as a try.",
        hint=CHECK,
    )
