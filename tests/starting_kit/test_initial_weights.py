"""Weights of others: every layout is read, equal networks give equal logits, wrong files are named."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from given_weights import (
    NAMES,
    begin,
    classify,
    draw_aerial,
    draw_smp,
    scale,
    small,
    under,
    write,
)
from official_recipe import draw_tensors
from torch import nn

from flair_baseline.checkpoint import save_model
from flair_baseline.config import load_config
from flair_baseline.encoders import make_network
from flair_baseline.initial.classes import LISTS
from flair_baseline.initial.given import Start, read_start
from flair_baseline.official import convert, read_official
from flair_scoring.base.errors import DataError, FlairError, UsageError
from flair_scoring.nomenclature import FLAIR_VALUES

OFFICIAL_SHAPES: dict[str, list[int]] = json.loads(
    str(np.load(Path(__file__).parent / "official_numbers.npz")["tensors"])
)
OURS = [FLAIR_VALUES[value][0] for value in range(1, 13)]


def require_equal(logits: torch.Tensor, expected: torch.Tensor, share: float = 1e-5) -> None:
    assert logits.shape == expected.shape
    assert float((logits - expected).abs().max()) <= share * float(expected.abs().max())


# Plain networks of smp, and what is put around them


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("model.pth", dict),
        ("model.safetensors", dict),
        ("any_name", dict),
        ("model.pth", under("module.")),
        ("model.pth", under("_orig_mod.")),
        ("model.pth", under("net.")),
        ("model.safetensors", under("net.module._orig_mod.")),
        ("model.ckpt", lambda named: {"epoch": 3, "state_dict": under("model.")(named)}),
        ("model.ckpt", lambda named: {"checkpoint": {"state_dict": under("model.module.")(named)}}),
        ("model.pt", lambda named: {"model": named, "optimizer": {"state": {}, "param_groups": []}}),
        (
            "model.ckpt",
            lambda named: {
                "state_dict": under("model.")(named) | {"criterion.weight": torch.ones(13)},
                "hyper_parameters": {"classes": 13},
            },
        ),
        (
            "model.pth",
            lambda named: {
                name.replace("encoder.", "encoder._orig_mod."): one for name, one in named.items()
            },
        ),
    ],
)
def test_an_smp_network_gives_its_own_logits(tmp_path, name, wrap):
    reference = draw_smp()
    model, outcome = begin(small(), write(tmp_path, wrap(reference.state_dict()), name))
    aerial = draw_aerial()
    with torch.inference_mode():
        require_equal(classify(model, aerial), reference(scale(aerial)))
    assert (outcome.adapted, outcome.drawn) == ({}, {})
    assert all("criterion" in left for left in outcome.left)
    assert len(outcome.loaded) == len(reference.state_dict())
    assert outcome.layout == "segmentation_models.pytorch"


def test_half_precision_is_taken_as_float32(tmp_path):
    tensors = {name: one.half() for name, one in draw_smp().state_dict().items()}
    model, _ = begin(small(), write(tmp_path, tensors))
    assert {one.dtype for one in model.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(("given", "channels"), [("RVB", "RVBIE"), ("RVBI", "RVBIE"), ("RVB", "RVBI")])
def test_bands_that_the_file_lacks_change_nothing_at_first(tmp_path, given, channels):
    reference = draw_smp(bands=len(given))
    model, outcome = begin(small("unet", f"channels={channels}"), write(tmp_path, reference.state_dict()))
    aerial = draw_aerial()
    with torch.inference_mode():
        require_equal(classify(model, aerial), reference(scale(aerial)[:, : len(given)].contiguous()))
    missing = ", ".join(channels[len(given) :])
    assert (
        f"bands: {given} in the file, {channels} here; the weights of {missing} begin at 0" in outcome.notes
    )
    assert list(outcome.adapted) == ["unet.encoder.model.conv_stem.weight"]


def test_bands_are_matched_by_name_and_those_too_many_left_out(tmp_path):
    reference = draw_smp(bands=4)
    path = write(tmp_path, reference.state_dict())
    model, outcome = begin(small("unet", "channels=RVB"), path, bands="IEVR")
    given = reference.state_dict()["encoder.model.conv_stem.weight"]
    taken = model.state_dict()["unet.encoder.model.conv_stem.weight"]
    assert torch.equal(taken[:, 0], given[:, 3])
    assert torch.equal(taken[:, 1], given[:, 2])
    assert not taken[:, 2].any()
    assert "bands: IEVR in the file, RVB here; the weights of B begin at 0; those of I, E are left out" in (
        outcome.notes
    )


@pytest.mark.parametrize(
    ("bands", "said", "sentence"),
    [
        (2, {}, "its first layer reads 2 bands; name them with --init-channels"),
        (4, {"bands": "RVB"}, "--init-channels RVB: the first layer of "),
        (1, {"bands": "E"}, "reads the bands E, of which channels=RVB has none"),
    ],
)
def test_bands_that_are_not_known_are_asked_for(tmp_path, bands, said, sentence):
    path = write(tmp_path, draw_smp(bands=bands).state_dict())
    with pytest.raises(UsageError) as refusal:
        begin(small("unet", "channels=RVB"), path, **said)
    assert sentence in str(refusal.value)


# Classes


@pytest.mark.parametrize(("order", "rows"), [(order, len(one)) for order in LISTS for one in LISTS[order]])
def test_rows_of_the_head_are_matched_by_name(tmp_path, order, rows):
    """IGN's own lists: FLAIR's annotation values, and the order of FLAIR-HUB's configuration."""
    cosia = (1, 18, 13, 3, 2, 4, 5, 14, 10, 11, 12, 9, 7, 6, 8, 15, 17, 16, 19)
    flair = {15: (*range(1, 15), 18), 13: (*range(1, 13), 19)}.get(rows, tuple(range(1, rows + 1)))
    values = cosia[:rows] if order == "cosia" else flair
    reference = draw_smp(classes=rows)
    model, outcome = begin(small(), write(tmp_path, reference.state_dict()), order=order)
    aerial = draw_aerial()
    with torch.inference_mode():
        logits, expected = classify(model, aerial), reference(scale(aerial))
    for index in range(12):
        require_equal(logits[:, index], expected[:, values.index(index + 1)])
    if 19 in values:
        require_equal(logits[:, 12], expected[:, values.index(19)])
    else:
        assert any("; drawn anew: other" in note for note in outcome.notes)
    head = {"unet.segmentation_head.0.weight", "unet.segmentation_head.0.bias"}
    assert head <= (outcome.loaded if (order, rows) == ("flair", 13) else outcome.adapted).keys()
    assert any(f"classes: {rows} in the file, read in the order {order}" in one for one in outcome.notes)


