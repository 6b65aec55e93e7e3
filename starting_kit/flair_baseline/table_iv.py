"""Table IV of the datapaper: its rows, the published results, and the same runs with this kit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file

from flair_baseline.checkpoint import find_weights, read_provenance, read_state
from flair_baseline.config import Config, make_config, model_options, read_values, to_dict
from flair_baseline.machines.distributed import from_rank_0, rank
from flair_baseline.machines.machine import choose_device
from flair_baseline.model.utt import UTT
from flair_baseline.training.loop import train
from flair_baseline.training.run_folder import MACHINE_KEYS
from flair_baseline.training.validation import validate
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import DataError, UsageError
from flair_scoring.base.files import write_file
from flair_scoring.base.provenance import check_stamp, stamp
from flair_scoring.nomenclature import FLAIR_12
from flair_scoring.report.html import paragraph, render_page, table

if TYPE_CHECKING:
    import pandas as pd

STRATEGIES = {  # head of the table's column -> key
    "FILT.": "cloud_filter",
    "AVG M.": "monthly_average",
    "M.DR": "modality_dropout",
    "MTD": "metadata",
    "AUG": "augmentation",
}
TOY = "demo"  # the toy recipe is this configuration: its network and the way it is trained
RESULT = "test.json"
SATELLITE_KEYS = tuple(f"{key}_satellite" for key in FLAIR_12.keys)
HEAD = ("row", *STRATEGIES, "PARA.", "EP.", "mIoU", "runs", "paper EP.", "paper mIoU")


@dataclass(frozen=True)
class Row:
    """A row of the table: a configuration with `changes` is trained, and `metric` is measured.

    `epoch`, `miou` and `spread` were published (means of 5 runs); they are None if the paper has no such row.
    """

    config: str
    epoch: int | None = None
    miou: float | None = None
    spread: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    metric: Literal["miou", "miou_satellite"] = "miou"

    @property
    def run(self) -> str:
        """Name of the trained run; rows with the same name share the run."""
        return "-".join([self.config, *self.changes])


ROWS = {
    "unet": Row("unet", 62, 0.5467, 0.0009),
    "unet_mtd": Row("unet_mtd", 59, 0.5473, 0.0017),
    "unet_mtd_aug": Row("unet_mtd_aug", 52, 0.5517, 0.0013),
    "utt": Row("utt", 9, 0.5490, 0.0072),
    "utt_filt": Row("utt_filt", 11, 0.5517, 0.0135),
    "utt_avgm": Row("utt_avgm", 10, 0.5504, 0.0067),
    "utt_mdr": Row("utt_mdr", 27, 0.5354, 0.0104),
    "utt_mtd": Row("utt_mtd", 7, 0.5494, 0.0064),
    "utt_aug": Row("utt_aug", 22, 0.5554, 0.0146),
    "utt_all": Row("utt_all", 36, 0.5323, 0.0016),
    "utt_best": Row("utt_best", 26, 0.5623, 0.0056),
    # Not in the paper: does utt_best gain by the order of the dates, and by the fusion?
    "dates_permuted": Row("utt_best", changes={"permute_dates": True}),
    "satellite_only": Row("utt_best", metric="miou_satellite"),
    "no_filter": Row("utt_aug"),
}


@dataclass(frozen=True)
class Result:
    """One trained and tested run.

    `epoch` is the one with the lowest validation loss. `scores` has miou and iou_<class>, and those of the
    satellite branch as miou_satellite and iou_<class>_satellite. An undefined score is None.
    """

    seed: int
    parameters: int
    epoch: int
    scores: dict[str, float | None]


def row_config(name: str, recipe: str, seed: int, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a row under a recipe: "paper", or "toy" for minutes on a CPU."""
    row = ROWS[name]
    base = toy_recipe() if recipe == "toy" else {}
    values = base | read_values(row.config) | dict(row.changes) | dict(overrides)
    config = make_config(values, f"{name} ({recipe} recipe)")
    return replace(config, seed=config.seed + seed)


def toy_recipe() -> dict[str, Any]:
    """Keys and values that the toy recipe changes: the demo's configuration without the strategies."""
    return {key: value for key, value in read_values(TOY).items() if key not in STRATEGIES.values()}


