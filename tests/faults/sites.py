"""Makes sites: on a database of a shared server behind a proxy, or with the run's own embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from datasync_ingest.postgres.accounts import server_account
from datasync_ingest.postgres.embedded import EmbeddedServer, embedded_postgres, embedded_server
from datasync_ingest.postgres.folders import server_home
from datasync_ingest.postgres.server import Server
from tests.faults.proxy import PORT, Proxy, before_api, before_postgres
from tests.faults.site import Api, Site
from tests.harness import until


def silent(_: str) -> None:
    """What the embedded PostgreSQL has to say is of no interest here."""


class SharedServer:
    """An embedded PostgreSQL that strikes may stop, and that is started again from here."""

    def __init__(self, directory: Path, server: EmbeddedServer) -> None:
        self._directory = directory
        self._server = server
        self._number = 0

    def pid_file(self) -> Path:
        return next(self._directory.rglob("postmaster.pid"), self._directory / "postmaster.pid")

    def revive(self) -> None:
        self._server.revive()
        self._server.settle()

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new database's conninfo; dropped at the end, even when the server was away in between."""
        self._number += 1
        name = f"site_{self._number}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield make_dsn(self._server.conninfo, dbname=name)
        finally:
            self.revive()
            with suppress(psycopg2.Error):
                self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with closing(psycopg2.connect(self._server.conninfo)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statement)


@contextmanager
def shared_server(directory: Path) -> Iterator[SharedServer]:
    with embedded_server(directory, say=silent) as server:
        yield SharedServer(directory, server)


@contextmanager
def shared_site(
    server: SharedServer, directory: Path, options: Mapping[str, Any], flags: Sequence[str] = ()
) -> Iterator[Site]:
    """A site on a new database, reached through a proxy."""
    sockets = directory / "p"
    with server.database() as conninfo, before_postgres(sockets, Path(parse_dsn(conninfo)["host"])) as proxy:
        way = make_dsn(conninfo, host=str(sockets), port=PORT)
        with _api(options) as (api, api_proxy, url):
            environment = {"DATABASE_URL": way, "API_BASE_URL": url}
            site = Site(directory, api, api_proxy, conninfo, server.pid_file, server.revive, proxy, environment, flags)
            try:
                yield site
            finally:
                site.end()


@contextmanager
def _api(options: Mapping[str, Any]) -> Iterator[tuple[Api, Proxy, str]]:
    """A simulator, the proxy before it, and the URL that leads through that."""
    with Api(options) as api:
        parts = urlsplit(api.url)
        assert parts.port is not None
        proxy, port = before_api(parts.port)
        with proxy:
            yield api, proxy, parts._replace(netloc=f"127.0.0.1:{port}").geturl()


@contextmanager
def embedded_site(directory: Path, options: Mapping[str, Any], flags: Sequence[str] = ()) -> Iterator[Site]:
    """A site whose runs have their embedded PostgreSQL, which they start again themselves; `directory` is reachable."""
    home = directory / "data" / "postgres"
    home.mkdir(parents=True)
    account = server_account()
    conninfo = Server(server_home(home.resolve(), account, say=silent), account).conninfo

    def pid_file() -> Path:
        return next(home.rglob("postmaster.pid"), home / "postmaster.pid")

    with _api(options) as (api, api_proxy, url):
        environment = {"API_BASE_URL": url}
        site = Site(directory, api, api_proxy, conninfo, pid_file, lambda: None, environment=environment, flags=flags)
        site.serving = lambda: embedded_postgres(home, say=silent)
        try:
            yield site
        finally:
            site.end()
            with embedded_postgres(home, say=silent):
                pass  # adopts what a killed run has left, and stops it
    until(lambda: not list(home.rglob("postmaster.pid")), what="the end of the embedded PostgreSQL")