@pytest.mark.parametrize("rows", [2, 21])
def test_a_head_of_unknown_classes_is_drawn_anew(tmp_path, rows):
    _, outcome = begin(small(), write(tmp_path, draw_smp(classes=rows).state_dict()))
    assert list(outcome.drawn) == ["unet.segmentation_head.0.weight", "unet.segmentation_head.0.bias"]
    assert (
        f"unet.segmentation_head is drawn anew: the file's has {rows} classes, and the order flair has no "
        "list of so many" in outcome.notes
    )


# Sources


def test_a_run_of_this_kit_is_taken_whole(tmp_path):
    config = small("utt_all", "superpatch_size=16")
    source = make_network(config)
    save_model(tmp_path, source, config, 3, {})
    for given in (tmp_path, tmp_path / "model.safetensors"):
        model, outcome = begin(config, given)
        assert all(torch.equal(one, source.state_dict()[name]) for name, one in model.state_dict().items())
        assert (outcome.layout, outcome.adapted, outcome.drawn, outcome.left) == ("this kit", {}, {}, {})
    assert outcome.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_the_bare_tensors_of_a_run_are_taken_too(tmp_path, name):
    source = make_network(small("unet", "channels=RVBI"))
    path = write(tmp_path, under("module.")(source.state_dict()), name)
    model, outcome = begin(small("unet", "channels=RVBI"), path)
    assert all(torch.equal(one, source.state_dict()[key]) for key, one in model.state_dict().items())
    assert "bands: RVBI in the file, RVBI here" in outcome.notes


def test_of_a_run_with_fewer_parts_the_others_are_drawn(tmp_path):
    source = small("unet", "channels=RVB")
    save_model(tmp_path, make_network(source), source, 3, {})
    _, outcome = begin(small("utt_all"), tmp_path)
    assert {name.split(".")[0] for name in outcome.drawn} == {"utae", "fusion", "metadata"}
    assert "utae is drawn anew: the file has none" in outcome.notes
    assert "pixels: taken as scaled as here" in outcome.notes


