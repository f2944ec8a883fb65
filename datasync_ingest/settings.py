"""All settings in one frozen value: flag > environment > `.env` > default, checked once, printed without secrets.

Nothing else in the package reads the environment, `.env` or a default of a setting.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import __version__, conversions, credentials, units
from .errors import ConfigurationError
from .messages import EVENTS, FEED
from .secret import Secret as Secret

PUBLIC = "public"  # the schema that PostgreSQL makes with every database

# Masking a shorter text would garble every sentence that happens to hold it, and so give it away.
_SHORTEST_MASKED = 4


def _setting(variable: str, help: str, *, default: Any, convert: Callable[[str], Any], flag: str | None = None) -> Any:
    """`flag` is given where it is not the variable's name."""
    metadata = {"variable": variable, "help": help, "convert": convert, "shown_default": default, "flag": flag}
    return field(default=None if callable(default) else default, metadata=metadata)


def _workers() -> int:
    return min(8, max(2, os.cpu_count() or 2))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decided. Durations are seconds, sizes are bytes, `database` is a libpq conninfo or URL."""

    api_key: Secret | None = None
    database: Secret | None = None
    source: str = ""
    demo: bool = False
    proxies: tuple[tuple[str, str], ...] = ()
    ca_bundle: str | None = None
    stream_token: Secret | None = None

    api_base_url: str = _setting(
        "API_BASE_URL",
        "where the API is, with or without /api/v1",
        default="http://datasync-dev-alb-101078500.us-east-1.elb.amazonaws.com/api/v1",
        convert=conversions.base_url,
    )
    endpoint: str = _setting(
        "SOURCE",
        "where events are read: events, the public endpoint, or feed, the dashboard's; the events are the same",
        default=EVENTS,
        convert=conversions.one_of(EVENTS, FEED),
    )
    fetch_concurrency: int = _setting(
        "FETCH_CONCURRENCY",
        "chains of pages that read the feed at once",
        default=8,
        convert=conversions.count(1, 64),
    )
    user_agent: str = _setting(
        "TARGET_USER_AGENT",
        "what every request says of who asks",
        default=f"datasync_ingest/{__version__}",
        convert=conversions.header_text,
    )
    stream_path: str | None = _setting(
        "TARGET_STREAM_PATH",
        "the feed's path, for a token of your own in TARGET_STREAM_TOKEN",
        default=None,
        convert=conversions.optional(conversions.url_path),
    )
    schema: str = _setting(
        "DB_SCHEMA",
        "the schema of the database that holds the tables; made where it is missing",
        default=PUBLIC,
        convert=conversions.schema_name,
        flag="--schema",
    )
    data_dir: Path = _setting(
        "DATA_DIR",
        "folder of the sidecar and the embedded database",
        default=Path("data"),
        convert=conversions.file_path,
    )
    worker_concurrency: int = _setting(
        "WORKER_CONCURRENCY",
        "parser/writer processes; the queue holds 2 pages for each",
        default=_workers,
        convert=conversions.count(1, 64),
    )
    scheduler: str | None = _setting(
        "DASK_SCHEDULER_ADDRESS",
        "the scheduler of the Dask cluster for bin/worker and --pool dask, such as tcp://10.0.0.1:8786",
        default=None,
        convert=conversions.optional(conversions.scheduler_address),
        flag="--scheduler",
    )
    batch_size: int = _setting("BATCH_SIZE", "events per request", default=5000, convert=conversions.count(1, 100_000))
    rate_limit_buffer: int = _setting(
        "RATE_LIMIT_BUFFER",
        "requests left unused in every rate-limit window",
        default=0,
        convert=conversions.count(0, 1000),
    )
    cursor_refresh_threshold: float = _setting(
        "CURSOR_REFRESH_THRESHOLD",
        "how long a fetched page waits for the database when the spool is full",
        default=60.0,
        convert=units.parse_seconds,
    )
    spool_limit: int = _setting(
        "SPOOL_LIMIT",
        "room on the disk for pages that the database cannot take",
        default=2 * 2**30,
        convert=units.parse_bytes,
    )
    stop_grace: float = _setting(
        "STOP_GRACE", "time to commit what is queued after Ctrl-C", default=8.0, convert=units.parse_seconds
    )
    api_patience: float = _setting(
        "API_PATIENCE", "how long the API may be away in mid-run", default=900.0, convert=units.parse_seconds
    )
    db_patience: float = _setting(
        "DB_PATIENCE",
        "how long the database may be away in mid-run",
        default=900.0,
        convert=units.parse_seconds,
    )
    max_page_bytes: int = _setting(
        "MAX_PAGE_BYTES",
        "the largest body of a page, inflated",
        default=64 * 2**20,
        convert=units.parse_bytes,
    )
    log_format: str = _setting(
        "LOG_FORMAT",
        "how log lines are written: text or json",
        default="text",
        convert=conversions.one_of("text", "json"),
    )
    metrics_port: int | None = _setting(
        "METRICS_PORT",
        "where Prometheus finds /metrics and /healthz while a run lasts; 0 takes a free port",
        default=None,
        convert=conversions.optional(conversions.count(0, 65_535)),
    )
    metrics_host: str = _setting(
        "METRICS_HOST", "the address to serve them on", default="127.0.0.1", convert=conversions.host
    )
    metrics_file: Path | None = _setting(
        "METRICS_FILE",
        "the file for node_exporter's textfile collector, written when a run ends",
        default=None,
        convert=conversions.optional(conversions.file_path),
    )

    def shown(self) -> dict[str, str]:
        """Every setting by its variable, as text and without a secret."""
        return {
            str(entry.metadata["variable"]): conversions.shown(getattr(self, entry.name)) for entry in setting_fields()
        }

    def changed(self) -> dict[str, str]:
        """Those of `shown` that are not the defaults; DATA_DIR always is among them, as it is absolute by now."""
        defaults = {str(entry.metadata["variable"]): conversions.shown(_default(entry)) for entry in setting_fields()}
        return {name: text for name, text in self.shown().items() if text != defaults[name]}

    @property
    def origin(self) -> str:
        """Scheme and authority, on which `/health` and `/internal` hang."""
        parts = urlsplit(self.api_base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def required_api_key(self) -> Secret:
        """Raises ConfigurationError where no key was given."""
        if self.api_key is None:
            raise ConfigurationError(
                "No API key: neither TARGET_API_KEY nor TARGET_API_KEY_FILE is set.",
                hint="Put TARGET_API_KEY=... into a file named .env in the working directory, or try --demo.",
            )
        return self.api_key

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that must not be printed: the key, the token, the database's conninfo and the password in it."""
        found = (self.api_key, self.stream_token, self.database)
        texts = [secret.reveal() for secret in found if secret is not None]
        texts += [match for text in texts for match in credentials.passwords_in(text)]
        return tuple(text for text in texts if len(text) >= _SHORTEST_MASKED)


