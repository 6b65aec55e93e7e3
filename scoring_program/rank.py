"""Rank results: `flair-rank` in a clone that is not installed."""

from flair_scoring.base.errors import run_command
from flair_scoring.commands.rank import main

if __name__ == "__main__":
    run_command(main)
