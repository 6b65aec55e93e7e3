import segmentation_models_pytorch as smp
import torch
from torch import nn

from flair_baseline.model.folding import fold_batch_norm
from flair_baseline.model.utt import UTT


def randomise(model: nn.Module) -> nn.Module:
    """Running statistics, scales and shifts as after training; no layer at zero."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model.eval()


def count_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


def test_folded_network_scores_as_the_unfolded_one():
    torch.manual_seed(0)
    network = randomise(UTT(metadata=True))
    inputs = {
        "aerial": torch.randint(0, 256, (2, 5, 512, 512), dtype=torch.uint8),
        "series": torch.rand(2, 4, 10, 16, 16),
        "days": 365 * torch.rand(2, 4),
        "metadata": torch.rand(2, 45),
    }
    with torch.inference_mode():
        plain = network(**inputs)
        assert count_norms(network) > 60
        fold_batch_norm(network)
        network.to(memory_format=torch.channels_last)
        folded = network(**inputs)
    assert count_norms(network) == 0
    for before, after in zip(plain, folded, strict=True):
        assert float((after - before).abs().max() / before.abs().max()) < 1e-4
    second, first = plain[0].topk(2, dim=1).values.flip(1).unbind(1)
    clear = first - second > 2e-4 * plain[0].abs().max()
    assert float(clear.float().mean()) > 0.9
    assert torch.equal(plain[0].argmax(1)[clear], folded[0].argmax(1)[clear])


def test_norms_that_do_not_follow_their_layer_stay():
    """A ResNet of the pre-activation kind names its layers as others do and applies them in another order."""

    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.tail = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.tail(self.conv1(torch.relu(self.bn1(pixels))))

    torch.manual_seed(1)
    model, pixels = randomise(PreActivation()), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = model(pixels)
        fold_batch_norm(model)
        assert count_norms(model) == 2
        torch.testing.assert_close(model(pixels), expected)


def test_encoders_of_timm_keep_what_they_do():
    torch.manual_seed(2)
    model = randomise(smp.Unet("tu-mobilenetv3_small_050", encoder_weights=None, in_channels=5))
    pixels = torch.randn(1, 5, 64, 64)
    with torch.inference_mode():
        expected = model(pixels)
        fold_batch_norm(model)
        torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-4)
    assert count_norms(model.decoder) == 0
