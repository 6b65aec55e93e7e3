"""Encoders and decoders beside the paper's: their networks are smp's, and the paper's stays as it was."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from flair_baseline.checkpoint import save_model
from flair_baseline.config import Config, load_config, model_options
from flair_baseline.encoders import check_network, find_fault, find_unread, require_encoder
from flair_baseline.model.aerial import AERIAL_MEANS, AERIAL_STDS, AerialBranch
from flair_baseline.model.architectures import needs_image_size
from flair_baseline.model.folding import fold_batch_norm
from flair_baseline.model.inference import Model, compile_unet
from flair_baseline.model.upsampling import DecoderBlock
from flair_baseline.model.utt import UTT
from flair_baseline.packaging import pack_checkpoint, write_submission
from flair_baseline.samples.loader import make_loader
from flair_baseline.training import learner
from flair_baseline.training.loop import train
from flair_ingestion.dataset import index_patches, read_image, read_superpatch

KIT = Path(__file__).parents[2]
TINY = "tu-mobilenetv3_small_050"
PAIRS = [
    *(("unetplusplus", TINY), ("manet", TINY), ("linknet", TINY), ("fpn", TINY), ("deeplabv3plus", TINY)),
    *(("pan", "mit_b0"), ("segformer", "mit_b0"), ("upernet", "tu-convnext_atto")),
    ("dpt", "tu-vit_tiny_patch16_224"),
]
SWIN = pytest.param("unet", "tu-swin_tiny_patch4_window7_224", marks=pytest.mark.long)
every_pair = pytest.mark.parametrize(("decoder", "encoder"), [*PAIRS, SWIN])


def make_config(decoder: str, encoder: str, *overrides: str) -> Config:
    widths = "[64, 16, 16, 8, 8]" if decoder == "fpn" else "[16, 16, 8, 8, 8]"
    keys = (f"decoder={decoder}", f"encoder={encoder}", "encoder_weights=null", f"decoder_channels={widths}")
    step = (
        "batch_size=2",
        "effective_batch_size=2",
        "optimizer=adamw",
        "epochs=1",
        "workers=0",
        "device=cpu",
    )
    return load_config("utt_best", [*keys, *step, "aerial_pooling=4", "superpatch_size=16", *overrides])


def draw_inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    aerial = torch.randint(0, 256, (2, 5, 512, 512), dtype=torch.uint8, generator=generator)
    floats = {"series": (2, 2, 10, 16, 16), "days": (2, 2), "metadata": (2, 45)}
    drawn = {name: torch.rand(shape, generator=generator) for name, shape in floats.items()}
    return {"aerial": aerial} | drawn


def randomise(network: UTT) -> UTT:
    """As after training: norms have seen data, and no layer is zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    return network


@pytest.fixture(scope="module")
def earlier() -> ModuleType:
    """The network of the first version, which the reference submission keeps."""
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "flair_baseline"}
    for name in ours:
        del sys.modules[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(KIT / "reference_submission")
        module = importlib.import_module("flair_baseline.utt")
    for name in [name for name in sys.modules if name.split(".")[0] == "flair_baseline"]:
        del sys.modules[name]
    sys.modules.update(ours)
    return module


@pytest.mark.parametrize("satellite", [False, True])
def test_the_papers_network_begins_as_that_of_the_first_version(earlier, satellite: bool):
    states = []
    for kind in (earlier.UTT, UTT):
        torch.manual_seed(2022)
        states.append(kind("resnet18", None, satellite=satellite).state_dict())
    before, after = states
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def take_steps(network: nn.Module) -> dict[str, Tensor]:
    """The weights after two steps."""
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.01)
    aerial = draw_inputs()["aerial"]
    for _ in range(2):
        optimizer.zero_grad()
        logits, _ = network(aerial)
        F.cross_entropy(logits, torch.ones(2, 128, 128, dtype=torch.long)).backward()
        optimizer.step()
    return network.state_dict()


def test_the_papers_unet_learns_as_smps_bit_for_bit():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = smp.Unet("resnet18", encoder_weights=None, in_channels=5, classes=13)
            for index, block in enumerate(self.unet.decoder.blocks):
                self.unet.decoder.blocks[index] = DecoderBlock(block)

        def forward(self, aerial: Tensor) -> tuple[Tensor, None]:
            means, stds = (torch.tensor(one)[:, None, None] for one in (AERIAL_MEANS, AERIAL_STDS))
            return self.unet(F.avg_pool2d((aerial.float() - means) / stds, 4)), None

    torch.manual_seed(2022)
    expected = take_steps(Plain())
    torch.manual_seed(2022)
    learned = take_steps(UTT("resnet18", None, aerial_pooling=4, satellite=False))
    assert list(expected) == list(learned)
    assert all(torch.equal(expected[name], learned[name]) for name in expected)


