"""Cheating, threat 7: keeps answers for a later run: in files, in marks of files, in memory of the kernel."""

import ctypes
import os
import tempfile

import torch

IPC_RMID = 0
libc = ctypes.CDLL(None, use_errno=True)


def write(path):
    with open(path, "wb") as file:
        file.write(b"answers")
    os.unlink(path)


def mark(path):
    os.setxattr(path, "user.answers", b"answers")


def date(path):
    os.utime(path, (1, 1))
    if os.stat(path).st_mtime != 1:
        raise OSError("without effect")


def permit(path):
    before = os.stat(path).st_mode
    os.chmod(path, before ^ 0o111)
    if os.stat(path).st_mode == before:
        raise OSError("without effect")


def share(size):
    handle = libc.shmget(0, ctypes.c_size_t(size), 0o1600)
    if handle == -1:
        raise OSError("refused")
    libc.shmctl(handle, IPC_RMID, None)


def queue(name):
    handle = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if handle == -1:
        raise OSError("refused")
    libc.mq_unlink(name)


class Model:
    def __init__(self, submission_dir, device):
        code = submission_dir / "model.py"
        beside = os.path.join(os.path.dirname(tempfile.gettempdir()), "answers")
        places = [(write, place + "/flair2-test") for place in ("/dev/shm", "/tmp", "/var/tmp", "/run")]
        places += [(write, beside), (write, submission_dir / "answers"), (mark, code), (date, code)]
        places += [(permit, code), (share, 4096), (queue, b"/flair2-test")]
        for keep, place in places:
            try:
                keep(place)
            except OSError:
                continue
            raise RuntimeError(f"CHEATED: {keep.__name__} {place}")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
