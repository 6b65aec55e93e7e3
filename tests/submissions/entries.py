"""What each test submission of this folder must lead to; what it tries stands in its own docstring.

The numbers of threats in those docstrings are rows of THREATS.md. An attack that succeeds says CHEATED.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from copies import copy_folder

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """What is expected of one test submission: ingestion's exit code and a part of its message.

    `limits` are lines of limits.yaml that the submission is run with. `level` is the lowest level of the
    sandbox that stops it. `open`: nothing stops it yet, as THREATS.md says.
    """

    name: str
    exit_code: int
    says: str
    limits: str = ""
    level: str = "none"
    open: bool = False


ENTRIES = (
    Entry("honest_constant", 0, "within_limit"),
    Entry("honest_batch_7", 0, "within_limit"),
    Entry("honest_batch_32", 0, "within_limit"),
    Entry("honest_numpy", 0, "within_limit"),
    Entry("honest_gpu", 0, "within_limit"),
    Entry("floods_stdout", 0, "within_limit"),
    Entry("stays", 0, "within_limit"),
    Entry("no_model_class", 3, "model.py defines no class Model"),
    Entry("import_error", 3, "'package_that_nobody_has' is neither in the submission nor installed"),
    Entry("imports_the_kit", 3, "No module named 'flair_scoring' in the submission"),
    Entry("raises_in_init", 3, "model.py:5 in load_weights: raise RuntimeError"),
    Entry("raises_in_predict", 3, "warm-up (batch of 1): KeyError: 'arial'"),
    Entry("wrong_shape", 3, "predict returned the shape (1, 13, 512, 512); expected (1, 512, 512)"),
    Entry("float_labels", 3, "predict returned torch.float32; expected an integer dtype"),
    Entry("label_13", 3, "predict returned the label 13; expected 0..12"),
    Entry("label_256", 3, "predict returned values from 0 to 256; expected labels 0..12"),
    Entry("returns_none", 3, "predict returned NoneType"),
    Entry("batch_size_0", 3, "Model.batch_size is 0; expected 1 to 32"),
    Entry("hangs_in_init", 3, "loading: no answer within load_seconds = 1", "load_seconds: 1"),
    Entry("hangs_in_warm_up", 3, "no answer within warmup_seconds = 1", "warmup_seconds: 1"),
    Entry("hangs_in_predict", 3, "no answer within request_seconds = 1", "request_seconds: 1"),
    Entry("exits", 3, "the submission's process ended with exit code 0"),
    Entry("dies_by_signal", 3, "the submission's process was killed by SIGSEGV"),
    Entry("exhausts_memory", 3, "memory_gib allows 1", "memory_gib: 1"),
    Entry("answers_early", 3, "were not predicted"),
    Entry("returns_unfinished", 3, "were not predicted"),
    Entry("answers_lazily", 3, "were not predicted"),
    Entry("writes_late", 3, "were not predicted"),
    Entry("patches_clocks", 4, "inference takes longer than 1 s", "seconds: 1"),
    Entry("speaks_pickle", 3, "the submission spoke out of protocol"),
    Entry("replaces_itself", 3, "were not predicted"),
    Entry("shadows_modules", 0, "within_limit"),
    Entry("outlives", 0, "within_limit"),
    Entry("builds_mazes", 0, "within_limit"),
    Entry("honest_workers", 0, "within_limit", "memory_gib: 2"),
    Entry("hoards_in_files", 3, "memory_gib allows 1", "memory_gib: 1"),
    Entry("forks_without_end", 3, "at most 256 and 4096 are allowed"),
    Entry("reads_the_disk", 0, "within_limit", level="files"),
    Entry("attacks_parent", 0, "within_limit", level="full"),
    Entry("phones_home", 0, "within_limit", level="full"),
    Entry("caches_across_runs", 0, "within_limit", level="full"),
    Entry("resizes_memory", 0, "within_limit"),
    Entry("looks_ahead", 0, "within_limit"),
    Entry("honest_busy_thread", 0, "within_limit"),
    Entry("works_before_the_clock", 0, "within_limit"),
    Entry("answers_twice", 3, "request 1 of 6: the submission"),
    Entry("changes_the_request", 0, "within_limit"),
    Entry("punches_holes", 0, "within_limit"),
    Entry("slows_the_parent", 0, "within_limit", level="full"),
    Entry("kills_the_parent_by_descriptor", 3, "Operation not permitted", level="full"),
    Entry("tunes_itself", 0, "within_limit"),
    Entry("patches_the_runner", 3, "predict returned the label"),
    Entry("hides_behind_a_zombie", 3, "memory_gib allows 1", "memory_gib: 1"),
    Entry("hoards_under_way", 3, "Operation not permitted", "memory_gib: 1", level="full"),
    Entry("hoards_in_huge_pages", 0, "within_limit", "memory_gib: 1"),
    Entry("fills_the_disk", 3, "scratch_gib allows 0.25", "scratch_gib: 0.25"),
    Entry("litters", 0, "within_limit"),
    Entry("ships_predictions", 3, "'predictions/PRED_077413.tif' is a result"),
    Entry("metadata_command", 3, "'metadata.yaml' has a command"),
)

# Run on a machine with a GPU: some of the above, and those that need a GPU
GPU_ENTRIES = (
    Entry("honest_gpu", 0, "within_limit"),
    Entry("honest_numpy", 0, "within_limit"),
    Entry("raises_in_predict", 3, "warm-up (batch of 1): KeyError: 'arial'"),
    Entry("returns_unfinished", 3, "were not predicted"),
    Entry("queues_on_the_gpu", 3, "were not predicted"),
    Entry("writes_late_from_the_gpu", 3, "were not predicted"),
    Entry("polls_on_the_gpu", 0, "within_limit"),
    Entry("uses_other_gpus", 0, "within_limit"),
    Entry("queues_work_for_gaps", 3, "CHEATED", open=True),
    Entry("reads_the_disk", 0, "within_limit", level="files"),
    Entry("phones_home", 0, "within_limit", level="full"),
    Entry("caches_across_runs", 0, "within_limit", level="full"),
)


def copy_submission(name: str, folder: Path) -> Path:
    """Copy a test submission into a new folder inside `folder`; the new folder."""
    submission = folder / name
    if (HERE / name).is_dir():
        copy_folder(HERE / name, submission)
    else:
        submission.mkdir(parents=True)
        shutil.copyfile(HERE / f"{name}.py", submission / "model.py")
    return submission


def copy_sleeper(folder: Path, seconds: float) -> Path:
    """Copy the submission that sleeps into `folder`, to take so long for a patch; the new folder."""
    submission = copy_submission("sleeps", folder)
    (submission / "seconds").write_text(str(seconds))
    return submission