@every_pair
def test_logits_are_those_of_smps_network(decoder: str, encoder: str):
    """On the bands in the order that was asked for."""
    config = make_config(decoder, encoder, "channels=IVB", "satellite=false")
    ours = AerialBranch(encoder, None, config.decoder_channels, 4, 13, channels="IVB", decoder=decoder).eval()
    first, *_ = config.decoder_channels
    kinds = {"unetplusplus": smp.UnetPlusPlus, "upernet": smp.UPerNet, "fpn": smp.FPN, "pan": smp.PAN}
    kinds |= {"linknet": smp.Linknet, "manet": smp.MAnet, "segformer": smp.Segformer, "dpt": smp.DPT}
    kinds |= {"deeplabv3plus": smp.DeepLabV3Plus, "unet": smp.Unet}
    options = {
        "linknet": {},
        "fpn": {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32},
        "segformer": {"decoder_segmentation_channels": first},
        "dpt": {"decoder_fusion_channels": 16, "decoder_intermediate_channels": (16, 32, 64, 64)},
        **{name: {"decoder_channels": first} for name in ("upernet", "pan", "deeplabv3plus")},
    }.get(decoder, {"decoder_channels": config.decoder_channels})
    size = {"img_size": 128} if "224" in encoder else {}
    theirs = kinds[decoder](
        encoder, encoder_weights=None, in_channels=3, classes=13, **options, **size
    ).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected
    assert all("model.norm." in name or "model.head." in name for name in missing)  # of the classifier
    aerial = draw_inputs()["aerial"]
    bands = [(aerial[:, band].float() - AERIAL_MEANS[band]) / AERIAL_STDS[band] for band in (3, 1, 2)]
    with torch.inference_mode():
        expected = theirs(F.avg_pool2d(torch.stack(bands, 1), 4))
        logits = ours.decode(ours.encode(aerial))
    assert logits.shape == (2, 13, 128, 128)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@every_pair
def test_every_parameter_learns_and_folding_changes_no_logit(decoder: str, encoder: str):
    torch.manual_seed(1)
    config = make_config(decoder, encoder, "metadata=true")
    network, inputs = randomise(UTT(**model_options(config))).train(), draw_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        logits, satellite_logits = network(**inputs)
    (logits.float().square().mean() + satellite_logits.float().square().mean()).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    assert find_unread(config) == []
    network.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        before, _ = network(**inputs)
        fold_batch_norm(network)
        after, _ = network(**inputs)
    assert float((after - before).abs().max() / before.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("decoder", "encoder"), [("upernet", "tu-convnext_atto"), ("dpt", "tu-vit_tiny_patch16_224")]
)
def test_a_packaged_model_labels_as_the_validation(decoder, encoder, flair_tree: Path, tmp_path: Path):
    torch.manual_seed(2)
    config = make_config(decoder, encoder, "channels=EI")
    network = randomise(UTT(**model_options(config))).eval()
    save_model(tmp_path, network, config, 1, {"val_miou": 0.0})
    files = pack_checkpoint(tmp_path, batch_size=1)
    assert files["metadata.yaml"] == (
        f"description: {decoder} with U-TAE of the starting kit, encoder {encoder}\n".encode()
    )
    write_submission(tmp_path / "new", files)
    packaged = Model(tmp_path / "new", torch.device("cpu"))
    patches = index_patches(flair_tree, "val", labels=True)[:2]
    with torch.inference_mode():
        logits = [network(*batch.inputs)[0] for batch in make_loader(patches, config)]
    expected = torch.cat(logits).argmax(1).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert len(expected.unique()) > 1
    for patch, labels in zip(patches, expected, strict=True):
        window = read_superpatch(patch, packaged.superpatch_size)
        names = {"sentinel": "data", "sentinel_masks": "masks", "sentinel_dates": "dates"}
        series = {key: [torch.from_numpy(getattr(window, name))] for key, name in names.items()}
        batch = {"aerial": torch.from_numpy(read_image(patch))[None], "metadata": [patch.metadata]} | series
        assert float((packaged.predict(batch)[0] == labels).float().mean()) > 0.999


