"""What Prometheus sees of a run: counters and histograms as things happen, gauges of how it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..activity import DATABASE, FETCHING, RATE_LIMIT, SERVER
from ..errors import ConfigurationError
from ..messages import RawPage, Receipt, RequestEnded
from ..progress import Snapshot
from .server import Answer, Request

OUTCOMES = ("inserted", "already_there", "rejected")
_CAUSES = (FETCHING, RATE_LIMIT, SERVER, DATABASE)
_FETCH_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 100)  # pages of 1 to 6 s are usual, of 30 s were seen
_COMMIT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 900)  # a database may be away for 15 min

# Else each series has another beside it that says when it began: they all begin with the process.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """An Observer with a registry of its own. `page` may be asked for by any thread.

    `labels` are on every series: what tells the runs of a machine apart where their files are collected together.
    """

    def __init__(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._registry = CollectorRegistry()
        self._labelled = _Labelled(self._registry, labels or {})
        self._standing = _Standing(clock=clock, wall=wall)
        self._registry.register(self._standing)
        self._events = self._counter("events", "Events of committed pages, by what became of them.", "outcome")
        for outcome in OUTCOMES:
            self._events.labels(outcome)
        self._repaired = self._counter("events_repaired", "Events that were noted as repaired, also counted above.")
        self._pages = self._counter("pages", "Pages committed.")
        self._requests = self._counter(
            "requests", "Requests to the API; status is none where no answer came.", "status", "outcome"
        )
        self._bytes = self._counter("received_bytes", "Bodies received from the API, inflated.")
        self._fetch = self._histogram(
            "fetch_duration_seconds", "From a request to its whole body, or its failure.", _FETCH_BUCKETS_S, "outcome"
        )
        self._decode = self._histogram("decode_duration_seconds", "Decoding of a page by a worker.", _COMMIT_BUCKETS_S)
        self._commit = self._histogram(
            "commit_duration_seconds", "From a page's rows to their commit, waits included.", _COMMIT_BUCKETS_S
        )

    def requested(self, request: RequestEnded) -> None:
        outcome = _word(request.outcome)
        self._requests.labels("none" if request.status is None else str(request.status), outcome).inc()
        self._bytes.inc(request.size)
        self._fetch.labels(outcome).observe(request.seconds)

    def committed(self, page: RawPage, receipt: Receipt) -> None:
        del page
        for outcome in OUTCOMES:
            self._events.labels(outcome).inc(getattr(receipt.counts, outcome))
        self._repaired.inc(receipt.counts.repaired)
        self._pages.inc()
        self._decode.observe(receipt.decode_s)
        self._commit.observe(receipt.write_s)

    def shown(self, snapshot: Snapshot) -> None:
        self._standing.shown(snapshot)

    def ended(self, exit_code: int) -> None:
        """From now on it is the end that is told of."""
        self._standing.ended(exit_code)

    def page(self, request: Request) -> Answer:
        """The form that was asked for: Prometheus's own or OpenMetrics."""
        encoder, content_type = choose_encoder(request.accept or "")
        return Answer(200, content_type, encoder(self._labelled))

    def write(self, path: Path) -> None:
        """The form of node_exporter's textfile collector; `path` is the whole of it or what it was before.

        Raises OSError.
        """
        write_to_textfile(str(path), self._labelled)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"datasync_{name}", help, labels, registry=self._registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"datasync_{name}", help, labels, buckets=buckets, registry=self._registry)


@dataclass(frozen=True, slots=True)
class _Labelled(Collector):
    """Another collector's metrics with more labels on each series."""

    inner: CollectorRegistry
    labels: Mapping[str, str]

    def collect(self) -> Iterator[Metric]:
        for metric in self.inner.collect():
            metric.samples = [one._replace(labels={**one.labels, **self.labels}) for one in metric.samples]
            yield metric


class _Standing(Collector):
    """Gauges of the latest snapshot; what is not known is left out."""

    def __init__(self, *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._began_at = wall()
        self._latest: tuple[Snapshot, float] | None = None
        self._end: tuple[int, float] | None = None

    def shown(self, snapshot: Snapshot) -> None:
        self._latest = snapshot, self._clock()

    def ended(self, exit_code: int) -> None:
        self._end = exit_code, self._wall()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("start_time_seconds", "When this process began to count, epoch seconds.", self._began_at)
        if self._end is not None:
            code, at = self._end
            yield _gauge("end_time_seconds", "When the run ended, epoch seconds.", at)
            yield _gauge("exit_code", "How it ended: 0 is complete.", code)
        if self._latest is not None:
            snapshot, at = self._latest
            yield _walk_seconds(snapshot)
            for name, help, value in self._gauges(snapshot, self._clock() - at):
                if value is not None:
                    yield _gauge(name, help, value)

    def _gauges(self, snapshot: Snapshot, age_s: float) -> Iterator[tuple[str, str, float | None]]:
        yield "table_events", "Events in the table.", snapshot.committed
        yield "api_events", "Events that the API has in all, as it says.", snapshot.total
        yield "spool_pages", "Fetched pages on the disk that no worker has yet.", snapshot.spooled
        yield "queue_pages", "Fetched pages that workers have and have not committed yet.", snapshot.queued
        if self._end is not None:
            return  # a file stays as it is, and what follows goes on
        yield "workers", "Workers that live.", snapshot.workers
        yield "rate_limit_remaining_requests", "Requests left in the rate-limit window.", snapshot.requests_left
        yield "cursor_remaining_seconds", "Until the newest cursor dies.", _less(snapshot.cursor_left_s, age_s)
        yield "key_remaining_seconds", "Until the API key dies.", _less(snapshot.key_left_s, age_s)


def require_writable(path: Path) -> None:
    """Raises ConfigurationError where the file could not be written at the end."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"METRICS_FILE={path} cannot be written: {error.strerror}.",
            hint="Name a file in a directory that is there and that can be written. Nothing was begun.",
        ) from None


def _gauge(name: str, help: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"datasync_{name}", help, value=value)


def _walk_seconds(snapshot: Snapshot) -> Metric:
    family = CounterMetricFamily("datasync_walk_seconds", "Where the time of the walk went.", labels=["cause"])
    for cause in _CAUSES:
        family.add_metric([_word(cause)], snapshot.seconds.get(cause, 0.0))
    return family


def _less(left_s: float | None, age_s: float) -> float | None:
    return None if left_s is None else max(0.0, left_s - age_s)


def _word(text: str) -> str:
    return text.replace(" ", "_")
