"""Cheating: slows down the process that holds the clock, by every call that changes its scheduling."""

import ctypes
import os
import struct

import torch

IDLE, LOWEST, GET_IO, SET_IO, SET_ATTRIBUTES = 5, 19, 252, 251, 314  # system calls of x86_64
IO_PROCESS, IO_GROUP, IO_IDLE = 1, 2, 3 << 13
libc = ctypes.CDLL(None)


def describe(process):
    """How the kernel schedules a process, as far as it tells."""
    questions = {
        "nice": lambda: os.getpriority(os.PRIO_PROCESS, process),
        "policy": lambda: os.sched_getscheduler(process),
        "processors": lambda: os.sched_getaffinity(process),
        "disk": lambda: libc.syscall(GET_IO, IO_PROCESS, process),
    }
    told = {}
    for name, ask in questions.items():
        try:
            told[name] = ask()
        except OSError:
            told[name] = None
    return told


class Model:
    def __init__(self, submission_dir, device):
        parent, group = os.getppid(), os.getpgid(os.getppid())
        attributes = struct.pack("IIQiIQQQ", 48, IDLE, 0, LOWEST, 0, 0, 0, 0)
        attempts = (
            lambda: os.setpriority(os.PRIO_PROCESS, parent, LOWEST),
            lambda: os.setpriority(os.PRIO_PGRP, group, LOWEST),
            lambda: os.sched_setscheduler(parent, IDLE, os.sched_param(0)),
            lambda: libc.syscall(SET_ATTRIBUTES, parent, attributes, 0),
            lambda: os.sched_setaffinity(parent, {min(os.sched_getaffinity(0))}),
            lambda: libc.syscall(SET_IO, IO_PROCESS, parent, IO_IDLE),
            lambda: libc.syscall(SET_IO, IO_GROUP, group, IO_IDLE),
        )
        before = describe(parent)
        for attempt in attempts:
            try:
                attempt()
            except OSError:
                continue
        if (after := describe(parent)) != before:
            raise RuntimeError(f"CHEATED: the parent was {before} and is {after}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
