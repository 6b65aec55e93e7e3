"""The zoo: what each submission of this folder must lead to. Its own docstring says what it tries.

Numbers of threats are those of THREATS.md. An attack that succeeds says CHEATED.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from copies import copy_folder

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Animal:
    """A submission, ingestion's exit code, what its message says, keys of limits.yaml that it needs.

    `level`: the sandbox that it takes to stop it. `open`: nothing stops it yet, as THREATS.md says.
    """

    name: str
    exit_code: int
    says: str
    limits: str = ""
    level: str = "none"
    open: bool = False


ANIMALS = (
    Animal("honest_constant", 0, "within_limit"),
    Animal("honest_batch_7", 0, "within_limit"),
    Animal("honest_batch_32", 0, "within_limit"),
    Animal("honest_numpy", 0, "within_limit"),
    Animal("honest_gpu", 0, "within_limit"),
    Animal("floods_stdout", 0, "within_limit"),
    Animal("stays", 0, "within_limit"),
    Animal("no_model_class", 3, "model.py defines no class Model"),
    Animal("import_error", 3, "'package_that_nobody_has' is neither in the submission nor installed"),
    Animal("imports_the_kit", 3, "No module named 'flair_scoring' in the submission"),
    Animal("raises_in_init", 3, "model.py:5 in load_weights: raise RuntimeError"),
    Animal("raises_in_predict", 3, "warm-up (batch of 1): KeyError: 'arial'"),
    Animal("wrong_shape", 3, "predict returned the shape (1, 13, 512, 512); expected (1, 512, 512)"),
    Animal("float_labels", 3, "predict returned torch.float32; expected an integer dtype"),
    Animal("label_13", 3, "predict returned the label 13; expected 0..12"),
    Animal("label_256", 3, "predict returned values from 0 to 256; expected labels 0..12"),
    Animal("returns_none", 3, "predict returned NoneType"),
    Animal("batch_size_0", 3, "Model.batch_size is 0; expected 1 to 32"),
    Animal("hangs_in_init", 3, "loading: no answer within load_seconds = 1", "load_seconds: 1"),
    Animal("hangs_in_warm_up", 3, "no answer within warmup_seconds = 1", "warmup_seconds: 1"),
    Animal("hangs_in_predict", 3, "no answer within request_seconds = 1", "request_seconds: 1"),
    Animal("exits", 3, "the submission's process ended with exit code 0"),
    Animal("dies_by_signal", 3, "the submission's process was killed by SIGSEGV"),
    Animal("exhausts_memory", 3, "memory_gib allows 1", "memory_gib: 1"),
    Animal("answers_early", 3, "were not predicted"),
    Animal("returns_unfinished", 3, "were not predicted"),
    Animal("answers_lazily", 3, "were not predicted"),
    Animal("writes_late", 3, "were not predicted"),
    Animal("patches_clocks", 4, "inference takes longer than 1 s", "seconds: 1"),
    Animal("speaks_pickle", 3, "the submission spoke out of protocol"),
    Animal("replaces_itself", 3, "were not predicted"),
    Animal("shadows_modules", 0, "within_limit"),
    Animal("outlives", 0, "within_limit"),
    Animal("builds_mazes", 0, "within_limit"),
    Animal("honest_workers", 0, "within_limit", "memory_gib: 2"),
    Animal("hoards_in_files", 3, "memory_gib allows 1", "memory_gib: 1"),
    Animal("forks_without_end", 3, "at most 256 and 4096 are allowed"),
    Animal("reads_the_disk", 0, "within_limit", level="files"),
    Animal("attacks_parent", 0, "within_limit", level="full"),
    Animal("phones_home", 0, "within_limit", level="full"),
    Animal("caches_across_runs", 0, "within_limit", level="full"),
    Animal("resizes_memory", 0, "within_limit"),
    Animal("looks_ahead", 0, "within_limit"),
    Animal("honest_busy_thread", 0, "within_limit"),
    Animal("works_before_the_clock", 0, "within_limit"),
    Animal("answers_twice", 3, "request 1 of 6: the submission"),
    Animal("changes_the_request", 0, "within_limit"),
    Animal("punches_holes", 0, "within_limit"),
    Animal("slows_the_parent", 0, "within_limit", level="full"),
    Animal("kills_the_parent_by_descriptor", 3, "Operation not permitted", level="full"),
    Animal("tunes_itself", 0, "within_limit"),
    Animal("patches_the_runner", 3, "predict returned the label"),
    Animal("hides_behind_a_zombie", 3, "memory_gib allows 1", "memory_gib: 1"),
    Animal("hoards_under_way", 3, "Operation not permitted", "memory_gib: 1", level="full"),
    Animal("hoards_in_huge_pages", 0, "within_limit", "memory_gib: 1"),
    Animal("fills_the_disk", 3, "scratch_gib allows 0.25", "scratch_gib: 0.25"),
    Animal("litters", 0, "within_limit"),
    Animal("ships_predictions", 3, "'predictions/PRED_077413.tif' is a result"),
    Animal("metadata_command", 3, "'metadata.yaml' has a command"),
)

# Those that are run on a GPU too, and those that need one
GPU_ANIMALS = (
    Animal("honest_gpu", 0, "within_limit"),
    Animal("honest_numpy", 0, "within_limit"),
    Animal("raises_in_predict", 3, "warm-up (batch of 1): KeyError: 'arial'"),
    Animal("returns_unfinished", 3, "were not predicted"),
    Animal("queues_on_the_gpu", 3, "were not predicted"),
    Animal("writes_late_from_the_gpu", 3, "were not predicted"),
    Animal("polls_on_the_gpu", 0, "within_limit"),
    Animal("uses_other_gpus", 0, "within_limit"),
    Animal("queues_work_for_gaps", 3, "CHEATED", open=True),
    Animal("reads_the_disk", 0, "within_limit", level="files"),
    Animal("phones_home", 0, "within_limit", level="full"),
    Animal("caches_across_runs", 0, "within_limit", level="full"),
)


def lay_out(name: str, folder: Path) -> Path:
    """The submission as a folder inside `folder`."""
    submission = folder / name
    if (HERE / name).is_dir():
        copy_folder(HERE / name, submission)
    else:
        submission.mkdir(parents=True)
        shutil.copyfile(HERE / f"{name}.py", submission / "model.py")
    return submission
