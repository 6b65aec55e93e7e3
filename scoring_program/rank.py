"""Rank results: a table on the terminal and a leaderboard page.

A RESULT is a folder that score.py wrote (scores.json, timing.json); one without a score is listed below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flair_scoring.errors import run_command
from flair_scoring.files import write_file
from flair_scoring.ranking import read_results, render_leaderboard, render_text


def main() -> None:
    """Read the results, write the page, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python scoring_program/rank.py runs/results/* --output leaderboard.html",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the page, for example leaderboard.html"
    )
    args = parser.parse_args()
    results = read_results(args.results)
    write_file(args.output, render_leaderboard(results))
    print(render_text(results))


if __name__ == "__main__":
    run_command(main)
