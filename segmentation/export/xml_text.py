"""What the formats in XML share."""

from __future__ import annotations

from xml.etree.ElementTree import Element, indent, tostring


def printable(text: str) -> str:
    """Text in which what XML cannot hold, such as control characters, is a replacement sign."""
    return "".join("\ufffd" if _forbidden(letter) else letter for letter in text)


def hex_color(color: tuple[int, int, int]) -> str:
    """A colour (red, green, blue; 0..255) as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def element_text(element: Element, *, level: int = 0) -> str:
    """An element as indented text, which stands ``level`` deep in its document."""
    indent(element, "  ", level=level)
    return "  " * level + tostring(element, encoding="unicode") + "\n"


def _forbidden(letter: str) -> bool:
    return (letter < " " and letter not in "\t\n\r") or letter in "\ufffe\uffff"
