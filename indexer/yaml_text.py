"""YAML from outside: one reader of plain data, with limits on bytes, depth, aliases and numbers.

It knows texts, numbers, true and false, null, lists and mappings, and nothing else: a date is a text, and
other tags are refused. Read with PyYAML's safe loader, whose resolver follows YAML 1.1.
"""

from __future__ import annotations

from typing import Any

import yaml

from retrieval.json_text import ParseError, check_texts

#: Bytes of a YAML text; a list of 10,000 class names has a quarter of it.
MOST_BYTES = 2**20
#: How deep lists and mappings may stand in each other.
MOST_DEPTH = 30
#: Values of a text, those that an alias repeats counted each time.
MOST_NODES = 200_000
#: Characters of a number.
MOST_DIGITS = 40

_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))
_DATE = "tag:yaml.org,2002:timestamp"


def parse_yaml(content: bytes | str) -> Any:
    """What a YAML text says, as plain data.

    Raises ParseError for anything that is no YAML and for what the limits above refuse.
    """
    if len(content) > MOST_BYTES:
        raise ParseError(f"it has more than {MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        data = yaml.load(text, _PlainLoader)  # a subclass of the safe loader
    except ParseError:
        raise
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        raise ParseError(f"it is no YAML: {' '.join(str(problem).split())[:300]}") from problem
    check_texts(data)
    return data


class _PlainLoader(yaml.SafeLoader):
    """The safe loader, counting what it reads; see the module."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; raises ParseError beyond the limits."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ParseError(f"it is nested deeper than {MOST_DEPTH} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise ParseError("an alias stands inside of what it repeats")
        if node is not None:
            self._sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        """Values of a node, repeated ones counted each time."""
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        size = 1 + sum(self._sizes[id(part)] for part in parts)
        if size > MOST_NODES:
            raise ParseError(f"it has more than {MOST_NODES:,} values, repeated ones included")
        return size

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number of at most :data:`MOST_DIGITS` characters."""
        self._check_number(node)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number of at most :data:`MOST_DIGITS` characters."""
        self._check_number(node)
        return super().construct_yaml_float(node)

    @staticmethod
    def _check_number(node: yaml.Node) -> None:
        if isinstance(node.value, str) and len(node.value) > MOST_DIGITS:
            raise ParseError(f"a number has {len(node.value):,} characters, at most {MOST_DIGITS} are read")


# tables of the class, which PyYAML looks up on it
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _DATE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.yaml_constructors = {
    tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _TAGS
}
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _PlainLoader.construct_yaml_float)
