"""Train and test the rows of the datapaper's Table IV, each with several seeds, beside what was published.

DIR/<run>/<seed>/ gets what train.py writes and test.json; DIR gets table4.html and table4.csv. After an
interruption the same command keeps finished runs and resumes the one that is not finished. Beside the paper's
eleven rows there are dates_permuted (utt_best, each series with its dates in random order), satellite_only
(the satellite branch of utt_best) and no_filter (utt_best without filter and monthly average: utt_aug).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flair_baseline.config import parse_overrides
from flair_baseline.machines.distributed import joined_ranks, rank
from flair_baseline.machines.failures import explained_failures
from flair_baseline.machines.interruption import advice_if_interrupted, command_that_goes_on
from flair_baseline.machines.machine import choose_device, keep_freed_memory
from flair_baseline.table_iv import (
    ROWS,
    TOY,
    Result,
    check_test_set,
    render_csv,
    render_html,
    render_text,
    row_config,
    run_row,
    table_rows,
    toy_recipe,
)
from flair_ingestion.dataset import require_data
from flair_scoring.base.errors import UsageError, run_command
from flair_scoring.base.files import write_file


def describe_recipe(recipe: str, data: Path) -> list[str]:
    """Sentences above the table: on which data, and with which recipe, it was measured."""
    measured = (
        f"Measured on {data} with the {recipe} recipe; published: means of 5 runs on the FLAIR #2 test set."
    )
    if recipe == "paper":
        return [measured]
    changes = ", ".join(f"{key}={value}" for key, value in toy_recipe().items())
    return [
        measured,
        f"The toy recipe (configs/{TOY}.yaml) is for the toy data set and is not the paper's: {changes}. "
        "Its numbers cannot be compared with the published ones, only with each other.",
    ]


def main() -> None:
    """Run what is missing, all rows with one seed and then with the next; write the table after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python starting_kit/table4.py TOY --recipe toy --rows unet utt_best --seeds 3",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the data set, with test labels")
    parser.add_argument("--recipe", choices=("paper", "toy"), default="paper", help="default: %(default)s")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="K", help="runs per row, default: %(default)s"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/table4-<recipe>")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="key=value", help="change keys of every row, as in train.py"
    )
    args = parser.parse_args()
    if args.seeds < 1:
        raise UsageError(f"--seeds {args.seeds}: give 1 or more")
    output = args.output or Path("runs") / f"table4-{args.recipe}"
    overrides = parse_overrides(args.set)
    configs = {
        (name, seed): row_config(name, args.recipe, seed, overrides)
        for seed in range(args.seeds)
        for name in dict.fromkeys(args.rows)
    }
    require_data(args.data)
    check_test_set(args.data, configs.values())
    notes = describe_recipe(args.recipe, args.data)
    results: dict[str, list[Result]] = {}
    if choose_device(next(iter(configs.values())).device).type == "cpu":
        keep_freed_memory()
    advice = f"finished runs and epochs are kept; this command goes on: {command_that_goes_on()}"
    with joined_ranks(), explained_failures(), advice_if_interrupted(advice if rank() == 0 else ""):
        for done, ((name, _), config) in enumerate(configs.items(), 1):
            if rank() == 0:
                print(f"== {name}, seed {config.seed} ({done} of {len(configs)})", file=sys.stderr)
            folder = output / ROWS[name].run / str(config.seed)
            results.setdefault(name, []).append(run_row(config, args.data, folder))
            if rank() == 0:
                write_file(output / "table4.html", render_html(table_rows(results), notes))
                write_file(output / "table4.csv", render_csv(results))
        if rank() == 0:
            print(*notes, render_text(table_rows(results)), output / "table4.html", sep="\n")


if __name__ == "__main__":
    run_command(main)
