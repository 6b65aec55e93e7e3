"""What check_network says of sizes alone is what the real network does with pixels."""

from __future__ import annotations

import pytest
import torch

from flair_baseline.config import load_config, model_options
from flair_baseline.encoders import check_network
from flair_baseline.model.utt import UTT
from flair_scoring.base.errors import UsageError


@pytest.mark.parametrize(
    ("encoder", "batch_size", "pooling"),
    [
        *(("resnet18", 1, 4), ("resnet18", 1, 16), ("resnet18", 2, 16)),
        *(("tu-skresnet18", 1, 4), ("tu-skresnet18", 2, 4), ("tu-coat_tiny", 2, 4)),
    ],
)
def test_a_network_is_refused_exactly_where_it_cannot_learn(encoder: str, batch_size: int, pooling: int):
    config = load_config("unet", [f"encoder={encoder}", "encoder_weights=null", f"aerial_pooling={pooling}"])
    model = UTT(**model_options(config)).train()
    try:
        with torch.no_grad():
            model(torch.zeros(batch_size, 5, 512, 512, dtype=torch.uint8))
        learns = True
    except (AssertionError, ValueError):
        learns = False
    if learns:
        check_network(config, batch_size)
    else:
        size = 512 // pooling
        told = (
            f"cannot read images of {size} x {size} pixels|with 1 patch at once batch norm has a single value"
        )
        with pytest.raises(UsageError, match=told):
            check_network(config, batch_size)