def setting_fields() -> list[dataclasses.Field[Any]]:
    """The fields of `Settings` that have a variable and a flag, in the order of the help text."""
    return [entry for entry in dataclasses.fields(Settings) if "variable" in entry.metadata]


def flag_of(entry: dataclasses.Field[Any]) -> str:
    """`BATCH_SIZE` is `--batch-size`, unless the setting names another flag."""
    return entry.metadata["flag"] or "--" + str(entry.metadata["variable"]).lower().replace("_", "-")


def load(flags: Mapping[str, str | None], *, demo: bool = False, directory: Path | None = None) -> Settings:
    """The settings of this process. `flags` maps field names to what was typed (None: not given).

    With `demo`, environment and `.env` are not read at all, so that nothing of the user's can be touched.
    Raises ConfigurationError for the first value that cannot be used, naming where it came from.
    """
    directory = directory or Path.cwd()
    found: dict[str, tuple[str, str]] = {} if demo else _environment(directory)
    values: dict[str, Any] = {}
    for entry in setting_fields():
        values[entry.name] = _value(entry, flags.get(entry.name), found)
    values["data_dir"] = directory / values["data_dir"] / ("demo" if demo else "")
    if demo:
        return Settings(demo=True, source="demo", **values)
    import urllib.request  # 45 ms, and every worker process imports this module

    environment = {name: text for name, (text, _) in found.items()}
    return Settings(
        api_key=credentials.api_key(environment, directory),
        stream_token=credentials.stream_token(environment, values["stream_path"]),
        database=credentials.database(environment),
        source=values["api_base_url"],
        proxies=tuple(sorted(urllib.request.getproxies().items())),
        ca_bundle=environment.get("REQUESTS_CA_BUNDLE") or environment.get("SSL_CERT_FILE") or None,
        **values,
    )


def hand_down(database: Secret, others: Mapping[str, str]) -> None:
    """Names the database to the processes that this one starts, by their environment; the key they do not get.

    Of the `others` those variables that the user has not set.
    """
    os.environ.update({**others, **os.environ, "DATABASE_URL": database.reveal()})
    for name in credentials.API_SECRETS:
        os.environ.pop(name, None)


def handed_down() -> Secret | None:
    """The database that this process's environment names; None where it names none."""
    return credentials.database({name: text for name, text in os.environ.items() if text})


def forget_libpq_environment() -> None:
    """Drops `PG*` from this process's environment, so that libpq connects to exactly what it is told."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _environment(directory: Path) -> dict[str, tuple[str, str]]:
    """Variable -> (text, where it came from); the environment wins over `.env`, and an empty text is no text."""
    from dotenv import dotenv_values  # 20 ms, and every worker process imports this module

    path = directory / ".env"
    try:
        in_file = dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", hint="Mend or remove it.") from error
    found = {name: (text, str(path)) for name, text in in_file.items() if text}
    found.update({name: (text, "the environment") for name, text in os.environ.items() if text})
    return found


def _value(entry: dataclasses.Field[Any], flag: str | None, found: Mapping[str, tuple[str, str]]) -> Any:
    variable = entry.metadata["variable"]
    if flag is not None:
        text, origin, name = flag, "the command line", flag_of(entry)
    elif variable in found:
        (text, origin), name = found[variable], variable
    else:
        return _default(entry)
    try:
        return entry.metadata["convert"](text)
    except ValueError as error:
        shown = re.sub(r"//[^/@]*@", "//***@", text)  # a URL that should not have held a password, and does
        raise ConfigurationError(
            f"{name}={shown!r} (from {origin}) {error}.", hint=f"{name}: {entry.metadata['help']}."
        ) from None


def _default(entry: dataclasses.Field[Any]) -> Any:
    default = entry.metadata["shown_default"]
    return default() if callable(default) else default


def wants_colour() -> bool:
    """Whether the user has not said otherwise, https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_obeys() -> bool:
    """Whether the terminal, if there is one, can be told to draw over what it shows."""
    return os.environ.get("TERM", "dumb") != "dumb"


def environment() -> dict[str, str]:
    """This process's environment, for a program that the user talks to."""
    return dict(os.environ)
