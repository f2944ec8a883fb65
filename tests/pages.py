"""An HTML page as a test sees it: elements that are closed in order, tables, and what Chromium says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "col"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@dataclass
class Element:
    """`text` is that of everything inside of it."""

    name: str
    attributes: dict[str, str | None]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator[Element]:
        """Every element of this name inside of it, in their order."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.all(name)

    def of_class(self, name: str, word: str) -> list[Element]:
        return [one for one in self.all(name) if word in (one.attributes.get("class") or "").split()]


class _Strict(HTMLParser):
    """Fails where an element is closed that was not the last to be opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]
        self.names: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute comes twice: {self.get_starttag_text()}"
        element = Element(tag, dict(attrs))
        self.names.append(element.attributes.get("id"))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def parsed(text: str) -> Element:
    """The document; fails the test where it is not well-formed."""
    parser = _Strict()
    parser.feed(text)
    parser.close()
    assert [one.name for one in parser.open] == [""], "not every element is closed"
    names = [name for name in parser.names if name is not None]
    assert len(set(names)) == len(names), "an id comes twice"
    return parser.open[0]


def table_of(element: Element) -> tuple[list[str], list[list[str]]]:
    """The titles and the cells of the only table inside of it; numbers in full where the cell has them."""
    (table,) = element.all("table")
    rows = [[cell.attributes.get("data-v") or cell.text for cell in row.all("td")] for row in table.all("tr")]
    return [head.text for head in table.all("th")], [row for row in rows if row]


def in_chromium(path: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its scripts have run, and every line of its console."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += [f"--user-data-dir={path.parent / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    ended = subprocess.run(
        [*words, *flags, "--dump-dom", path.absolute().as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    return ended.stdout, re.findall(r"CONSOLE[^\n]*", ended.stderr)
