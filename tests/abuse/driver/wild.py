"""Wild values: numbers, texts, bytes and JSON that nobody writes on purpose."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(10**30, 10**400, -(10**40), 0.5, -0.5, 1e-300, 1e300, -1e300, 5e-324, 0.1 + 0.2, -0.0, 1e-9),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "auto",
        "none",
        "null",
        "true",
        "cpu",
        "cuda",
        "cuda:99",
        "meta",
        "mps",
        "all",
        "-",
        "--",
    ),
    *(
        "a\0b",
        "\ud800",
        "é" * 300,
        "x" * 5000,
        "../../x",
        "/",
        "~",
        "a,b,,c",
        "=",
        "a=b",
        "%s%n{0}",
        "\n",
        "\t",
    ),
    *(
        "1e5",
        "0x10",
        "1_000",
        "²",
        "١٢",
        "1,2",
        "nan",
        "-inf",
        "!!python/name:os.system",
        "[",
        "{",
        "]",
        "&a",
    ),
    *("\u202e", "\u0000", "<script>", "'; drop", "$(touch x)", "`id`", "os:system", "builtins:eval", "a:b:c"),
)


def number(random: Random) -> Any:
    """A number that is rarely meant."""
    if random.random() < 0.3:
        return random.choice([random.randint(-9, 9), random.uniform(-2, 2), random.randint(-(2**40), 2**40)])
    return random.choice(NUMBERS)


def text(random: Random) -> str:
    """A text that is rarely meant."""
    if random.random() < 0.2:
        return "".join(
            chr(random.choice([random.randint(1, 127), random.randint(128, 0xD7FF)])) for _ in range(9)
        )
    return random.choice(TEXTS)


def value(random: Random, depth: int = 2) -> Any:
    """Anything that JSON can say, and NaN."""
    choice = random.randrange(7 if depth else 4)
    if choice == 0:
        return random.choice([None, True, False, [], {}])
    if choice in (1, 2):
        return number(random)
    if choice == 3:
        return text(random)
    if choice == 4:
        return {text(random): value(random, depth - 1) for _ in range(random.randrange(3))}
    return [value(random, depth - 1) for _ in range(random.randrange(4))]


def places(data: Any) -> list[tuple[Any, ...]]:
    """The keys on the way to each value of parsed JSON."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found: list[tuple[Any, ...]] = []
    for key, inner in items:
        found.append((key,))
        found += [(key, *rest) for rest in places(inner)]
    return found


def changed_json(random: Random, data: Any) -> Any:
    """Parsed JSON with one to three values, at any depth, replaced, taken away or doubled."""
    data = copy.deepcopy(data)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        known = places(data)
        if not known or random.random() < 0.03:
            return value(random)
        *parents, leaf = random.choice(known)
        section = data
        for key in parents:
            section = section[key]
        what = random.random()
        if what < 0.15:
            del section[leaf]
        elif what < 0.25 and isinstance(section, list):
            section.append(copy.deepcopy(section[leaf]))
        elif what < 0.3 and isinstance(section, dict):
            section[text(random)] = section.pop(leaf)
        else:
            section[leaf] = value(random)
    return data


def dumped(data: Any) -> bytes:
    """Parsed JSON as a file's bytes, whatever is in it."""
    try:
        return json.dumps(data).encode()
    except ValueError:  # an integer of too many digits for this Python
        return b'{"classes": [{"id": ' + b"9" * 5000 + b"}]}"


def changed_text(random: Random, content: bytes) -> bytes:
    """A text file, damaged as text files are."""
    what = random.randrange(10)
    at = random.randrange(max(1, len(content)))
    if what == 0:
        return content[:at]
    if what == 1:
        return b"[" * random.choice([50, 101, 5000, 100_000]) + content
    if what == 2:
        return b'{"a":' * random.choice([50, 101, 5000]) + content
    if what == 3:
        return (
            content[:at]
            + random.choice([b"\xff", b"\0", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3"])
            + content[at:]
        )
    if what == 4:
        return random.choice(
            [b"", b" ", b"\n", b"\0" * 100, b"null", b"[]", b"{}", b'""', b"0", b"NaN", b"1e999"]
        )
    if what == 5:
        digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
        if digits:
            at = random.choice(digits)
            new = random.choice(
                [b"9" * 40, b"9" * 5000, b"-1", b"NaN", b"1e999", b"Infinity", b"0.5", b'"x"']
            )
            return content[:at] + new + content[at + 1 :]
    if what == 6:
        return content.decode(errors="replace").encode(random.choice(["utf-16", "utf-32", "utf-8-sig"]))
    if what == 7:
        return content + content
    return changed_bytes(random, content)


def changed_bytes(random: Random, content: bytes) -> bytes:
    """Bytes with some flipped, cut out, put in, or an end missing."""
    data = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        at, what = random.randrange(len(data)), random.randrange(5)
        if what == 0:
            del data[at:]
        elif what == 1:
            data[at] ^= 1 << random.randrange(8)
        elif what == 2:
            data[at] = random.choice([0, 255, 127, 128, random.randrange(256)])
        elif what == 3:
            del data[at : at + random.randrange(1, 9)]
        else:
            data[at:at] = random.randbytes(random.randrange(1, 9))
    return bytes(data)
