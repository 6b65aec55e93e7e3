"""YAML that is checked before values are built from it.

A few hundred bytes of YAML can stand for gigabytes: an alias repeats a value, a merge key copies a mapping,
and both can be nested. A tag makes the parser convert a text into a number or a date, and some conversions
fail in unexpected ways. The text is therefore first read as a series of events, which takes little memory.
Values are built only if no event is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import ConstructorError

# Both limits hold for the text with every alias replaced by what it repeats
MAX_DEPTH = 32  # levels of collections in collections
MAX_VALUES = 100_000  # values, keys included
STRANGERS_VALUES = 2_000  # PyYAML takes a millisecond for ten values
_MERGE = "<<"
_KINDS = {"tag:yaml.org,2002:timestamp": "date", "tag:yaml.org,2002:float": "number"}
_RESOLVER = yaml.SafeLoader("")  # tells a number from a text
_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-Fxo_:.]*")
_NUMBER_LENGTH = 1000  # characters; Python refuses to print numbers of more than 4,300 digits


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet."""

    anchor: str | None
    is_mapping: bool
    values_before: int
    children: int = 0
    depth: int = 1  # levels of the collection and what it holds so far
    keys: dict[tuple[str, str], int] = field(default_factory=dict)  # (type, text) -> line


def parse_strangers_yaml(content: bytes | str) -> Any:
    """The value of a YAML text without aliases, merge keys and tags; an empty text gives None.

    Bytes must be UTF-8; the caller limits their number. Raises ValueError, which says what is wrong and in
    which line, also for more than 2,000 values or 32 levels.
    """
    return _parse(content, _refuse_constructs, STRANGERS_VALUES)


def check_size(text: str) -> None:
    """ValueError if a YAML text has more than 100,000 values, more than 32 levels, or a key twice.

    Every alias counts as what it repeats. Raises yaml.YAMLError if the text is no YAML.
    """
    _look_through(text, lambda event: None, MAX_VALUES)


def _parse(content: bytes | str, refuse: Callable[[yaml.NodeEvent], None], most: int) -> Any:
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from None
    try:
        _look_through(text, refuse, most)
        return build_values(text)
    except _Refusal:
        raise
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"not valid YAML ({where}{error.problem or error.context})") from None
    except Exception:  # what PyYAML's conversions raise is not documented
        raise ValueError("not valid YAML (a value in it cannot be read)") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with messages of ours: they say which value cannot be read, and in which line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:  # of dates and numbers
            kind = _KINDS.get(node.tag, node.tag.rpartition(":")[2])
            raise _problem(f"{node.value!s:.40} is not a valid {kind}", node) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.CollectionNode):
                raise _problem("a list or mapping stands as a key; write a text or number as key", key)
        return super().construct_mapping(node, deep)

    def refuse_tag(self, node: yaml.Node) -> Any:
        """Called for tags that have no meaning in plain YAML."""
        if node.tag == "tag:yaml.org,2002:value":
            raise _problem("the value '=' has a special meaning in YAML; put it in quotes", node)
        raise _problem(f"the tag {node.tag[:60]!r} is not known; leave it out", node)


_Loader.add_constructor(None, _Loader.refuse_tag)  # for all tags without a constructor


def build_values(text: str) -> Any:
    """The value of a YAML text that `check_size` has accepted; yaml.YAMLError if it has none."""
    return yaml.load(text, _Loader)


def _problem(reason: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, reason, node.start_mark)


class _Refusal(ValueError):
    """Valid YAML that is not allowed."""

    def __init__(self, event: yaml.Event, what: str) -> None:
        super().__init__(f"line {event.start_mark.line + 1}: {what}" if event.start_mark else what)


def _refuse_constructs(event: yaml.NodeEvent) -> None:
    """Refuse aliases, tags and merge keys, which a stranger's file may not hold."""
    if isinstance(event, yaml.AliasEvent):
        raise _Refusal(event, f"alias '*{event.anchor:.60}', which is not allowed; write the value out")
    if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
        raise _Refusal(event, f"tag {event.tag[:60]!r}, which is not allowed; leave it out")
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == _MERGE:
        raise _Refusal(event, "merge key '<<', which is not allowed; write the keys out")


def _look_through(text: str, refuse: Callable[[yaml.NodeEvent], None], most: int) -> None:
    """_Refusal if `refuse` or a limit refuses something in the text; PyYAML's errors if it is no YAML."""
    pending: list[_Open] = []
    anchors: dict[str, tuple[int, int]] = {}  # values and depth of what each anchor names
    documents = values = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refusal(event, "a second document; expected one")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = pending.pop()
            if closed.anchor:
                anchors[closed.anchor] = values - closed.values_before, closed.depth
            _add_depth(pending, closed.depth)
        elif isinstance(event, yaml.NodeEvent):
            refuse(event)
            if isinstance(event, yaml.ScalarEvent) and _is_long_number(event):
                raise _Refusal(event, f"a number of {len(event.value)} characters; at most {_NUMBER_LENGTH}")
            _count_child(pending, event)
            size, depth = 1, 0
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    raise _Refusal(event, f"alias '*{event.anchor:.60}' stands for nothing above it")
                size, depth = anchors[event.anchor]
            if len(pending) + depth + isinstance(event, yaml.CollectionStartEvent) > MAX_DEPTH:
                raise _Refusal(event, f"nested more than {MAX_DEPTH} deep")
            if isinstance(event, yaml.CollectionStartEvent):
                pending.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent), values))
            elif isinstance(event, yaml.ScalarEvent) and event.anchor:
                anchors[event.anchor] = 1, 0
            _add_depth(pending, depth)
            values += size
            if values > most:
                raise _Refusal(event, f"more than {most} values, counting each alias as what it repeats")


def _is_long_number(event: yaml.ScalarEvent) -> bool:
    quoted = not event.implicit[0] and event.tag is None
    return len(event.value) > _NUMBER_LENGTH and not quoted and bool(_NUMBER.fullmatch(event.value))


def _add_depth(pending: list[_Open], depth: int) -> None:
    if pending:
        pending[-1].depth = max(pending[-1].depth, depth + 1)


def _count_child(pending: list[_Open], event: yaml.NodeEvent) -> None:
    """Count a key or value of the innermost open collection; refuse a key that it has already."""
    if not pending:
        return
    parent = pending[-1]
    if parent.is_mapping and parent.children % 2 == 0 and isinstance(event, yaml.ScalarEvent):
        key = event.tag or _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit), event.value
        if key in parent.keys and event.value != _MERGE:
            told = f"the key {event.value[:60]!r} occurs a second time, after line {parent.keys[key]}"
            raise _Refusal(event, f"{told}; keep one of them")
        parent.keys[key] = event.start_mark.line + 1 if event.start_mark else 0
    parent.children += 1
