import pytest
import torch
from torch import nn

from flair_baseline.model.fusion import Fusion, crop_centre
from flair_baseline.model.utt import UTT

OFFICIAL_TOTAL = (
    27_254_744  # the official U-T&T without metadata (facts of the challenge, 27.3 M in Table IV)
)
DEAD_CROPPED, DEAD_COLLAPSED = 325, 4_256  # its fusion of stage 0, which smp's decoder throws away
EXTRA_HEAD = 845  # its 1x1 head beside U-TAE's own one of 22,311; the paper crops U-TAE's own output


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def draw_inputs(batch: int = 1, dates: int = 3, size: int = 16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    aerial = torch.randint(0, 256, (batch, 5, 512, 512), dtype=torch.uint8, generator=generator)
    series = torch.rand(batch, dates, 10, size, size, generator=generator)
    days = torch.rand(batch, dates, generator=generator) * 365
    return aerial, series, days, torch.zeros(batch, dates, dtype=torch.bool)


def randomise(model: UTT) -> UTT:
    """As after training: the layers of the fusion that start at zero have moved."""
    for module in [*model.fusion.cropped, *(mlp[-1] for mlp in model.fusion.collapsed)]:
        nn.init.normal_(module.weight, std=0.02)
    return model


@pytest.fixture(scope="module")
def small() -> UTT:
    torch.manual_seed(5)
    return randomise(UTT("resnet18", decoder_channels=(32, 16, 16, 8, 8)))


def test_unet_has_the_papers_parameters():
    model = UTT(satellite=False)
    assert count(model) == count(model.unet) == 24_444_381


def test_utt_has_the_papers_parameters_less_the_dead_ones():
    model = UTT()
    assert count(model) == OFFICIAL_TOTAL - DEAD_CROPPED - DEAD_COLLAPSED - EXTRA_HEAD == 27_249_318
    assert count(model.utae) == 2_284_199
    assert count(model.fusion.cropped) == 66_885 - DEAD_CROPPED
    assert count(model.fusion.collapsed) == 458_434 - DEAD_COLLAPSED


def find_idle(model: UTT, **options: torch.Tensor | bool) -> list[str]:
    """Names of the parameters that get no gradient from a batch, then of those whose gradient is 0."""
    model.train()
    torch.manual_seed(8)
    logits, satellite_logits = model(*draw_inputs(batch=2), **options)
    (logits.square().mean() + satellite_logits.square().mean()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    assert None not in gradients.values()
    return [name for name, gradient in gradients.items() if not gradient.any()]


def test_every_parameter_learns(small):
    assert find_idle(small) == []


def test_every_parameter_learns_with_metadata():
    torch.manual_seed(9)
    model = randomise(UTT("resnet18", decoder_channels=(32, 16, 16, 8, 8), metadata=True))
    for output in model.metadata.outputs:
        nn.init.normal_(output.weight, std=0.02)
    assert find_idle(model, metadata=torch.rand(2, 45)) == []


def test_a_dropped_satellite_branch_tells_the_unet_nothing_and_keeps_its_gradients(small):
    idle = find_idle(small, drop_satellite=True)
    assert [name for name in idle if not name.startswith("fusion.")] == []
    assert len(idle) == len(list(small.fusion.parameters()))
    small.eval()
    inputs = draw_inputs()
    with torch.inference_mode():
        dropped = small(*inputs, drop_satellite=True)
        alone = small.unet.decode(small.unet.encode(inputs[0]))
        whole = small(*inputs)
    torch.testing.assert_close(dropped[0], alone)
    torch.testing.assert_close(dropped[1], whole[1])
    assert float((whole[0] - alone).abs().max()) > 1e-3


def test_both_branches_score_13_classes_on_their_own_grid(small):
    small.eval()
    with torch.inference_mode():
        logits, satellite_logits = small(*draw_inputs(dates=1, size=24))
    assert logits.shape == (1, 13, 512, 512)
    assert satellite_logits.shape == (1, 13, 10, 10)


def test_patches_of_a_batch_do_not_see_each_other(small):
    small.eval()
    aerial, series, days, padding_mask = draw_inputs(batch=2)
    padding_mask[1, 2:] = True
    with torch.inference_mode():
        together = small(aerial, series, days, padding_mask)[0][1:]
        alone = small(aerial[1:], series[1:, :2], days[1:, :2], padding_mask[1:, :2])[0]
    assert float((together - alone).abs().max() / alone.abs().max()) < 1e-5


def test_training_starts_from_the_unet_as_it_is():
    torch.manual_seed(6)
    model = UTT("resnet18").eval()
    aerial, *satellite = draw_inputs()
    with torch.inference_mode():
        torch.testing.assert_close(model(aerial, *satellite)[0], model.unet.decode(model.unet.encode(aerial)))


def test_fusion_adds_centre_and_mean_of_the_embedding_to_every_stage():
    torch.manual_seed(7)
    fusion = Fusion(64, [8, 64, 16]).eval()
    for module in [*fusion.cropped, *(mlp[-1] for mlp in fusion.collapsed)]:
        nn.init.normal_(module.weight)
    embedding = torch.randn(2, 64, 20, 20)
    stages = [torch.randn(2, channels, size, size) for channels, size in ((8, 40), (64, 20), (16, 10))]
    centre, mean = embedding[:, :, 5:15, 5:15], embedding.mean((2, 3))
    for stage, fused, conv, mlp in zip(
        stages, fusion(stages, embedding), fusion.cropped, fusion.collapsed, strict=True
    ):
        local = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], centre)
        local = nn.Upsample(stage.shape[-2:], mode="bilinear")(local)
        torch.testing.assert_close(fused, stage + local + mlp(mean)[:, :, None, None], rtol=1e-4, atol=1e-4)


def test_encoders_with_a_stage_without_channels_can_be_fused():
    model = UTT("mit_b0", decoder_channels=(32, 16, 16, 8, 8))
    assert len(model.fusion.cropped) == 4
    assert model(*draw_inputs())[0].shape == (1, 13, 512, 512)


def test_centre_is_cropped_symmetrically():
    maps = torch.arange(16.0).expand(1, 1, 16, 16)
    assert crop_centre(maps)[0, 0, 0].tolist() == list(range(3, 13))
