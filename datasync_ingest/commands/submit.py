"""`bin/submit`: the file of IDs goes to the API."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from ..output import Output, require_consent
from ..progress import Display, upload_bar
from ..settings import Settings
from ..submit import Order, submit, tries
from .command import command


def _flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--github-repo", metavar="URL", help="https://github.com/OWNER/REPO, the repository to submit for"
    )
    what.add_argument("--list", action="store_true", help="show what was submitted and the tries left; costs no try")
    parser.add_argument("--file", default="event_ids.txt", help="what bin/export-ids wrote (default: event_ids.txt)")
    parser.add_argument("--yes", action="store_true", help="do not ask; does not answer for what happened before")
    parser.add_argument("--force", action="store_true", help="submit although something speaks against it; says what")


def _run(options: argparse.Namespace, chosen: Settings, shown: Display, out: Output) -> int:
    with ExitStack() as opened:
        if options.demo:
            from ..demo import demo_api

            chosen = opened.enter_context(demo_api(chosen))
        if options.list:
            found = tries(chosen, say=shown.write)
            out.result(found.text(), found.as_json())
            return 0
        bar = opened.enter_context(upload_bar(sys.stderr))
        accepted = submit(
            chosen,
            Order(options.github_repo, options.file, force=options.force, answered=options.yes),
            say=shown.write,
            ask=lambda question: require_consent(question, given=options.yes),
            shown=bar,
        )
    out.result(accepted.text(), accepted.as_json())
    accepted.require_all_counted()
    return 0


COMMAND = command(
    "submit",
    "Submits the file of IDs. A key has five tries, and every one that reaches the server counts: everything is checked"
    " first, then you are asked.",
    "  bin/submit --github-repo https://github.com/OWNER/REPO\n  bin/submit --list\n"
    "  bin/submit --demo --github-repo https://github.com/OWNER/REPO   # a rehearsal, at the simulator",
    _run,
    _flags,
)
