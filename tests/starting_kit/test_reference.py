"""reference_submission/ is the unit of the time limit: the paper's U-T&T as
`package.py utt_best --untrained --batch-size 1 -o reference_submission/` made it, and never faster."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "reference_submission"
SHA256 = "ba3a26f299075cd3be0d56d37c996b969630b22e69cb40f7acc8793e4ce1983e"
RUN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
import torch
from model import Model
model = Model(folder, torch.device("cpu"))
generator = torch.Generator().manual_seed(0)
def draw(*shape, high, dtype):
    return torch.randint(0, high, shape, dtype=dtype, generator=generator)
labels = model.predict({
    "aerial": draw(1, 5, 512, 512, high=256, dtype=torch.uint8),
    "sentinel": [draw(14, 10, 40, 40, high=10000, dtype=torch.uint16)],
    "sentinel_masks": [draw(14, 2, 40, 40, high=101, dtype=torch.uint8)],
    "sentinel_dates": [18262 + 26 * torch.arange(14, dtype=torch.int32)],
})
assert labels.shape == (1, 512, 512) and labels.max() < 13
assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
parameters = list(model.network.parameters())
again = Model(folder, torch.device("cpu"))
assert all(torch.equal(*pair) for pair in zip(parameters, again.network.parameters(), strict=True))
assert all(parameter.dtype == torch.float32 for parameter in parameters)
print(sum(parameter.numel() for parameter in parameters))
"""


def source_files() -> list[Path]:
    files = (path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in files if path.name != "weights.safetensors")


def test_the_unit_of_the_time_limit_does_not_change():
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(f"{path.relative_to(FOLDER).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    assert digest.hexdigest() == SHA256, (
        "the reference may not change: every time limit is a multiple of its time"
    )


def test_it_is_the_papers_best_configuration_at_batch_1():
    settings = json.loads((FOLDER / "config.json").read_text())
    assert settings["model"] == {
        "encoder": "resnet34",
        "decoder_channels": [256, 128, 64, 32, 16],
        "aerial_pooling": 1,
        "satellite": True,
    }
    assert (settings["superpatch_size"], settings["batch_size"]) == (40, 1)
    assert settings["cloud_filter"]
    assert settings["monthly_average"]


def test_without_weights_it_runs_from_its_seed_and_says_so(tmp_path: Path):
    for path in source_files():
        copy = tmp_path / "reference" / path.relative_to(FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command = [sys.executable, "-I", "-B", "-c", RUN, str(tmp_path / "reference")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "weights.safetensors is missing" in run.stderr
    assert "UNTRAINED" in run.stderr
    assert run.stdout == "27249318\n"
