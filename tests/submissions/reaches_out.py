"""Cheating: reads data and labels, the parent's memory and environment, writes results, signals, phones home.

The file `targets.json` beside it says where all that is; a real submission would have to guess. It prints
what it could do.
"""

import json
import os
import signal
import socket


def succeeds(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return False
    return True


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def write(path):
    with open(path, "ab") as file:
        file.write(b"x")


class Model:
    def __init__(self, submission_dir, device):
        targets = json.loads((submission_dir / "targets.json").read_text())
        parent = f"/proc/{os.getppid()}"
        done = {
            "list the data": succeeds(os.listdir, targets["data"]),
            "read the data": succeeds(read, targets["file"]),
            "change the data": succeeds(write, targets["file"]),
            "truncate the data": succeeds(os.truncate, targets["file"], 0),
            "write results": succeeds(write, targets["output"] + "/timing.json"),
            "link to results": succeeds(os.symlink, "/", targets["output"] + "/predictions"),
            "change the submission": succeeds(write, submission_dir / "cache"),
            "write to shared memory": succeeds(write, "/dev/shm/flair2-test"),
            "read the parent's environment": succeeds(read, parent + "/environ"),
            "read the parent's arguments": succeeds(read, parent + "/cmdline"),
            "open the parent's memory": succeeds(read, parent + "/mem"),
            "signal the parent": succeeds(os.kill, os.getppid(), signal.SIGCONT),
            "connect": succeeds(socket.create_connection, ("127.0.0.1", targets["port"]), 5),
            "write its home": succeeds(write, os.path.expanduser("~/notes")),
            "discard output": succeeds(open, "/dev/null", "w"),
            "read its own status": succeeds(read, "/proc/self/status"),
        }
        print(json.dumps(done))
        raise RuntimeError("tried everything")