def test_another_decoder_is_drawn_anew_with_its_head(tmp_path):
    source = small("unet", "decoder_channels=[8, 8, 8, 8, 4]")
    save_model(tmp_path, make_network(source), source, 3, {})
    _, outcome = begin(small(), tmp_path)
    assert {".".join(name.split(".")[:2]) for name in outcome.drawn} == {
        "unet.decoder",
        "unet.segmentation_head",
    }
    assert "unet.segmentation_head is drawn anew: so is the decoder before it" in outcome.notes


@pytest.mark.parametrize("monthly", [True, False])
def test_the_official_checkpoint_gives_the_converted_network(tmp_path, monthly):
    path = write(tmp_path, under("model.")(draw_tensors(OFFICIAL_SHAPES)), "official.ckpt")
    settings = ["official_layers=true", "metadata=true", "metadata_stages=deepest", "encoder_weights=null"]
    config = load_config("utt_best", [*settings, f"monthly_average={monthly}"])
    model, outcome = begin(config, path)
    expected = convert(read_official(path), config, path).state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in model.state_dict().items())
    assert list(outcome.adapted) == ["utae.in_conv.0.weight"]
    assert (outcome.drawn, outcome.left, outcome.layout) == ({}, {}, "IGN's U-T&T (FLAIR-2)")


def test_the_official_checkpoint_asks_for_the_official_layers(tmp_path):
    path = write(tmp_path, draw_tensors(OFFICIAL_SHAPES), "official.ckpt")
    with pytest.raises(UsageError) as refusal:
        read_start(Start(path), load_config("utt_best"))
    assert str(refusal.value) == (
        f"{path}: is IGN's U-T&T, which has other layers than the paper's and counts days otherwise; give "
        "official_layers=true, metadata=true and metadata_stages=deepest"
    )
    source = small("utt", "official_layers=true", "metadata_stages=deepest")
    save_model(tmp_path, make_network(source), source, 0, {})
    bare = write(tmp_path, make_network(source).state_dict())
    for given in (tmp_path, bare):
        with pytest.raises(UsageError, match=r"; give official_layers=true$"):
            read_start(Start(given), small("utt"))
        read_start(Start(given), source)


@pytest.fixture(scope="module")
def flair_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = {"state_dict": draw_tensors(NAMES["flair-1"]), "epoch": 5}
    return write(tmp_path_factory.mktemp("flair_1"), content, "flair_1.ckpt")


def plain(tensors: dict[str, torch.Tensor], *starts: str) -> dict[str, torch.Tensor]:
    """Tensors under the names that the network has without what stands before it."""
    cut: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for start, own in (one.split("=") for one in starts):
            if name.startswith(start):
                cut[own + name.removeprefix(start)] = tensor
    return cut


def test_flair_1_gives_its_logits_to_pixels_scaled_as_here(tmp_path, flair_1):
    model, outcome = begin(load_config("unet", ["encoder_weights=null"]), flair_1, pixels="kit")
    reference = smp.Unet("resnet34", encoder_weights=None, in_channels=5, classes=19).eval()
    reference.load_state_dict(plain(draw_tensors(NAMES["flair-1"]), "model.seg_model.="))
    aerial = draw_aerial()
    with torch.inference_mode():
        logits, expected = classify(model, aerial), reference(scale(aerial))
    require_equal(logits, expected[:, [*range(12), 18]])
    assert outcome.layout == "FLAIR-1 and FLAIR-INC"
    assert list(outcome.left) == ["criterion.weight"]
    assert list(outcome.adapted) == ["unet.segmentation_head.0.weight", "unet.segmentation_head.0.bias"]


