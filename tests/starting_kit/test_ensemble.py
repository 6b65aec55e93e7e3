"""Packed ensembles against plain loops over members and views, written out in numpy and torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_packaging import make_batch

from flair_baseline.checkpoint import save_model
from flair_baseline.config import Config, load_config
from flair_baseline.encoders import make_network
from flair_baseline.model import ensemble, inference
from flair_baseline.packaging import Member, pack_checkpoint, pack_ensemble, write_submission
from flair_ingestion.dataset import index_patches
from flair_scoring.base.errors import DataError, UsageError
from programs import run_here

CPU = torch.device("cpu")
EXPECTED = "expected finite numbers from 0 on whose sum is above 0"
SMALL = load_config(
    "demo",
    [
        *("encoder=tu-mobilenetv3_small_050", "encoder_weights=null", "decoder_channels=[8, 8, 8, 8, 8]"),
        *("aerial_pooling=4", "superpatch_size=16", "workers=0", "device=cpu"),
    ],
)
# members of different resolution, window, channels and branches
CONFIGS = {
    "first": SMALL,
    "wide": replace(SMALL, seed=2, superpatch_size=24, aerial_pooling=8, decoder_channels=(8, 8, 8, 8)),
    "unet": replace(SMALL, seed=3, satellite=False, channels="RVB", metadata=True),
}


def draw_run(folder: Path, config: Config) -> Path:
    """A run with random weights and statistics, so that no two classes are equally likely."""
    torch.manual_seed(config.seed)
    network = make_network(config)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.ndim < 2:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
        network.unet.segmentation_head[0].weight.mul_(4)
        if network.fusion is not None:
            for parameter in network.fusion.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
    folder.mkdir(parents=True)
    save_model(folder, network, config, epoch=1, metrics={})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("members")
    return {name: draw_run(folder / name, config) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def batch(flair_tree: Path) -> dict[str, object]:
    return make_batch(index_patches(flair_tree, "test")[:2], 24)


def load(files: dict[str, bytes], folder: Path, kind: type = ensemble.Model) -> ensemble.Model:
    write_submission(folder, files)
    return kind(folder, CPU)


def cut(batch: dict[str, object], size: int) -> dict[str, object]:
    """The batch with the inner `size` pixels of its windows."""
    cropped = dict(batch)
    for key in ("sentinel", "sentinel_masks"):
        edge = (batch[key][0].shape[-1] - size) // 2
        cropped[key] = [one[..., edge : edge + size, edge : edge + size].contiguous() for one in batch[key]]
    return cropped


def predict_alone(run: Path, batch: dict[str, object], folder: Path) -> np.ndarray:
    """Probabilities of one packed model at 512 x 512, float64, by its own `predict` code path."""
    model = load(pack_checkpoint(run, batch_size=1), folder, inference.Model)
    found = []
    original = inference.choose_labels
    inference.choose_labels = lambda logits, size: (found.append(logits), original(logits, size))[1]
    try:
        model.predict(cut(batch, model.superpatch_size))
    finally:
        inference.choose_labels = original
    logits = found[0].double().numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    factor = 512 // shares.shape[-1]
    return shares.repeat(factor, axis=2).repeat(factor, axis=3)


def test_an_ensemble_of_three_is_the_loop_over_its_members(
    runs: dict[str, Path], batch: dict[str, object], tmp_path: Path
) -> None:
    weights = {"first": 1.0, "wide": 2.0, "unet": 0.5}
    members = [Member(runs[name], "none", weight) for name, weight in weights.items()]
    files = pack_ensemble(members, batch_size=2)
    model = load(files, tmp_path / "ensemble")
    assert (model.batch_size, model.superpatch_size) == (2, 24)
    found = model.average(batch).double().numpy()
    alone = [predict_alone(runs[name], batch, tmp_path / name) * weights[name] / 3.5 for name in runs]
    side = found.shape[-1]
    assert side == 128  # the finest member reads at a quarter of the resolution
    expected = np.sum(alone, axis=0)
    np.testing.assert_allclose(found.repeat(4, axis=2).repeat(4, axis=3), expected, atol=1e-6)
    labels = model.predict(batch).numpy()
    assert labels.dtype == np.uint8
    top = np.sort(expected, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=1)[clear])
    assert len(np.unique(labels)) > 2


@pytest.mark.parametrize(("name", "count"), [("flips", 4), ("d4", 8)])
def test_views_are_explicit_flips_and_turns(
    runs: dict[str, Path], batch: dict[str, object], tmp_path: Path, name: str, count: int
) -> None:
    """Each view by numpy: rows reversed, columns reversed, or transposed, all eight combinations."""
    model = load(pack_ensemble([Member(runs["first"], name)], batch_size=2), tmp_path / "views")
    combinations = [
        (rows, columns, transposed)
        for transposed in (False, True)
        for rows in (False, True)
        for columns in (False, True)
    ][:count]
    total = 0
    for index, (rows, columns, transposed) in enumerate(combinations):

        def change(image: np.ndarray) -> np.ndarray:
            image = image[..., ::-1, :] if rows else image  # noqa: B023
            image = image[..., ::-1] if columns else image  # noqa: B023
            return image.swapaxes(-1, -2) if transposed else image  # noqa: B023

        changed = dict(batch, aerial=torch.from_numpy(change(batch["aerial"].numpy()).copy()))
        for key in ("sentinel", "sentinel_masks"):
            changed[key] = [torch.from_numpy(change(one.numpy()).copy()) for one in batch[key]]
        shares = predict_alone(runs["first"], changed, tmp_path / f"view {index}")
        shares = shares.swapaxes(-1, -2) if transposed else shares
        shares = shares[..., ::-1] if columns else shares
        total = total + (shares[..., ::-1, :] if rows else shares)
    found = model.average(cut(batch, 16)).numpy()
    np.testing.assert_allclose(found.repeat(4, axis=2).repeat(4, axis=3), total / count, atol=1e-6)


def test_one_member_without_views_is_packed_as_ever(runs: dict[str, Path], tmp_path: Path) -> None:
    assert pack_ensemble([Member(runs["first"], weight=3.0)], 8) == pack_checkpoint(runs["first"], 8)
    done = run_here("package", runs["first"], "-o", tmp_path / "one.zip")
    assert done.returncode == 0, done.stderr
    write_submission(tmp_path / "same.zip", pack_checkpoint(runs["first"], 8))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "same.zip").read_bytes()


def test_weights_by_class_count_for_their_class(
    runs: dict[str, Path], batch: dict[str, object], tmp_path: Path
) -> None:
    only_first = tuple(float(index < 6) for index in range(13))
    only_unet = tuple(float(index >= 6) for index in range(13))
    members = [Member(runs["first"], weight=only_first), Member(runs["unet"], weight=only_unet)]
    found = load(pack_ensemble(members, 2), tmp_path / "both").average(cut(batch, 16)).numpy()
    for name, classes in (("first", slice(0, 6)), ("unet", slice(6, 13))):
        alone = predict_alone(runs[name], batch, tmp_path / name)[:, :, ::4, ::4]
        np.testing.assert_allclose(found[:, classes], alone[:, classes], atol=1e-6)


def test_one_at_a_time_gives_the_same_and_returns_the_tensors(
    runs: dict[str, Path], batch: dict[str, object], tmp_path: Path
) -> None:
    members = [Member(run, "flips") for run in runs.values()]
    together = load(pack_ensemble(members, 2), tmp_path / "together")
    alone = load(pack_ensemble(members, 2, one_at_a_time=True), tmp_path / "alone")
    before = [parameter.data_ptr() for one in alone.members for parameter in one.network.parameters()]
    assert torch.equal(alone.average(batch), together.average(batch))
    after = [parameter.data_ptr() for one in alone.members for parameter in one.network.parameters()]
    assert before == after


def test_staged_inputs_give_the_same(runs: dict[str, Path], batch: dict[str, object], tmp_path: Path) -> None:
    """What a GPU would prepare, prepared on the CPU, where the switch is off; test_cuda.py tries a GPU."""
    files = pack_ensemble([Member(runs["first"], "flips"), Member(runs["wide"]), Member(runs["unet"])], 2)
    plain = load(files, tmp_path / "plain")
    staged = load(files, tmp_path / "staged", type("Staged", (ensemble.Model,), {"staged": True}))
    assert not staged.staged
    staged.staged = True
    assert torch.equal(staged.average(batch), plain.average(batch))


def test_members_that_read_alike_share_their_inputs(
    runs: dict[str, Path], batch: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = draw_run(tmp_path / "again", replace(SMALL, seed=9))
    members = [Member(runs["first"], "d4"), Member(again), Member(runs["wide"])]
    model = load(pack_ensemble(members, 2), tmp_path / "three")
    prepared: list[int] = []

    def count(batch: dict, settings: dict) -> dict:
        prepared.append(settings["superpatch_size"])
        return inference.prepare_inputs(batch, settings)

    monkeypatch.setattr(ensemble, "prepare_inputs", count)
    model.predict(batch)
    assert prepared == [16, 24]


def test_impossible_ensembles_are_refused_with_all_reasons(runs: dict[str, Path], tmp_path: Path) -> None:
    first, wide = runs["first"], runs["wide"]
    with pytest.raises(UsageError, match=f"weights 0.0, 0.0: {EXPECTED}"):
        pack_ensemble([Member(first, weight=0.0), Member(wide, weight=0.0)], 8)
    with pytest.raises(UsageError, match=r"given twice: .*first; a higher weight"):
        pack_ensemble([Member(first), Member(first)], 8)
    with pytest.raises(UsageError, match=r"given twice: .*/first, .*/first/model.safetensors; a higher"):
        pack_ensemble([Member(first), Member(first / "model.safetensors")], 8)
    (tmp_path / "other.safetensors").write_bytes(b"PK")
    broken = [Member(first, weight=-1.0), Member(tmp_path / "absent"), Member(tmp_path / "other.safetensors")]
    with pytest.raises((UsageError, DataError)) as caught:
        pack_ensemble(broken, 8)
    for part in (
        "weights -1.0, 1.0, 1.0: ",
        "absent: no such checkpoint",
        "other.safetensors: not a checkpoint",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", 1], "--weights: 1 numbers for 2 models"),
        (["--weights", -1, 2], f"--weights -1 2: {EXPECTED}"),
        (["--weights", 1, "nan"], f"--weights 1 nan: {EXPECTED}"),
        (["--weights", "inf", 0.5], f"--weights inf 0.5: {EXPECTED}"),
        (["--weights", 0, 0], f"--weights 0 0: {EXPECTED}"),
        (["--untrained"], "--untrained: packs one configuration"),
    ],
)
def test_mistakes_on_the_command_line(
    runs: dict[str, Path], tmp_path: Path, options: list[object], sentence: str
) -> None:
    done = run_here("package", runs["first"], runs["wide"], *options, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("weight", [0, -1, "nan", "inf"])
def test_an_impossible_weight_of_a_single_model_is_refused(
    runs: dict[str, Path], tmp_path: Path, weight: object
) -> None:
    done = run_here("package", runs["first"], "--weights", weight, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert f"--weights {weight}: {EXPECTED}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_weights_whose_sum_is_infinite_keep_their_ratio(runs: dict[str, Path]) -> None:
    members = [Member(runs["first"], weight=1e308), Member(runs["unet"], weight=1e308)]
    settings = json.loads(pack_ensemble(members, 8)["config.json"])
    assert [one["weight"] for one in settings["members"]] == [0.5, 0.5]


def change_run(run: Path, folder: Path, nomenclature: str, classes: int) -> Path:
    """A copy of a run whose header names another nomenclature and whose head has other classes."""
    folder.mkdir()
    tensors = load_file(run / "model.safetensors")
    with safe_open(run / "model.safetensors", framework="pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    for name in [name for name in tensors if name.startswith("unet.segmentation_head.")]:
        tensors[name] = torch.zeros(classes, *tensors[name].shape[1:])
    text = json.dumps(provenance | {"nomenclature": nomenclature})
    save_file(tensors, folder / "model.safetensors", {"provenance": text})
    return folder


@pytest.mark.parametrize("program", ["package", "plan"])
def test_members_of_other_nomenclatures_or_classes_are_refused_together(
    runs: dict[str, Path], flair_tree: Path, tmp_path: Path, program: str
) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    named = change_run(runs["first"], inputs / "named", "flair-18", 13)
    wide = change_run(runs["first"], inputs / "wide", "flair-12", 19)
    data = ["--data", flair_tree] if program == "plan" else []
    done = run_here(program, named, runs["unet"], wide, *data, "-o", outputs / "x.zip")
    assert done.returncode == 2
    assert "named/model.safetensors: its classes are of the nomenclature 'flair-18'" in done.stderr
    assert (
        "wide/model.safetensors: its network has 19 classes, and a submission predicts the 13" in done.stderr
    )
    assert not list(outputs.iterdir())


def test_the_command_line_packs_an_ensemble(runs: dict[str, Path], tmp_path: Path) -> None:
    options = ["--weights", 2, 1, "--tta", "d4", "--one-at-a-time", "--batch-size", 4]
    done = run_here("package", runs["first"], runs["unet"], *options, "-o", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert "2 members; on the device at once: weights of" in done.stderr
    settings = json.loads((tmp_path / "both/config.json").read_text())
    assert [one["weight"] for one in settings["members"]] == [2 / 3, 1 / 3]
    assert {one["views"] for one in settings["members"]} == {"d4"}
    assert settings["one_at_a_time"] is True


def test_a_submission_over_the_limit_is_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flair_baseline import packaging
    from flair_ingestion.limits import read_limits

    monkeypatch.setattr(packaging, "read_limits", lambda: replace(read_limits(), submission_mib=1))
    done = run_here("package", runs["first"], runs["wide"], "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert "at most 1 are allowed (submission_mib)" in done.stderr
    assert "member_1.safetensors" in done.stderr
    assert not list(tmp_path.iterdir())
