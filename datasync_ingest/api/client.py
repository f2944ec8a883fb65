"""One request to the API: session, key, timeouts, streaming inflation. It never retries and never waits."""

from __future__ import annotations

import io
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import should_bypass_proxies

from ..redaction import foreign
from ..settings import Settings
from .outcomes import Answered, Fault, NotConnected, TooLarge

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 90  # pages that take 30 s and more were seen
BODY_TIMEOUT_S = 300  # for a server that sends a byte now and then, which no read timeout ends
# For a body that goes out: how long the server may take none of it, and how long it may think when it has all of it.
# The first bounds the connecting as well, since urllib3 has one timeout for both.
STALL_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 900
# Asked for at once, and set free again where less has come. A page of 1.7 MB that comes 16 KiB at a time costs 4.2 ms
# of CPU, and 5.8 with 1 MiB; one that comes faster 1.4 and 2.5, or compressed, either way, 5.1.
_CHUNK_BYTES = 1 << 17
# What urllib3 puts before a reason: the connection's representation, and words that say no more than the reason.
_AROUND = re.compile(
    r"^(?:<?[\w.]*Connection\w*.*?[)>]: )?(?:Failed to establish a new connection: )?(?:\[Errno \d+\] )?"
)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with its inflated body; times are the client's monotonic clock, in seconds.

    `received_at` is when the headers came, `read_at` when the body was whole; `wire_bytes` is the body as it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float
    received_at: float
    read_at: float
    wire_bytes: int = 0

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class Upload:
    """The bytes of a file on their way out. `sent` counts those that were handed to the connection; `shown` is told."""

    def __init__(self, file: BinaryIO, size: int, shown: Callable[[int], None]) -> None:
        """`file` stands at its beginning, and is `size` bytes long."""
        self._file = file
        self._size = size
        self._shown = shown
        self.sent = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        """Raises OSError where the file has become shorter: a request must not end before its Content-Length."""
        left = self._size - self.sent
        block = self._file.read(left if size < 0 else min(size, left))
        if left and not block:
            raise OSError(f"the file has become shorter: it ends after {self.sent:,} of {self._size:,} bytes")
        self.sent += len(block)
        if block:
            with suppress(OSError, ValueError):  # a screen that is gone must not cut a body off
                self._shown(self.sent)
        return block


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `keyed`: with the key in its header; `headers` replace the session's own of the same name."""

    url: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    keyed: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    json: object = None
    read_timeout_s: float = READ_TIMEOUT_S


class ApiClient:
    """A session. One connection, kept alive; not to be shared between threads."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._session = _session(settings)

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Response:
        """One GET with the key. Raises Fault for whatever brought no whole answer."""
        return self.send(Ask(url, parameters, headers=headers or {}))

    def send(self, ask: Ask) -> Response:
        """Any one request. Raises Fault for whatever brought no whole answer, ConfigurationError without a key."""
        key = self._key() if ask.keyed else {}
        sent_at = self._clock()
        try:
            with self._session.request(
                ask.method,
                ask.url,
                params=dict(ask.parameters),
                headers={**ask.headers, **key},
                json=ask.json,
                timeout=(CONNECT_TIMEOUT_S, ask.read_timeout_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                received_at = self._clock()
                body = self._body(answer, deadline=received_at + BODY_TIMEOUT_S)
                wire = int(answer.raw.tell())
                return Response(answer.status_code, answer.headers, body, sent_at, received_at, self._clock(), wire)
        except requests.RequestException as error:
            raise Fault(self._told(error, ask.parameters)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Fault(f"the answer broke off: {self._told(error, ask.parameters)}") from error

    def post(self, url: str, parameters: Mapping[str, str], upload: Upload) -> Response:
        """One POST of plain text with the key; the answer may come at any time, and ends the upload.

        It takes a connection of its own: one that was kept alive may be dead, which shows only when bytes are gone.
        Raises NotConnected, or Fault: then nobody knows what has arrived.
        """
        sent_at = self._clock()
        try:
            with (
                _session(self._settings) as session,
                session.post(
                    url,
                    params=dict(parameters),
                    data=upload,
                    headers={"Content-Type": "text/plain", **self._key()},
                    timeout=(STALL_TIMEOUT_S, ANSWER_TIMEOUT_S),
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                received_at = self._clock()
                body = self._body(answer, deadline=received_at + BODY_TIMEOUT_S)
                return Response(answer.status_code, answer.headers, body, sent_at, received_at, self._clock())
        except requests.RequestException as error:
            raise (NotConnected if _never_connected(error) else Fault)(self._told(error, parameters)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Fault(f"the answer broke off: {self._told(error, parameters)}") from error

    def _told(self, error: BaseException, parameters: Mapping[str, str]) -> str:
        """The libraries' errors hold the URL now and then, with the cursor in it."""
        return foreign(_sentence(error), self._settings, parameters.get("cursor"))

    def _key(self) -> dict[str, str]:
        """In the headers of each request that needs it, and not of the session: some go without."""
        return {"X-API-Key": self._settings.required_api_key.reveal()}

    def _body(self, answer: requests.Response, deadline: float) -> bytes:
        """Inflates as a stream, at most a chunk at a time, so that a small body cannot become a huge one unseen."""
        body = io.BytesIO()  # gives its bytes away without a copy, where joining chunks would hold all of them twice
        most = self._settings.max_page_bytes
        packed = (
            "Content-Encoding" in answer.headers
        )  # what is not goes past urllib3's own buffer, which is one more copy
        while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=packed):  # what is there, without waiting for more
            body.write(chunk)
            if body.tell() > most:
                text = f"the body is larger than MAX_PAGE_BYTES ({most})"
                raise TooLarge(text) if answer.status_code == 200 else Answered(text)
            if self._clock() > deadline:
                raise Fault(f"the body took longer than {BODY_TIMEOUT_S} s")
        return body.getvalue()


def _session(settings: Settings) -> requests.Session:
    """Nothing is taken from the environment or `.netrc` behind the settings' back, and nothing is retried."""
    session = requests.Session()
    session.trust_env = False
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.headers.update(
        {
            "User-Agent": settings.user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
    )
    session.proxies = _proxies(settings)
    session.verify = settings.ca_bundle or True
    return session


def _proxies(settings: Settings) -> dict[str, str]:
    proxies = dict(settings.proxies)
    no_proxy = proxies.pop("no", None)
    if is_loopback(settings.api_base_url) or should_bypass_proxies(settings.api_base_url, no_proxy):
        return {}
    return proxies


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _never_connected(error: requests.RequestException) -> bool:
    """Whether it is surely so: only errors that are raised before there is a connection count."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, urllib3.exceptions.ProxyError):
        reason = reason.original_error
    return isinstance(reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def _sentence(error: BaseException) -> str:
    """The innermost reason, without the object addresses and the URL that the libraries put around it."""
    reason: BaseException = error
    while True:
        inner = getattr(reason, "reason", None) or next((a for a in reason.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return _AROUND.sub("", str(reason))