def test_flair_1_was_fed_other_numbers(flair_1):
    """Its first layer and batch norm give what they gave, but for the border where zeros pad the input."""
    model, outcome = begin(load_config("unet", ["encoder_weights=null"]), flair_1)
    reference = smp.encoders.get_encoder("resnet34", in_channels=5, weights=None).eval()
    reference.load_state_dict(plain(draw_tensors(NAMES["flair-1"]), "model.seg_model.encoder.="))
    aerial = draw_aerial()
    theirs = scale(aerial, (105.08, 110.87, 101.82, 106.38, 53.26), (52.17, 45.38, 44, 39.69, 79.3))
    with torch.inference_mode():
        expected = reference.bn1(reference.conv1(theirs))
        found = model.unet.encoder.bn1(model.unet.encoder.conv1(scale(aerial)))
    require_equal(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])
    assert {"unet.encoder.conv1.weight", "unet.encoder.bn1.running_mean"} <= outcome.adapted.keys()
    assert (
        "pixels: scaled as by flair-1 in the file (as its published configuration says); the first layer and "
        "its batch norm are changed so that they compute the same but for the border of a patch, where it "
        "pads with zeros" in outcome.notes
    )


HUB_STATISTICS = {"R": (105.66, 52.23), "V": (111.35, 45.62), "I": (106.59, 39.78)}


def hub_config() -> Any:
    return load_config("unet", ["encoder=tu-convnextv2_atto", "encoder_weights=null"])


def test_flair_hub_gives_its_own_logits(tmp_path):
    """Infrared, red, green as its configuration scales them; nothing pads its first layer: all is equal."""
    tensors = draw_tensors(NAMES["flair-hub aerial"])
    path = write(tmp_path, tensors, "hub.safetensors")
    model, outcome = begin(hub_config(), path, bands="IRV")
    reference = smp.Unet("tu-convnextv2_atto", encoder_weights=None, in_channels=3, classes=19).eval()
    reference.load_state_dict(
        plain(
            tensors,
            "model.encoders.AERIAL_RGBI.seg_model.=encoder.",
            "model.main_decoders.AERIAL_LABEL-COSIA.seg_model.=",
        )
    )
    aerial = draw_aerial()
    theirs = scale(aerial[:, [3, 0, 1]], *zip(*(HUB_STATISTICS[band] for band in "IRV"), strict=True))
    with torch.inference_mode():
        logits, expected = classify(model, aerial), reference(theirs)
    cosia = [0, 4, 3, 5, 6, 13, 12, 14, 11, 8, 9, 10, 18]  # building, pervious, impervious, ... undefined
    require_equal(logits, expected[:, cosia], 1e-4)
    assert outcome.layout == "FLAIR-HUB"
    assert sum("fusion_handler" in name for name in outcome.left) == 8
    assert any("so that it computes the same" in note and "border" not in note for note in outcome.notes)


def test_of_a_fused_flair_hub_network_the_aerial_parts_are_taken(tmp_path):
    path = write(tmp_path, {"state_dict": draw_tensors(NAMES["flair-hub fused"])}, "hub.ckpt")
    _, outcome = begin(hub_config(), path, bands="RVB")
    assert outcome.drawn == {}
    assert {name.removeprefix("model.").split(".")[0] for name in outcome.left} == {
        *("criterion", "encoders", "fusion_handler", "main_decoders", "aux_decoders")
    }
    assert not any("AERIAL_RGBI.seg_model" in name for name in outcome.left)
    assert (
        "unet.decoder: in the file it reads features of AERIAL_RGBI fused with DEM_ELEV, SENTINEL2_TS, here "
        "those of the aerial encoder alone" in outcome.notes
    )


def test_flair_hub_does_not_say_which_three_bands(tmp_path):
    path = write(tmp_path, draw_tensors(NAMES["flair-hub aerial"]), "hub.safetensors")
    with pytest.raises(UsageError, match="give --init-channels RVB or IRV"):
        begin(hub_config(), path)


# Other decoders


def vision_transformer(widths: int) -> Any:
    keys = ("decoder=dpt", "encoder=tu-vit_tiny_patch16_224", "encoder_weights=null")
    return load_config("unet", [*keys, f"decoder_channels=[{widths}]"])


@pytest.mark.parametrize("widths", [13, 16])
def test_a_head_of_several_layers_is_taken_whole(tmp_path, widths):
    """Only the last layer of dpt's head has a row for each class."""
    config = vision_transformer(widths)
    source = make_network(config)
    save_model(tmp_path, source, config, 3, {})
    model, outcome = begin(config, tmp_path)
    assert all(torch.equal(one, source.state_dict()[name]) for name, one in model.state_dict().items())
    assert (outcome.adapted, outcome.drawn, outcome.left) == ({}, {}, {})


