"""YAML is read as PyYAML reads it, or refused in one line before it takes memory or raises anything else."""

from __future__ import annotations

import re
import tracemalloc

import pytest
import yaml

from flair_scoring.base.bounded_yaml import (
    MAX_DEPTH,
    MAX_VALUES,
    STRANGERS_VALUES,
    parse_strangers_yaml,
)
from flair_scoring.base.settings import parse_settings

PLAIN = """
description: "U-T&T, 12 classes"   # a comment
date: 2021-06-15
numbers: [1, 0x10, 1.5e3, 1:30, .inf, ~, yes]
nested:
  - {a: 1, 'a ': 2}
  - |
    two
    lines
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))


def test_reads_what_pyyaml_reads() -> None:
    expected = yaml.safe_load(PLAIN)
    for parse in (parse_strangers_yaml, parse_settings):
        assert parse(PLAIN) == parse(PLAIN.encode()) == parse(b"\xef\xbb\xbf" + PLAIN.encode()) == expected
        assert parse("") is None
        assert parse("- 1\n" * 1000) == [1] * 1000


@pytest.mark.parametrize(
    "text",
    ["a: &x [1, 2]\nb: *x", "base: &x {lr: 1, n: 2}\nrun: {<<: *x, lr: 3}", "a: !!float 1", "a: &x 1\nb: *x"],
)
def test_aliases_merge_keys_and_tags_are_for_our_own_files(text: str) -> None:
    assert parse_settings(text) == yaml.safe_load(text)
    with pytest.raises(ValueError, match=r"^line [12]: (alias|merge key|tag) '.*', which is not allowed; "):
        parse_strangers_yaml(text)


REFUSED = {
    "a: !!bool maybe": "tag 'tag:yaml.org,2002:bool'",
    'a: !!int ""': "tag",
    'a: !!float ""': "tag",
    "a: !!timestamp x": "tag",
    "a: ! x": "tag '!'",
    "a: !!python/object/apply:os.system [ls]": "tag",
    "a: 2021-02-30": "not valid YAML (line 1: 2021-02-30 is not a valid date)",
    "a: " + "1:" * 400 + "1.5": "not valid YAML (line 1: 1:1:1:1",
    "a: 1\nb: 2021-01-01 00:00:00 +99:00": "(line 2: 2021-01-01 00:00:00 +99:00 is not a valid date)",
    "a: =": "not valid YAML (line 1: the value '=' has a special meaning in YAML; put it in quotes)",
    "a: " + "9" * 5000: "line 1: a number of 5000 characters; at most 1000",
    "a: 0x" + "f" * 5000: "line 1: a number of 5002 characters",
    "a: " + "1:" * 3000 + "1": "line 1: a number of 6001 characters",
    "? [a]\n: 1": "not valid YAML (line 1: a list or mapping stands as a key; write a text or number as key)",
    "a: [1": "not valid YAML (line ",
    "a: b: c": "not valid YAML (line 1: mapping values are not allowed here",
    "a: \x07": "not valid YAML (",
    "a: 1\n---\nb: 2": "line 2: a second document",
    "a: 1\nb: 2\na: 3": "line 3: the key 'a' occurs a second time, after line 1; keep one of them",
    "[" * 10_000: f"line 1: nested more than {MAX_DEPTH} deep",
    "- " * 10_000: f"nested more than {MAX_DEPTH} deep",
    "[" + "[]," * 20_000 + "]": f"more than {STRANGERS_VALUES} values",
    LAUGHS: "alias '*a0'",
    MERGES: "merge key '<<'",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_anything_else_of_a_stranger_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(REFUSED[text])) as caught:
        parse_strangers_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUGHS, f"more than {MAX_VALUES} values"),
        (MERGES, f"more than {MAX_VALUES} values"),
        (CHAIN, f"nested more than {MAX_DEPTH} deep"),
        ("a: &a [*a]", "alias '*a' stands for nothing above it"),
        ("a: *nothing", "stands for nothing above it"),
        ("a: !!bool maybe", "not valid YAML (line 1: maybe is not a valid bool)"),
        ("a: !mine x", "not valid YAML (line 1: the tag '!mine' is not known; leave it out)"),
        ("? {a: 1}\n: 1", "not valid YAML (line 1: a list or mapping stands as a key"),
    ],
    ids=["lists", "merges", "chain", "itself", "nothing", "tag", "own tag", "key"],
)
def test_our_own_files_are_bounded(text: str, sentence: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            parse_settings(text)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_other_encodings_are_named() -> None:
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 7\); save it as UTF-8"):
        parse_strangers_yaml("name: forêt".encode("latin-1").replace(b"for", b""))