def run_row(config: Config, data: Path, folder: Path) -> Result:
    """Train into `folder`, test, and keep the result there; a finished result is read instead.

    The tested weights are those of the epoch with the best validation mIoU. A run that was interrupted is
    resumed. All ranks must see `folder`. Raises UsageError when `folder` holds a run with another
    configuration or on other data.
    """
    finished = from_rank_0(read_result(config, data, folder) if rank() == 0 else None)
    if finished is not None:
        return finished
    train(config, data, folder, resume=True)
    weights = from_rank_0(find_weights(folder) if rank() == 0 else None)  # once rank 0 has written all
    model = UTT(**model_options(config))
    model.load_state_dict(load_file(weights))
    model.to(choose_device(config.device)).unet.to(memory_format=torch.channels_last)
    patches = index_patches(data, "test", labels=True, series=config.satellite, metadata=config.metadata)
    metrics = validate(model, patches, config, satellite_classes=True)
    keys = {"miou": "val_miou", "miou_satellite": "val_miou_satellite"}
    keys |= {key: key for key in (*FLAIR_12.keys, *SATELLITE_KEYS) if key in metrics}
    rows = read_state(folder)["rows"]
    result = Result(
        seed=config.seed,
        parameters=read_provenance(weights)["parameters"],
        epoch=int(min(rows, key=lambda row: row["val_loss"])["epoch"]),
        scores={key: _defined(metrics.get(name)) for key, name in keys.items()},
    )
    if rank() == 0:
        content = stamp() | describe_run(config, data) | {"result": vars(result)}
        write_file(folder / RESULT, json.dumps(content, indent=1) + "\n")
    return result


def describe_run(config: Config, data: Path) -> dict[str, Any]:
    """What a result depends on: the data, and the configuration without what may differ between machines."""
    keys = {key: value for key, value in to_dict(config).items() if key not in MACHINE_KEYS}
    return {"config": keys, "data": str(data.resolve())}


def read_result(config: Config, data: Path, folder: Path) -> Result | None:
    """The result in `folder`, or None if it has none.

    Raises UsageError as `run_row` does, and DataError when the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    wanted = describe_run(config, data)
    try:
        found = json.loads(path.read_bytes())
        check_stamp(found, path)
        # a key that an earlier version did not know had its default
        found["config"] = describe_run(Config(), data)["config"] | found["config"]
        same = {key: found[key] for key in wanted} == wanted
        result = Result(**found["result"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged; delete it, and the trained run is tested again") from error
    if not same:
        raise UsageError(
            f"{folder}: holds a run with another configuration or on other data; choose another --output"
        )
    return result


def _defined(value: float | None) -> float | None:
    return None if value is None or value != value else value


def check_test_set(data: Path, configs: Collection[Config]) -> None:
    """Raises DataError when the test set lacks labels or anything that these configurations read.

    The check comes first, because training takes days.
    """
    series, metadata = (any(getattr(one, key) for one in configs) for key in ("satellite", "metadata"))
    index_patches(data, "test", labels=True, series=series, metadata=metadata)


def results_table(results: Mapping[str, Sequence[Result]]) -> pd.DataFrame:
    """One line per row and seed: row, seed, parameters, epoch, and scores, NaN if undefined.

    `miou` and iou_<class> are those of the row's own branch. A row of a network with a satellite branch has
    miou_satellite too.
    """
    import pandas as pd

    records: list[dict[str, Any]] = []
    for name, found in results.items():
        classes = SATELLITE_KEYS if ROWS[name].metric == "miou_satellite" else FLAIR_12.keys
        sources: dict[str, str] = {"miou": ROWS[name].metric, "miou_satellite": "miou_satellite"}
        sources |= dict(zip(FLAIR_12.keys, classes, strict=True))
        for result in found:
            run = {"row": name, "seed": result.seed, "parameters": result.parameters, "epoch": result.epoch}
            records.append(run | {key: result.scores.get(source) for key, source in sources.items()})
    scores = ["miou", "miou_satellite", *FLAIR_12.keys]
    return pd.DataFrame(records).astype(dict.fromkeys(scores, float))


def table_rows(results: Mapping[str, Sequence[Result]]) -> list[list[str]]:
    """Cells under HEAD, for each row that has results: means over its seeds ± their standard deviation."""
    lines = []
    for name, found in results_table(results).groupby("row", sort=False):
        row = ROWS[str(name)]
        config = make_config(read_values(row.config) | dict(row.changes), row.config)
        marks = ["x" if getattr(config, key) else "" for key in STRATEGIES.values()]
        miou = found["miou"]
        spread = f" ±{miou.std():.4f}" if miou.count() > 1 else ""
        published = "" if row.miou is None else f"{row.miou:.4f} ±{row.spread:.4f}"
        lines.append(
            [
                *(str(name), *marks, f"{found['parameters'].iloc[0] / 1e6:.1f} M"),
                f"{found['epoch'].mean():.0f}",
                f"{miou.mean():.4f}{spread}" if miou.count() else "undefined",
                *(str(len(found)), "" if row.epoch is None else str(row.epoch), published),
            ]
        )
    return lines


def render_text(lines: Sequence[Sequence[str]]) -> str:
    """The table for a terminal."""
    widths = [max(map(len, column)) for column in zip(HEAD, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (HEAD, *lines)
    )


def render_html(lines: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The table as a page, with `notes` above it."""
    return render_page("Table IV, run again", *map(paragraph, notes), table(HEAD, lines))


def render_csv(results: Mapping[str, Sequence[Result]]) -> str:
    """`results_table` without the number of parameters, as CSV; an undefined score is an empty cell."""
    return results_table(results).drop(columns="parameters").to_csv(index=False, lineterminator="\n")
