"""`bin/psql`: psql on the events, with everything that psql itself can do."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from .postgres.conninfo import for_program
from .postgres.database import database
from .postgres.programs import psql_program
from .settings import PUBLIC, Settings, environment
from .stopping import Wake, stop_on_signals


def psql(settings: Settings, arguments: Sequence[str], *, say: Callable[[str], None]) -> int:
    """Runs psql on the settings' database and returns its exit code, 128 + N where signal N ended it.

    Arguments that name another database name one on the same server. The settings' schema comes first in the search
    path, as far as it is another one than the default.
    """
    with (
        closing(Wake()) as wake,
        stop_on_signals(wake),
        database(settings, say=say) as served,
        _ctrl_c_is_psqls(),
    ):
        code = _run(served.conninfo.reveal(), settings.schema, arguments)
    return code if code >= 0 else 128 - code


def _run(conninfo: str, schema: str, arguments: Sequence[str]) -> int:
    variables, rest = for_program(conninfo)
    words = [str(psql_program()), *(["--dbname", rest] if rest else []), *arguments]
    with subprocess.Popen(words, env=_looking_into(schema, {**environment(), **variables})) as process:
        try:
            return process.wait()
        except BaseException:  # a signal for us alone: psql goes with us
            process.terminate()
            raise


def _looking_into(schema: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a name of a table means the one of the schema.

    The default one is left to the server, whose own default it is: some poolers refuse a session that sets options.
    """
    if schema == PUBLIC:
        return dict(variables)
    options = f"{variables.get('PGOPTIONS', '')} -c search_path={schema},{PUBLIC}"
    return {**variables, "PGOPTIONS": options.strip()}


@contextmanager
def _ctrl_c_is_psqls() -> Iterator[None]:
    """A terminal sends it to both of us: it ends a query, not the session.

    By a handler, which psql does not inherit; an ignored signal it would.
    """
    before = signal.signal(signal.SIGINT, lambda _signum, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