def test_the_last_layer_of_a_head_is_matched_by_class(tmp_path):
    config = vision_transformer(16)
    reference = smp.DPT(
        "tu-vit_tiny_patch16_224",
        encoder_weights=None,
        in_channels=5,
        classes=19,
        img_size=512,
        decoder_fusion_channels=16,
        decoder_intermediate_channels=(16, 32, 64, 64),
    )
    reference.load_state_dict(
        draw_tensors({name: list(one.shape) for name, one in reference.state_dict().items()})
    )
    model, outcome = begin(config, write(tmp_path, reference.eval().state_dict()))
    aerial = draw_aerial(512)
    with torch.inference_mode():
        require_equal(classify(model, aerial), reference(scale(aerial))[:, [*range(12), 18]])
    assert [name.removeprefix("unet.segmentation_head.") for name in outcome.adapted] == [
        "head.4.weight",
        "head.4.bias",
    ]


# Runs of this kit


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"bands": "RVB"}, "--init-channels RVB: "),
        ({"order": "cosia"}, "--init-classes cosia: "),
        ({"pixels": "flair-1", "bands": "IRV"}, "--init-channels IRV and --init-pixels flair-1: "),
    ],
)
def test_what_a_run_says_itself_cannot_be_said_otherwise(tmp_path, said, sentence):
    save_model(tmp_path, make_network(small()), small(), 3, {})
    with pytest.raises(UsageError) as refusal:
        begin(small(), tmp_path, **said)
    assert str(refusal.value).startswith(sentence)
    assert (
        f"{tmp_path}/model.safetensors is of a run of this kit, whose bands (RVBIE), classes and pixels"
        in (str(refusal.value))
    )
    begin(small(), tmp_path, bands="RVBIE", order="flair", pixels="kit")


@pytest.mark.parametrize(
    ("given", "own", "sentence"),
    [
        (
            ("encoder=tu-mobilenetv3_small_100",),
            (),
            "it is that of tu-mobilenetv3_small_100; give encoder=tu-mobilenetv3_small_100",
        ),
        (
            ("encoder=tu-resnet18", "decoder_channels=[8, 8, 8]"),
            ("encoder=tu-resnet18",),
            "with 5 stages (unet.encoder.model.layer3.0.conv1.weight is missing and 49 more): its run has "
            "decoder_channels=[8, 8, 8]; give the same",
        ),
    ],
)
def test_the_encoder_of_another_run_is_named(tmp_path, given, own, sentence):
    source = small("unet", *given)
    save_model(tmp_path, make_network(source), source, 3, {})
    with pytest.raises(DataError) as refusal:
        begin(small("unet", *own), tmp_path)
    assert sentence in str(refusal.value)


def test_a_vision_transformer_is_not_taken_for_another(tmp_path):
    """The first layer of tu-swin_large has as many outputs."""
    path = write(tmp_path, make_network(vision_transformer(16)).state_dict())
    with pytest.raises(DataError, match=r"it has other layers than resnet18; give the encoder of the file$"):
        begin(replace(small(), encoder="resnet18"), path)


# Wrong files


def nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors["encoder.model.bn1.weight"][2] = math.nan
    tensors["segmentation_head.0.bias"][1] = math.inf
    return tensors


def one_like(make: Any) -> dict[str, torch.Tensor]:
    tensors = draw_smp().state_dict()
    return tensors | {"segmentation_head.0.weight": make(tensors["segmentation_head.0.weight"])}


