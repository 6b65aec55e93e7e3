"""The moving average of weights and batch-norm statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from flair_baseline.training.averaging import make_average

DECAY = 0.4


def test_the_average_is_the_stated_sum_of_all_steps():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = make_average(model, DECAY)
    generator = torch.Generator().manual_seed(0)
    expected: dict[str, np.ndarray] = {}
    for step in range(6):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
                else:
                    tensor += 3
        average.update_parameters(model)
        decay = min(DECAY, (1 + step) / (10 + step))  # 2/11, 3/12, 4/13, 5/14 and then 0.4
        for name, tensor in model.state_dict().items():
            value = tensor.double().numpy().copy()
            if step > 0 and tensor.is_floating_point():
                value = decay * expected[name] + (1 - decay) * value
            expected[name] = value
    found = average.module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].numpy() == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert found["1.num_batches_tracked"] == 18


def test_what_does_not_change_stays_bit_for_bit():
    model = nn.Linear(4, 4)
    average = make_average(model, 0.999)
    for _ in range(50):
        average.update_parameters(model)
    assert torch.equal(average.module.weight, model.weight)
