"""Cheating, threats 3 and 22: becomes another program, with a library preloaded, that always says "done"."""

import os
import socket
import stat
import sys


class Model:
    def __init__(self, submission_dir, device):
        self.program = str(submission_dir / "model.py")

    def predict(self, batch):
        number = sys._getframe(1).f_locals["message"][1:].hex()
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    command = [sys.executable, self.program, str(descriptor), number]
                    os.execve(sys.executable, command, {"LD_PRELOAD": "clock.so", "PYTHONPATH": "."})
            except OSError:
                pass


if __name__ == "__main__":
    control, number = socket.socket(fileno=int(sys.argv[1])), bytes.fromhex(sys.argv[2])
    while True:
        control.send(b"d" + number)
        number = control.recv(17)[1:]
