"""`bin/quick-test`: one line a check, and consent before the key is used."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, closing

from ..checks import Check
from ..output import Output, require_consent
from ..progress import Display
from ..quick_test import QuickTest
from ..redaction import without_secrets
from ..settings import Settings
from ..stopping import Wake, stop_on_signals
from ..units import show_seconds
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="make the requests with the key without asking")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    def show(check: Check) -> None:
        if not out.as_json:
            out.line(without_secrets(check.line(out.styled), chosen))

    with ExitStack() as opened:
        opened.enter_context(stop_on_signals(opened.enter_context(closing(Wake()))))
        if options.demo:
            from ..demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        test = QuickTest(chosen, say=shown.write, shown=show)
        test.without_key()
        try:
            if test.checks.exit_code:
                shown.write("No request was made with the key: its clock begins with the first. Mend the above first.")
            elif require_consent(_question(test), given=options.yes or options.demo):
                test.with_key()
            else:
                shown.write("No request was made with the key.")
        finally:
            if out.as_json:
                out.result("", json.loads(without_secrets(json.dumps(test.as_json()), chosen)))
        return test.checks.exit_code


def _question(test: QuickTest) -> str:
    left_s = test.key_left_s()
    if left_s is None:
        clock = "It starts the key's clock: 3 hours from then on (90 minutes with some keys)."
    else:
        clock = f"The key's clock runs already: it ends in {show_seconds(left_s)}."
    requests = "one request" if test.keyed_requests == 1 else f"{test.keyed_requests} requests"
    return f"The next step makes {requests} with the key. {clock} Go on?"


COMMAND = command(
    "quick-test",
    "Looks at everything that a run needs, one line a check, and then makes one request with the key if you say yes.",
    "  bin/quick-test\n  bin/quick-test --yes --json\n  bin/quick-test --demo",
    _run,
    _flags,
)
