"""Rank results: print a table, and write a leaderboard page with the same table as csv and json beside it.

A RESULT is a folder that score.py wrote (scores.json, timing.json, confusion.npz). Results without a score
are listed below the others. If all results have a confusion.npz, their differences are tested, domain by
domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flair_scoring.base.errors import run_command
from flair_scoring.base.files import remove_files, write_file
from flair_scoring.outputs.ingestion_output import TIMING
from flair_scoring.outputs.matrices import NAME as MATRICES
from flair_scoring.outputs.scores import NAME as SCORES
from flair_scoring.ranking.results import read_results
from flair_scoring.ranking.selection import exclude, keep_one_each, read_participants
from flair_scoring.ranking.standings import make_board
from flair_scoring.report.leaderboard import render_board_page
from flair_scoring.report.leaderboard_tables import render_board_csv, render_board_json, render_board_text
from flair_scoring.writing import PAGE


def parse_arguments() -> argparse.Namespace:
    """The command line; options that contradict each other are refused."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: %(prog)s runs/results/* --output runs/leaderboard.html",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the page, for example leaderboard.html"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="list this result without ranking it; may be given several times, each with its --because",
    )
    parser.add_argument(
        "--because",
        action="append",
        default=[],
        metavar="TEXT",
        help="the reason for --exclude, which the page shows",
    )
    parser.add_argument(
        "--participants",
        type=Path,
        metavar="FILE",
        help="csv file with the columns result and participant, earlier results first: rank one result of "
        "each participant",
    )
    parser.add_argument(
        "--keep",
        choices=("best", "latest"),
        help="which result of a participant is ranked (default: best)",
    )
    args = parser.parse_args()
    if len(args.exclude) != len(args.because) or not all(map(str.strip, args.because)):
        parser.error("each --exclude NAME needs a --because TEXT")
    if len(set(args.exclude)) != len(args.exclude):
        parser.error("--exclude: a NAME is given twice")
    if args.keep and not args.participants:
        parser.error("--keep needs --participants FILE")
    if args.output.suffix != ".html":
        parser.error(f"--output {args.output}: expected a name that ends with .html")
    if args.output.is_dir():
        parser.error(f"--output {args.output}: is a folder; expected the name of a page to write")
    read = {(folder / name).resolve() for folder in args.results for name in (SCORES, TIMING, MATRICES, PAGE)}
    if read & {page.resolve() for page in list_pages(args.output)}:
        parser.error(f"--output {args.output}: would replace a file of a RESULT; choose another name")
    return args


def list_pages(output: Path) -> list[Path]:
    """The files that are written: csv, json, and last the page."""
    return [output.with_suffix(suffix) for suffix in (".csv", ".json", ".html")]


def main() -> None:
    """Read the results, write csv, json and the page, print the table."""
    args = parse_arguments()
    pages = list_pages(args.output)
    remove_files(pages)  # a leaderboard of earlier results must not outlive a failure
    results = exclude(read_results(args.results), dict(zip(args.exclude, args.because, strict=True)))
    if args.participants:
        results = keep_one_each(results, read_participants(args.participants), args.keep == "latest")
    board = make_board(results)
    contents = [render_board_csv(board), render_board_json(board), render_board_page(board)]
    for page, content in zip(pages, contents, strict=True):
        write_file(page, content)
    print(render_board_text(board))


def run() -> None:
    """The command flair-rank: `main` with the kit's exit codes."""
    run_command(main)
