"""HTML out of values: every text is escaped and made visible, but what is HTML already."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape


class Html(str):
    """Text that is HTML, and is not escaped again."""

    __slots__ = ()


Child = str | Iterable["Child"] | None
_VOID = frozenset({"meta", "br", "col"})


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """`element("a", "one < two", href="#x")`.

    An underscore in an attribute's name is a hyphen, one at its end falls away (`class_`). An attribute of None or
    False is left out; True is the bare name.
    """
    words = [
        name,
        *(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False),
    ]
    opening = f"<{' '.join(words)}>"
    return Html(opening if name in _VOID else f"{opening}{joined(children)}</{name}>")


def joined(child: Child) -> Html:
    """Any nest of texts as one piece of HTML."""
    if child is None:
        return Html("")
    if isinstance(child, str):
        return child if isinstance(child, Html) else Html(escape(visible(child)))
    return Html("".join(joined(one) for one in child))


def visible(text: str) -> str:
    """`text` with characters that cannot be seen, or that turn the ones around them, as `\\u{202e}`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{{{ord(one):x}}}" if _hidden(one) else one for one in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") and character != "\n"


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return name if value is True else f'{name}="{escape(visible(str(value)))}"'
