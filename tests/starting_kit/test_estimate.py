import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_training import main, read_log, small

from flair_baseline.samples import loader
from flair_baseline.training import estimate as module
from flair_baseline.training.estimate import Estimate, estimate_run
from flair_baseline.training.estimate_text import describe_concerns, describe_estimate
from flair_baseline.training.loop import train
from flair_scoring.base.errors import UsageError

GIB, MIB = 2**30, 2**20
AERIAL = ("satellite=false", "metadata=false")
KNOWN = Estimate(
    patches=600,
    steps=4.5,
    start=10,
    first_step=5,
    step=2,
    waiting=0.25,
    validation=30,
    saving=1,
    memory=3 * GIB,
    reader_memory=300 * MIB,
    gpu_memory=8 * GIB,
    files=500 * MIB,
    replaced=300 * MIB,
)


def test_the_time_of_the_run_is_the_sum_of_its_parts() -> None:
    config = small("epochs=100", "effective_batch_size=130", "batch_size=10", "schedule=one_cycle")
    assert KNOWN.training == 5 + 3.5 * 2
    assert KNOWN.epoch == 5 + 3.5 * 2 + 30 + 1
    assert describe_estimate(KNOWN, config) == [
        "step: 2 s for 130 patches; 0.25 s of it waits for data",
        "epoch: 43 s; 4.5 steps take 12 s, the validation 30 s, the files 1 s",
        "run: 71.8 min for 100 epochs",  # 10 + 100 * 43 seconds
        "memory: 3 GiB in the main process, up to 300 MiB in each process that reads, partly the same, "
        "8 GiB allocated on the GPU",
        "disk: 500 MiB in RUN, and 300 MiB more while a file is replaced",
    ]
    assert describe_concerns(KNOWN, config) == []
    ending = small("epochs=100", "schedule=plateau")
    assert describe_estimate(KNOWN, ending)[2] == "run: at most 71.8 min for 100 epochs"


def test_less_than_one_step_and_slow_readers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    config = small("effective_batch_size=120", "batch_size=10", "workers=2")
    few = replace(KNOWN, patches=119, waiting=1)
    assert describe_concerns(few, config) == [
        "an epoch is less than one full step: there are 119 training patches, and effective_batch_size is "
        "120; lower effective_batch_size",
        "50% of a step waits for data: raise workers, which is 2; this machine has 4 cores",
    ]
    (told,) = describe_concerns(replace(few, patches=120), replace(config, workers=4))
    assert told == "50% of a step waits for data: more cores would help; this machine has 4 cores"


def test_the_estimate_is_near_what_a_run_takes(
    flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in time of the processor, which other processes on this machine change little."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.process_time))
    config = small("epochs=2", "effective_batch_size=2", *AERIAL)
    found = estimate_run(config, flair_tree)
    begun = time.process_time()
    train(config, flair_tree, tmp_path / "run")
    taken = time.process_time() - begun
    assert found.patches == 6
    assert found.steps == 3
    assert 0.4 < (found.start + 2 * found.epoch) / taken < 2.5  # a busy machine has slower caches
    files = [path.stat().st_size for path in (tmp_path / "run").iterdir()]
    assert found.files == pytest.approx(sum(files), rel=0.2)
    assert found.replaced == pytest.approx(max(files), rel=0.01)
    assert 100 * MIB < found.memory < 20 * GIB
    assert found.reader_memory == found.gpu_memory == 0
    assert len(read_log(tmp_path / "run")) == 2


def test_time_that_waits_for_data_is_told_apart(flair_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, read = 0.2, loader.read_labels
    monkeypatch.setattr(loader, "read_labels", lambda patch: (time.sleep(slow), read(patch))[1])
    monkeypatch.setattr(module, "MEASURED_EPOCHS", 2)
    found = estimate_run(small("batch_size=1", "effective_batch_size=2", *AERIAL), flair_tree)
    assert 2 * slow < found.waiting < found.step
    assert found.validation > 6 * slow
    assert found.steps == 3


def test_what_a_run_would_refuse_is_not_estimated(flair_tree: Path) -> None:
    """Six patches in steps of two: six steps in two epochs."""
    longer = small("epochs=2", "effective_batch_size=2", "schedule=cosine", "warmup_steps=6", *AERIAL)
    with pytest.raises(UsageError, match="warmup_steps=6: the run has 6 steps in all"):
        estimate_run(longer, flair_tree)


def test_the_command_prints_and_writes_nothing(flair_tree, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "MEASURED_EPOCHS", 1)
    options = ["effective_batch_size=8", "batch_size=2", "epochs=3", "satellite=false", "metadata=false"]
    overrides = ["encoder=tu-mobilenetv3_small_050", "encoder_weights=null", "decoder_channels=[8,8,8,8,8]"]
    more = ["aerial_pooling=4", "superpatch_size=16", "workers=0", "device=cpu"]
    main("--data", flair_tree, "--config", "unet", "--estimate", "--resume", *options, *overrides, *more)
    told = capsys.readouterr()
    assert "--estimate measures a new run, not that of --resume" in told.err
    titles = [line.partition(":")[0] for line in told.out.splitlines()]
    assert titles == ["step", "epoch", "run", "memory", "disk"]
    assert "warning: an epoch is less than one full step: there are 6 training patches" in told.err
    assert list(tmp_path.iterdir()) == []
