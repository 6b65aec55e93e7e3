import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock

from flair_baseline.model.aerial import AerialBranch
from flair_baseline.model.folding import fold_batch_norm
from flair_baseline.model.upsampling import DecoderBlock


def random_block(inputs: int, skip: int, outputs: int) -> UnetDecoderBlock:
    torch.manual_seed(inputs)
    block = UnetDecoderBlock(inputs, skip, outputs).double()
    for norm in (block.conv1[1], block.conv2[1]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return block


@pytest.mark.parametrize("skip", [None, 0, 3])
@pytest.mark.parametrize("training", [False, True])
def test_block_scores_and_learns_as_smps(skip, training):
    theirs = random_block(5, skip or 0, 4).train(training)
    ours = DecoderBlock(copy.deepcopy(theirs)).double()
    results = []
    for block in (theirs, ours):
        torch.manual_seed(1)
        deep = torch.randn(2, 5, 6, 8, dtype=torch.float64, requires_grad=True)
        joined = torch.randn(2, skip or 0, 12, 16, dtype=torch.float64, requires_grad=True)
        maps = block(deep, 12, 16, skip_connection=None if skip is None else joined)
        (maps * torch.randn_like(maps)).sum().backward()
        learned = {name: weight.grad for name, weight in block.named_parameters()}
        assert len(learned) == 6
        results.append((maps.detach(), deep.grad, joined.grad if skip else None, learned))
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def test_block_with_folded_norm_scores_the_same():
    theirs = random_block(4, 2, 3).eval()
    ours = DecoderBlock(copy.deepcopy(theirs)).double()
    deep, skip = (torch.randn(1, n, s, s, dtype=torch.float64) for n, s in ((4, 5), (2, 10)))
    with torch.inference_mode():
        expected = theirs(deep, 10, 10, skip_connection=skip)
        fold_batch_norm(ours)
        assert ours.conv1[0].bias is not None
        torch.testing.assert_close(ours(deep, 10, 10, skip_connection=skip), expected)


@pytest.mark.parametrize(
    "encoder", ["resnet34", "mit_b0", "vgg11_bn"]
)  # plain, an empty stage, a centre block
def test_unet_scores_as_smps_with_the_same_weights(encoder):
    channels, bands = (32, 16, 8, 8, 4), {"mit_b0": 3}.get(encoder, 5)
    options = {"encoder_weights": None, "decoder_channels": channels, "in_channels": bands, "classes": 13}
    torch.manual_seed(0)
    theirs = smp.Unet(encoder, **options).double().eval()
    ours = AerialBranch(encoder, None, channels, 1, 13, channels="RVBIE"[:bands]).double().eval()
    ours.load_state_dict(theirs.state_dict())
    aerial = torch.randint(0, 256, (1, 5, 128, 128), dtype=torch.uint8)
    with torch.inference_mode():
        features = ours.encode(aerial)
        expected = theirs.segmentation_head(theirs.decoder(features))
        torch.testing.assert_close(ours.decode(features), expected, rtol=1e-9, atol=1e-9)
