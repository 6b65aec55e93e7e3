"""Rank results: a table on the terminal, a leaderboard page, the same as csv and json beside it.

A RESULT is a folder that score.py wrote (scores.json, timing.json, confusion.npz); one without a score is
listed below. With confusion.npz the differences are tested, domain by domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flair_scoring.errors import run_command
from flair_scoring.files import write_file
from flair_scoring.leaderboard import render_csv, render_json, render_page_of, render_text
from flair_scoring.ranking import read_results


def main() -> None:
    """Read the results, write the page, csv and json, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python scoring_program/rank.py runs/results/* --output runs/leaderboard.html",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the page, for example leaderboard.html"
    )
    args = parser.parse_args()
    if args.output.suffix != ".html":
        parser.error(f"--output {args.output}: expected a name that ends with .html")
    if args.output.is_dir():
        parser.error(f"--output {args.output}: is a folder; expected the name of a page to write")
    results = read_results(args.results)
    contents = {".csv": render_csv(results), ".json": render_json(results), ".html": render_page_of(results)}
    for suffix, content in contents.items():
        write_file(args.output.with_suffix(suffix), content)
    print(render_text(results))


if __name__ == "__main__":
    run_command(main)
