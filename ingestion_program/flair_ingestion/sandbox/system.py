"""The operating system: commands that time a submission need Linux."""

from __future__ import annotations

import sys


def require_linux() -> None:
    """End a command with one sentence and exit code 2 on another system.

    To be called before modules are imported that only Linux has.
    """
    if sys.platform != "linux":
        print(
            "error: this command needs Linux, whose kernel keeps the clock and the sandbox of submissions: "
            "use WSL 2, a container or another machine; training, packaging and scoring run here, too",
            file=sys.stderr,
        )
        sys.exit(2)