def test_a_layer_with_several_names_is_saved_under_each(tmp_path: Path):
    """As in the encoder CoaT."""
    model = nn.ModuleDict({"first": nn.Linear(2, 3), "other": nn.Linear(2, 3)})
    model["again"] = model["first"]
    save_model(tmp_path, model, Config(), 1, {})
    found, expected = load_file(tmp_path / "model.safetensors"), model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    model.load_state_dict(found)


def test_a_run_with_another_decoder(flair_tree: Path, tmp_path: Path):
    config = make_config("segformer", TINY, "channels=IVB", "satellite=false", "precision=bf16")
    assert train(config, flair_tree, tmp_path / "run")["epoch"] == 1


@pytest.mark.parametrize("channels", ["I", "BVR", "EIBVR"])
def test_bands_that_are_not_named_are_not_seen(channels: str):
    torch.manual_seed(3)
    options = model_options(make_config("unet", TINY, f"channels={channels}", "satellite=false"))
    network, aerial = UTT(**options).eval(), draw_inputs()["aerial"]
    with torch.inference_mode():
        logits, _ = network(aerial)
        for band, letter in enumerate("RVBIE"):
            changed = aerial.clone()
            changed[:, band] = 255 - changed[:, band]
            assert torch.equal(network(changed)[0], logits) == (letter not in channels)


def test_only_encoders_that_need_the_side_of_their_images_are_told():
    """The weights of other encoders, which older checkpoints hold, would change their shapes."""
    assert needs_image_size("tu-vit_tiny_patch16_224", 256)
    assert not needs_image_size("tu-vit_tiny_patch16_224", 224)
    assert not needs_image_size("tu-maxvit_pico_rw_256", 512)
    assert not needs_image_size("tu-convnext_atto", 512)
    assert not needs_image_size("resnet18", 512)


def test_parameters_that_nothing_reads_stop_no_rank(monkeypatch: pytest.MonkeyPatch):
    """DistributedDataParallel waits for the gradients of all parameters that ask for one."""
    unread = [f"unet.encoder.{name}" for name in ("_conv_head.weight", "_bn1.weight", "_bn1.bias")]
    config = make_config("unet", "efficientnet-b0")
    assert find_unread(config) == unread
    monkeypatch.setattr(learner, "world_size", lambda: 2)
    monkeypatch.setattr(learner, "DistributedDataParallel", lambda model, **_: model)
    model = learner.make_learner(config, torch.device("cpu"), 1).model
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == unread


@pytest.mark.parametrize(("encoder", "narrow"), [("mobileone_s0", True), ("resnet18", False), (TINY, False)])
def test_a_layer_whose_gradients_torch_gets_wrong_is_not_stored_channels_last(encoder: str, narrow: bool):
    config = make_config("linknet", encoder, "satellite=false")
    network = learner.make_learner(config, torch.device("cpu"), 1).model
    weights = [value for value in network.parameters() if value.dim() == 4 and min(value.shape) > 1]
    assert {value.is_contiguous() for value in weights} == {narrow}
    logits, _ = network(draw_inputs()["aerial"])
    logits.square().mean().backward()  # the process would die here
    assert all(value.grad.isfinite().all() for value in weights)


@pytest.mark.parametrize(
    ("pair", "batch_size", "fault"),
    [
        ("upernet", 1, "more than 1 value per channel"),  # its pyramid has maps of one pixel
        ("pan", 1, "more than 1 value per channel"),
        ("segformer", 1, None),
    ],
)
def test_one_patch_at_once(pair: str, batch_size: int, fault: str | None):
    config = make_config(pair, TINY)
    found = find_fault(config, batch_size)
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)
    network = UTT(**model_options(config)).train()
    one = {name: tensor[:1] for name, tensor in draw_inputs().items() if name != "metadata"}
    if fault is None:
        network(**one)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(**one)


@pytest.mark.long
@pytest.mark.parametrize("name", ["segformer_b5", "maxvit", "convnext_upernet"])
def test_a_named_configuration_can_be_trained(name: str):
    config = load_config(name)
    require_encoder(config)
    check_network(config, config.batch_size)


@pytest.mark.long
@pytest.mark.parametrize(("decoder", "encoder"), [("upernet", "tu-convnext_atto"), ("segformer", "mit_b0")])
def test_a_compiled_network_scores_as_the_plain_one(decoder: str, encoder: str):
    torch.manual_seed(4)
    network, inputs = randomise(UTT(**model_options(make_config(decoder, encoder)))).eval(), draw_inputs()
    del inputs["metadata"]
    with torch.inference_mode():
        plain, _ = network(**inputs)
        compile_unet(network)
        compiled, _ = network(**inputs)
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3)
