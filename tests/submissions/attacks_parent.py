"""Cheating, threats 17 and 18: tries to read, trace, signal and limit the process with clock and key."""

import ctypes
import os
import resource
import signal

import torch

SEIZE = 0x4206
PIDFD_OPEN, PIDFD_GETFD = 434, 438
libc = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    if (result := function(*arguments)) == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def copy_memory(parent):
    local = (ctypes.c_char * 8)()
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(local), 8)  # the same address there: any answer will do
    call(
        libc.process_vm_readv, parent, vector, ctypes.c_ulong(1), vector, ctypes.c_ulong(1), ctypes.c_ulong(0)
    )


def take_descriptor(parent):
    handle = call(libc.syscall, PIDFD_OPEN, parent, 0)
    call(libc.syscall, PIDFD_GETFD, handle, 1, 0)


class Model:
    def __init__(self, submission_dir, device):
        parent = os.getppid()
        attacks = {
            "opened its memory": lambda: read(f"/proc/{parent}/mem"),
            "read its environment": lambda: read(f"/proc/{parent}/environ"),
            "read its arguments": lambda: read(f"/proc/{parent}/cmdline"),
            "listed its descriptors": lambda: os.listdir(f"/proc/{parent}/fd"),
            "opened its output": lambda: read(f"/proc/{parent}/fd/1"),
            "copied its memory": lambda: copy_memory(parent),
            "took a descriptor": lambda: take_descriptor(parent),
            "traces it": lambda: call(libc.ptrace, SEIZE, parent, None, None),
            "may stop it": lambda: os.kill(parent, 0),
            "may stop its group": lambda: os.killpg(os.getpgid(parent), 0),
            "continues it": lambda: os.kill(parent, signal.SIGCONT),
            "sees its limits": lambda: resource.prlimit(parent, resource.RLIMIT_CPU),
        }
        for what, attack in attacks.items():
            try:
                attack()
            except OSError as error:
                if error.errno == 14:  # EFAULT: the address was wrong, the permission was there
                    raise RuntimeError(f"CHEATED: {what}") from None
                continue
            raise RuntimeError(f"CHEATED: {what}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
