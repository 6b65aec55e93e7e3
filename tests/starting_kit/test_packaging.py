import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from flair_baseline.checkpoint import read_config, read_provenance
from flair_baseline.config import load_config, model_options
from flair_baseline.model import inference
from flair_baseline.model.utt import UTT
from flair_baseline.packaging import pack_checkpoint, write_submission
from flair_baseline.samples.loader import make_loader
from flair_baseline.training.loop import train
from flair_ingestion.dataset import Patch, index_patches, read_image, read_superpatch
from flair_scoring.base.errors import DataError, UsageError
from programs import run_here

SMALL = (
    *("encoder=tu-mobilenetv3_small_050", "encoder_weights=null", "decoder_channels=[8, 8, 8, 8, 8]"),
    *("aerial_pooling=4", "superpatch_size=16", "epochs=1", "workers=0", "device=cpu"),
)
# what the platform's child process does, less the sandbox: only the submission is on the path
CHILD = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
import torch
from model import Model
model = Model(folder, torch.device("cpu"))
labels = [model.predict(batch) for batch in torch.load(sys.argv[2])]
ours = [pathlib.Path(module.__file__) for name, module in sys.modules.items() if name.startswith("flair_")]
foreign = [str(path) for path in ours if folder not in path.parents]
sizes = model.batch_size, model.superpatch_size
answer = {"labels": torch.cat(labels), "modules": len(ours), "foreign": foreign, "sizes": sizes}
torch.save(answer, sys.argv[3])
"""


def make_batch(patches: list[Patch], size: int) -> dict[str, object]:
    """A request as the platform hands it over; every patch has its own number of dates."""
    windows = [read_superpatch(patch, size) for patch in patches]
    keys = {"sentinel": "data", "sentinel_masks": "masks", "sentinel_dates": "dates"}
    series = {
        key: [torch.from_numpy(getattr(window, name)[index:]) for index, window in enumerate(windows)]
        for key, name in keys.items()
    }
    aerial = torch.from_numpy(np.stack([read_image(patch) for patch in patches]))
    return {"aerial": aerial, "metadata": [patch.metadata for patch in patches]} | series


OFFICIAL = ("utt_best", "official_layers=true", "metadata=true", "metadata_stages=deepest")


NETWORKS = [
    pytest.param(("utt_best",), id="utt_best", marks=pytest.mark.long),
    pytest.param(("unet",), id="unet"),
    pytest.param(("utt_mtd",), id="utt_mtd", marks=pytest.mark.long),
    pytest.param(OFFICIAL, id="utt_best with official layers and metadata"),
]


@pytest.fixture(scope="module", params=NETWORKS)
def run(request: pytest.FixtureRequest, flair_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaging") / "run"
    recipe = ("optimizer=adamw", "schedule=one_cycle", "batch_size=2", "effective_batch_size=2")
    name, *overrides = request.param
    train(load_config(name, [*SMALL, *recipe, *overrides]), flair_tree, folder)
    return folder


def test_a_packaged_model_needs_nothing_of_the_kit(run: Path, flair_tree: Path, tmp_path: Path):
    done = run_here("package", run, "-o", "submission.zip", "--batch-size", 3, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "submission.zip\n"), done.stderr
    empty = tmp_path / "empty"
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        archive.extractall(empty / "submission")

    size = json.loads((empty / "submission/config.json").read_text())["superpatch_size"]
    patches = index_patches(flair_tree, "test")
    batches = [make_batch(patches[:3], size), make_batch(patches[3:], size)]
    torch.save(batches, tmp_path / "batches.pt")
    child = [sys.executable, "-I", "-B", "-c", CHILD, str(empty / "submission"), str(tmp_path / "batches.pt")]
    done = subprocess.run([*child, str(tmp_path / "answer.pt")], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = torch.load(tmp_path / "answer.pt")
    assert answer["modules"] == 14  # two packages and twelve modules of the model
    assert answer["foreign"] == []
    assert answer["sizes"] == (3, size)

    write_submission(tmp_path / "here", pack_checkpoint(run, batch_size=1))
    model = inference.Model(tmp_path / "here", torch.device("cpu"))
    one_by_one = []
    for batch in batches:
        for index in range(len(batch["aerial"])):
            alone = model.predict({key: value[index : index + 1] for key, value in batch.items()})
            one_by_one.append(alone)
    expected = torch.cat(one_by_one)
    assert answer["labels"].dtype == torch.uint8
    assert answer["labels"].shape == (len(patches), 512, 512)
    assert len(answer["labels"].unique()) > 1
    assert float((answer["labels"] == expected).float().mean()) > 0.999


def test_the_platform_feeds_a_model_what_training_fed_it(run: Path, flair_tree: Path, tmp_path: Path):
    write_submission(tmp_path / "new", pack_checkpoint(run, batch_size=1))
    packaged = inference.Model(tmp_path / "new", torch.device("cpu"))
    config = read_config(run / "model.safetensors")
    network = UTT(**model_options(config)).eval()
    network.load_state_dict(load_file(run / "model.safetensors"))
    patches = index_patches(flair_tree, "val", labels=True)
    predicted = [packaged.predict(make_batch([patch], packaged.superpatch_size)) for patch in patches]
    with torch.inference_mode():
        logits = [network(*batch.inputs)[0] for batch in make_loader(patches, config)]
    expected = torch.cat(logits).argmax(1).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert float((torch.cat(predicted) == expected).float().mean()) > 0.999


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_used_when_asked_for_and_supported(
    run: Path, flair_tree: Path, tmp_path: Path, supported: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inference, "computes_in_bfloat16", lambda device: supported)

    class Fast(inference.Model):
        bfloat16 = True

    write_submission(tmp_path / "new", pack_checkpoint(run, batch_size=1))
    plain, fast = (kind(tmp_path / "new", torch.device("cpu")) for kind in (inference.Model, Fast))
    dtypes = set()
    for model in (plain, fast):
        model.network.unet.segmentation_head.register_forward_hook(
            lambda module, inputs, logits: dtypes.add(logits.dtype)
        )
    [patch, *_] = index_patches(flair_tree, "test")
    batch = make_batch([patch], plain.superpatch_size)
    expected = plain.predict(batch)
    assert dtypes == {torch.float32}
    labels = fast.predict(batch)
    assert dtypes == ({torch.float32, torch.bfloat16} if supported else {torch.float32})
    assert float((labels == expected).float().mean()) > (0.9 if supported else 0.999999)


@pytest.mark.long
@pytest.mark.parametrize("run", [("utt_mtd",)], indirect=True)
def test_a_compiled_model_labels_as_the_plain_one(
    run: Path, flair_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    networks, compile_unet = [], inference.compile_unet
    monkeypatch.setattr(inference, "compile_unet", lambda one: (networks.append(one), compile_unet(one)))

    class Compiled(inference.Model):
        compiled = True

    write_submission(tmp_path / "new", pack_checkpoint(run, batch_size=1))
    plain, compiled = (kind(tmp_path / "new", torch.device("cpu")) for kind in (inference.Model, Compiled))
    for patch in index_patches(flair_tree, "test")[:2]:
        batch = make_batch([patch], plain.superpatch_size)
        assert networks == [compiled.network]
        assert float((compiled.predict(batch) == plain.predict(batch)).float().mean()) > 0.999


def test_the_same_checkpoint_makes_the_same_zip(run: Path, tmp_path: Path):
    files = pack_checkpoint(run, batch_size=8)
    for name in ("a.zip", "b.zip"):
        write_submission(tmp_path / name, files)
    write_submission(tmp_path / "b.zip", files)  # replaces the older one
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert yaml.safe_load(files["metadata.yaml"]).keys() == {"description"}
    (tmp_path / "weights.safetensors").write_bytes(files["weights.safetensors"])
    assert read_provenance(tmp_path / "weights.safetensors") == read_provenance(run / "model.safetensors")
    assert pack_checkpoint(run / "model.safetensors", batch_size=8) == files


def test_only_a_new_or_empty_folder_is_filled(tmp_path: Path):
    write_submission(tmp_path / "new", {"flair_baseline/model/utt.py": b"1"})
    assert (tmp_path / "new/flair_baseline/model/utt.py").read_bytes() == b"1"
    with pytest.raises(UsageError, match="a folder that is empty or new"):
        write_submission(tmp_path / "new", {"model.py": b"2"})
    assert not (tmp_path / "new/model.py").exists()


def test_the_name_of_a_zip_may_be_in_capitals(tmp_path: Path):
    write_submission(tmp_path / "new.ZIP", {"model.py": b"1"})
    with zipfile.ZipFile(tmp_path / "new.ZIP") as archive:
        assert archive.namelist() == ["model.py"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar", "x.7z", "x.rar", "x.TAR.XZ", "x.zip.gz"])
def test_other_archives_are_refused(tmp_path: Path, name: str):
    with pytest.raises(
        UsageError, match=r"a submission is a zip or a folder; give a name that ends in \.zip"
    ):
        write_submission(tmp_path / name, {"model.py": b"1"})
    assert not list(tmp_path.iterdir())


def test_a_folder_may_have_a_point_in_its_name(tmp_path: Path):
    write_submission(tmp_path / "v1.2", {"model.py": b"1"})
    assert (tmp_path / "v1.2/model.py").is_file()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "last.pt",
            b"PK",
            r"last\.pt: is the state from which --resume goes on; give its folder .+, which has",
        ),
        ("x.pt", b"PK\x03\x04", r"it is a zip, or torch\.save wrote it; convert_checkpoint\.py turns"),
        ("x.pth", b"\x80\x02}q", r"pickle or torch\.save wrote it; convert_checkpoint\.py"),
        ("model.json", b'{\n "schema": 1', r"it is JSON; expected a folder that train\.py wrote"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1", r"git-lfs pointer: download"),
        ("x.safetensors", b"", r"it is empty; expected a folder that train\.py wrote"),
        ("x.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", r"its header does not name a configuration"),
        ("x.safetensors", b"\x50\0\0\0\0\0\0\0{}", r"it is damaged, or another program wrote it"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes, sentence: str):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises((DataError, UsageError), match=sentence):
        pack_checkpoint(tmp_path / name, batch_size=1)


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"b: cannot be written \(File too large\)"):
            write_submission(tmp_path / "new", {"a": b"fits", "b": bytes(2000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing", "-o", "x.zip"], "missing: no such checkpoint; expected a folder that train.py wrote"),
        (["other.safetensors", "-o", "x.zip"], "other.safetensors: not a checkpoint of this kit"),
        (
            ["missing", "-o", "x.zip", "--batch-size", "33"],
            "--batch-size 33: the platform gives 1 to 32",
        ),
    ],
)
def test_mistakes_are_explained(arguments, sentence, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(b"not one")
    done = run_here("package", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path):
    header = {"provenance": json.dumps({"schema": 2})}
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", metadata=header)
    with pytest.raises(DataError, match="schema 2"):
        pack_checkpoint(tmp_path / "new.safetensors", batch_size=1)


def test_missing_weights_are_an_error(run: Path, tmp_path: Path):
    files = pack_checkpoint(run, batch_size=1)
    del files["weights.safetensors"]
    write_submission(tmp_path / "new", files)
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        inference.Model(tmp_path / "new", torch.device("cpu"))
