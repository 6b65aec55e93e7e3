"""Cheating, threats 25 and 26: looks for a way to another machine, or to a useful program on this one.

An open socket is enough to have cheated: where it could lead depends on the machine.
"""

import socket

import torch

KINDS = {
    "TCP": (socket.AF_INET, socket.SOCK_STREAM),
    "TCP over IPv6": (socket.AF_INET6, socket.SOCK_STREAM),
    "UDP, as for names": (socket.AF_INET, socket.SOCK_DGRAM),
    "raw packets": (socket.AF_INET, socket.SOCK_RAW),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
    "the host of a virtual machine": (socket.AF_VSOCK, socket.SOCK_STREAM),
    "datagrams to daemons": (socket.AF_UNIX, socket.SOCK_DGRAM),
}


class Model:
    def __init__(self, submission_dir, device):
        for what, kind in KINDS.items():
            try:
                socket.socket(*kind).close()
            except OSError:
                continue
            raise RuntimeError(f"CHEATED: opened a socket for {what}")
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mine.bind("\0flair2-test-phones-home")
        mine.listen()
        try:
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("\0flair2-test-phones-home")
        except OSError:
            return
        raise RuntimeError("CHEATED: connects to sockets of this machine")

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8)
