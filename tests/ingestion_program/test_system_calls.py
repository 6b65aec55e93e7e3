"""The numbers of system calls are those of the kernel's headers, and the filter does what they say."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from flair_ingestion.sandbox import seccomp
from flair_ingestion.sandbox.system_calls import ABSENT, MACHINES, NEWEST, REFUSED, WEIGHED, WITHOUT_EFFECT

HEADERS = {  # where the kernel's headers with its numbers lie, for each machine
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def test_the_numbers_are_the_kernels() -> None:
    """Needs the kernel's headers, which have at least all calls up to Linux 6.1."""
    for machine in (machine for machine in HEADERS if HEADERS[machine].exists()):
        text, column = HEADERS[machine].read_text(), MACHINES.index(machine)
        rows = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)
        known = {name: int(found) for name, found in rows}
        for name, numbers in (REFUSED | WITHOUT_EFFECT | ABSENT | WEIGHED).items():
            found = numbers[column]
            if name in known or (found is not None and found <= 450):
                assert (machine, name, found) == (machine, name, known.get(name))


def test_no_call_stands_in_two_lists() -> None:
    tables = (REFUSED, WITHOUT_EFFECT, ABSENT, WEIGHED)
    assert len(REFUSED | WITHOUT_EFFECT | ABSENT | WEIGHED) == sum(map(len, tables))
    for column in range(len(MACHINES)):
        found = [n[column] for table in tables for n in table.values() if n[column] is not None]
        assert len(found) == len(set(found))


def judge(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel's BPF machine returns for a call, written after the manual of classic BPF."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    steps, index, value = list(struct.iter_unpack("=HBBI", program)), 0, 0
    while True:
        operation, if_true, if_false, operand = steps[index]
        index += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif operation == 0x54:
            value &= operand
        elif operation == 0x74:
            value >>= operand
        elif operation == 0x05:
            index += operand
        else:
            truth = {0x15: value == operand, 0x35: value >= operand}[operation]
            index += if_true if truth else if_false


ALLOW, KILL, REFUSE, NOTHING, NO_CALL = 0x7FFF0000, 0x80000000, 0x50001, 0x50000, 0x50026
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Call, arguments, verdict. The filter ignores the upper half of an argument where the kernel does
JUDGED = [
    ("kill", (7, 18), REFUSE), ("kill", (7, 9), ALLOW), ("kill", (7, 18 | 1 << 32), REFUSE),
    ("tgkill", (7, 7, 18), REFUSE), ("tgkill", (18, 18, 6), ALLOW), ("tkill", (7, 18), REFUSE),
    ("fcntl", (0, 10, 18), REFUSE), ("fcntl", (0, 10 | 1 << 32, 18), REFUSE),
    ("fcntl", (0, 4, 0x2800), REFUSE),
    ("fcntl", (0, 4, 0x800), ALLOW), ("fcntl", (0, 1030, 0), ALLOW), ("fcntl", (0, 1040, 0), REFUSE),
    ("ioctl", (0, 0x5401), ALLOW), ("ioctl", (0, 0x5421), ALLOW), ("ioctl", (0, 0x5452), REFUSE),
    ("ioctl", (0, 0x5412), REFUSE), ("ioctl", (0, 0x8901), REFUSE), ("ioctl", (0, 0x40049409), ALLOW),
    ("ioctl", (0, 0xC020462A), ALLOW), ("ioctl", (0, 0x30000001), ALLOW),
    ("ioctl", (0, 37), ALLOW),  # this one and the two before are NVIDIA's
    ("clone", (17,), ALLOW), ("clone", (0x3D0F00,), ALLOW), ("clone", (0x3D0F00 & ~0x400,), REFUSE),
    ("clone", (0x4100 | 17,), ALLOW), ("clone", (18,), REFUSE), ("clone", (0x8000 | 17,), REFUSE),
    ("clone", (0x10000000 | 17,), REFUSE), ("clone", (17 | 1 << 40,), ALLOW),
    ("prctl", (1, 18), NOTHING), ("prctl", (4, 0), REFUSE), ("prctl", (15, 0), ALLOW),
    ("prctl", (62, 1), REFUSE),
    ("prctl", (0x53564D41, 0), ALLOW), ("prctl", (500, 0), 0x50016), ("prctl", (22, 2), REFUSE),
    ("madvise", (0, 0, 4), ALLOW), ("madvise", (0, 0, 9), REFUSE), ("madvise", (0, 0, 20), NOTHING),
    ("fallocate", (3, 0, 0, 9), ALLOW), ("fallocate", (3, 3, 0, 9), 0x5005F),
    ("preadv2", (3, 0, 0, 0, 0, 1), ALLOW), ("preadv2", (3, 0, 0, 0, 0, 9), 0x5005F),
    ("pwritev2", (3, 0, 0, 0, 0, 8), 0x5005F), ("close_range", (3, 9, 4), ALLOW),
    ("close_range", (3, 9, 6), REFUSE),
    ("socket", (1, 1 | 0x80000, 0), ALLOW), ("socket", (1, 2, 0), REFUSE), ("socket", (2, 1, 0), REFUSE),
    ("socketpair", (1, 5, 0), ALLOW), ("prlimit64", (0, 1), ALLOW), ("prlimit64", (1, 1), REFUSE),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_each_machines_program_does_the_same(machine: str) -> None:
    """Every number goes through `judge`: no jump of a program misses its target."""
    program, column, here = (
        seccomp.system_call_filter(None, machine),
        MACHINES.index(machine),
        ARCHITECTURES[machine],
    )
    assert program
    assert len(program) <= 4096 * 8
    expected = dict.fromkeys(range(NEWEST + 1), ALLOW) | dict.fromkeys(
        range(NEWEST + 1, NEWEST + 99), NO_CALL
    )
    for table, verdict in ((REFUSED, REFUSE), (WITHOUT_EFFECT, NOTHING), (ABSENT, NO_CALL)):
        expected |= {
            numbers[column] or 0: verdict for numbers in table.values() if numbers[column] is not None
        }
    weighed = {numbers[column] for numbers in WEIGHED.values()}
    found = {number: judge(program, here, number) for number in expected if number not in weighed}
    assert found == {number: verdict for number, verdict in expected.items() if number not in weighed}
    for name, arguments, verdict in JUDGED:
        number = WEIGHED[name][column]
        assert number is not None
        assert (name, arguments, judge(program, here, number, *arguments)) == (name, arguments, verdict)
    other = next(architecture for architecture in ARCHITECTURES.values() if architecture != here)
    assert judge(program, other, 0) == KILL
    assert judge(program, here, 0x40000000) == NO_CALL


def test_an_unknown_machine_gets_no_filter() -> None:
    assert seccomp.system_call_filter(None, "riscv64") is None
    assert seccomp.system_call_filter(None, "x86_64") != seccomp.system_call_filter(None, "aarch64")
