import datetime
import math

import pytest
import torch
from torch import nn

from flair_baseline.model.metadata import SIZE, DeepestStage, EveryStage, encode_metadata

PATCH = {
    "date": "2018-03-31",
    "time": "18h00",
    "patch_centroid_x": 650_000.0,
    "patch_centroid_y": 6_650_000.0,
    "patch_centroid_z": 150,
    "camera": "CAMERA#020",
}
# numbers that say the same thing, in the order of the vector
PARTS = {
    "patch_centroid_x": range(16),
    "patch_centroid_y": range(16, 32),
    "patch_centroid_z": [32],
    "camera": [33, 34],
    "date": range(35, 43),
    "time": [43, 44],
}


def test_every_part_has_its_own_numbers():
    code = encode_metadata(PATCH)
    assert (code.shape, code.dtype) == ((45,), torch.float32)
    assert sorted(index for part in PARTS.values() for index in part) == list(range(SIZE))
    for wave in range(8):
        for first, metres in ((0, 650_000), (16, 6_650_000)):
            angle = metres / 1e8 / 1e8 ** (wave / 8)
            expected = [math.sin(angle), math.cos(angle)]
            assert code[first + 2 * wave :][:2].tolist() == pytest.approx(expected, abs=1e-6)
    assert float(code[32]) == pytest.approx(150 / 3164.91, rel=1e-5)
    assert code[33:35].tolist() == [0, 1]
    assert code[35:39].tolist() == [1, 0, 0, 0]
    assert code[39:41].tolist() == pytest.approx([0.5 + math.sin(math.pi / 3) / 2, 0.75])  # a sixth of a turn
    assert code[41:43].tolist() == pytest.approx([0.5, 1], abs=1e-6)  # the 31st, a whole turn
    assert code[43:].tolist() == pytest.approx([0, 0.5], abs=1e-6)  # three quarters of a turn


@pytest.mark.parametrize("absent", PARTS)
@pytest.mark.parametrize("how", ["None", "no key"])
def test_what_is_absent_is_zero_and_nothing_else_changes(absent, how):
    patch = PATCH | {absent: None}
    if how == "no key":
        del patch[absent]
    code, whole = encode_metadata(patch), encode_metadata(PATCH)
    rest = [index for index in range(SIZE) if index not in PARTS[absent]]
    assert not code[list(PARTS[absent])].any()
    assert torch.equal(code[rest], whole[rest])
    assert whole[list(PARTS[absent])].any()


def test_every_month_and_year_has_a_code_of_its_own():
    days = [datetime.date(year, month, 1) for year in range(2018, 2022) for month in range(1, 13)]
    codes = torch.stack([encode_metadata(PATCH | {"date": day.isoformat()}) for day in days])
    distances = torch.cdist(codes, codes) + 9 * torch.eye(len(days))
    assert float(distances.min()) > 0.2
    assert not encode_metadata(PATCH | {"date": "2022-01-01"})[35:39].any()


def test_each_patch_gets_its_own_numbers_on_every_channel_of_every_stage():
    torch.manual_seed(0)
    layer = EveryStage([3, 5]).eval()
    stages = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    metadata = torch.rand(2, SIZE)
    assert all(map(torch.equal, layer(stages, metadata), stages))  # as initialised
    for output in layer.outputs:
        nn.init.normal_(output.weight)
    hidden = layer.mlp(metadata)
    for stage, changed, output in zip(stages, layer(stages, metadata), layer.outputs, strict=True):
        added = (changed - stage).detach()
        assert torch.allclose(added.amax((2, 3)), output(hidden), atol=1e-5)
        assert torch.allclose(added.amin((2, 3)), output(hidden), atol=1e-5)


def test_the_official_way_adds_to_rows_of_the_deepest_stage():
    torch.manual_seed(1)
    layer = DeepestStage(rows=4).eval()
    stages, metadata = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)], torch.rand(2, SIZE)
    before = metadata.clone()
    shallow, deepest = layer(stages, metadata)
    assert torch.equal(metadata, before)
    assert torch.equal(shallow, stages[0])
    added = (deepest - stages[1]).detach()
    for row in range(4):
        assert torch.allclose(added[:, :, row], added[:, :1, row, :1].expand(2, 5, 4), atol=1e-5)
    assert float((added[:, 0, 0, 0] - added[:, 0, 1, 0]).abs().max()) > 1e-3
    metadata[:, 39:41] = 7  # the month: the official code does not tell months apart
    assert torch.equal(layer(stages, metadata)[1], deepest)


def test_parameters():
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (EveryStage([64]), DeepestStage(16))]
    assert counts == [45 * 64 + 64 + 64 * 32 + 32 + 32 * 64 + 64, 5_552]
