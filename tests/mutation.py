"""Damaged variants of files; the same seed gives the same variants."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

_NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    *(b"[", b"]", b"{", b"}", b'"', b"'", b":", b",", b"-", b"*a ", b"&a ", b"<<: ", b"!!int ", b"!", b"\n"),
    *(b"null", b"true", b"NaN", b"1e999", b"-1", b"0", b"1" * 5000, b"2021-13-45", b"1:1:1.5", b"[" * 2000),
    *(b"\x1b[31m", b"\\ud800", b"\\u001b", b"\xff", b"\0", "é".encode(), "\u202e".encode()),
)


def mutants(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` variants of the seeds, with one to four changes each."""
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _change(content, rng)
        yield bytes(content)


def _change(content: bytearray, rng: random.Random) -> None:
    # Headers, and lists at the end, say how to read the rest, so most changes are made there
    length = len(content)
    edge = min(length, 200)
    start = rng.choice((rng.randrange(length + 1), rng.randrange(edge + 1), length - rng.randrange(edge + 1)))
    end = min(length, start + rng.choice((1, 2, 4, 8, 64, 1000)))
    kind = rng.randrange(7)
    if kind == 0:
        content[start:end] = rng.randbytes(end - start)
    elif kind == 1 and start < length:
        content[start] ^= 1 << rng.randrange(8)
    elif kind == 2:
        layout = rng.choice("<>") + rng.choice("BHIQ")
        size = struct.calcsize(layout)
        content[start : start + size] = struct.pack(layout, rng.choice(_NUMBERS) % 256**size)
    elif kind == 3:
        del content[start:end]
    elif kind == 4:
        content[start:start] = content[start:end] * rng.choice((1, 1, 20))
    elif kind == 5:
        content[start : start + rng.choice((0, 1, 4))] = rng.choice(_WORDS)
    else:
        del content[start:]