WRONG: list[tuple[Any, str]] = [
    (b"", "cannot be read (it is empty)"),
    (b"version https://git-lfs.github.com/spec/v1\n", "it is a git-lfs pointer: download the file itself"),
    (b"<!DOCTYPE html><html>", "it is a web page"),
    (b'{"weight_map": {}}', "it is JSON"),
    (b"\x00" * 100, "it is damaged, or another program wrote it"),
    (b"PK\x03\x04 no zip", "expected what torch.save wrote"),
    (lambda: nn.Sequential(nn.Linear(2, 2)), "holds objects of torch.nn.modules.container.Sequential"),
    (lambda: {"model": draw_smp()}, "torch.save(model.state_dict(), FILE)"),
    (
        lambda: torch.optim.AdamW(draw_smp().parameters()).state_dict(),
        "is the state of an optimizer; expected the tensors of a network by name",
    ),
    (lambda: {"state_dict": {}}, "holds no tensors"),
    (lambda: [torch.ones(1)], "holds a list"),
    (
        lambda: under("model.")(draw_smp().state_dict()) | under("ema.")(draw_smp().state_dict()),
        "holds 2 networks, 'ema.' and 'model.'; save only one of them",
    ),
    (
        lambda: {"a.weight": torch.ones(1), "b.weight": torch.ones(1)},
        "holds no network of a known layout (a.weight, b.weight); --init-from takes runs of this kit",
    ),
    (
        lambda: smp.encoders.get_encoder("resnet18", weights=None).state_dict(),
        "The weights of an encoder alone are for encoder_weights=FILE.",
    ),
    (
        lambda: (
            under("model.seg_model.segformer.encoder.")(draw_smp().state_dict())
            | {"model.seg_model.decode_head.classifier.weight": torch.ones(1)}
        ),
        "holds a network of transformers or mmsegmentation (",
    ),
    (
        lambda: draw_smp(encoder="resnet18").state_dict(),
        "its encoder does not fit encoder=tu-mobilenetv3_small_050 with 5 stages "
        "(unet.encoder.model.conv_stem.weight is missing and ",
    ),
    (lambda: draw_smp(encoder="resnet18").state_dict(), "it is that of resnet18; give encoder=resnet18"),
    (lambda: draw_smp(encoder="mit_b1").state_dict(), "it is that of mit_b1; give encoder=mit_b1"),
    (
        lambda: draw_smp(encoder="tu-convnext_atto").state_dict(),
        "it is that of tu-convnext_atto; give encoder=tu-convnext_atto",
    ),
    (
        lambda: draw_smp(encoder="tu-mobilenetv3_small_100").state_dict(),
        "it has other layers than tu-mobilenetv3_small_050; give the encoder of the file",
    ),
    (
        lambda: {name: one.to(torch.int8) for name, one in draw_smp().state_dict().items()},
        "weights that cannot be used (258 problems):\n  - unet.encoder.model.conv_stem.weight: holds int8 ",
    ),
    (
        lambda: one_like(lambda tensor: tensor.to(torch.complex64)),
        "holds complex64 numbers; expected floating",
    ),
    (
        lambda: one_like(lambda tensor: tensor.double() * 1e300),
        "holds numbers that are too large for float32",
    ),
    (lambda: one_like(lambda tensor: tensor.to_sparse()), "holds a sparse matrix; expected all numbers"),
    (lambda: one_like(lambda tensor: tensor.to("meta")), "holds no numbers; expected all numbers of the"),
    (lambda: nan(draw_smp().state_dict()), "weights that cannot be used (2 problems)"),
    (
        lambda: {"encoders.SENTINEL2_TS.in_conv.weight": torch.ones(1)},
        "nothing in it fits the configuration; its names have the layout of FLAIR-HUB, but it holds only "
        "encoders.SENTINEL2_TS.in_conv.weight",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), WRONG)
def test_a_wrong_file_is_named_for_what_it_is(tmp_path, content, sentence):
    path = tmp_path / "model.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content(), path)
    with pytest.raises(DataError) as refusal:
        begin(small(), path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert sentence in str(refusal.value)


def test_an_encoder_with_more_blocks_is_another_network(tmp_path):
    """All tensors of ResNet18 are in ResNet34, with the same names and shapes."""
    path = write(tmp_path, draw_smp(encoder="resnet34").state_dict())
    with pytest.raises(DataError, match=r"has no counterpart and .* it is that of resnet34"):
        begin(replace(small(), encoder="resnet18"), path)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_compiled_program_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "model.pt")
    with pytest.raises(DataError, match="is a TorchScript archive, a program; save the tensors alone"):
        begin(small(), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent.pth", "no such file; --init-from takes a folder that train.py wrote, or a file such as"),
        ("last.pt", "is the state from which --resume goes on; give its folder"),
        ("", "no such file"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, sentence):
    (tmp_path / "last.pt").touch()
    with pytest.raises(FlairError) as refusal:
        read_start(Start(tmp_path / name), small())
    assert sentence in str(refusal.value)
