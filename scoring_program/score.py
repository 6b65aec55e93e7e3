"""Score predictions: the program of the platform, and `flair-score` in a clone that is not installed."""

from flair_scoring.base.errors import run_command
from flair_scoring.commands.score import main

if __name__ == "__main__":
    run_command(main)
