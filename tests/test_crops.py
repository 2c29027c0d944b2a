"""Random crops: the same pixels for image and mask, the same crops for the same seed."""

import pytest
import torch
from torch.utils.data import DataLoader

from torchgeo_aom.data.crops import RandomCrops
from torchgeo_aom.errors import SizeError

PLACES = [
    {'image': torch.arange(2 * 9 * 7).reshape(2, 9, 7) + 1000 * k, 'mask': torch.zeros(9, 7) + k}
    for k in range(3)
]
for place in PLACES:
    place['mask'] = place['image'][0].clone()


def test_image_and_mask_stay_together() -> None:
    crops = RandomCrops(PLACES, 4, 40)
    assert len(crops) == 40
    for crop in crops:
        assert crop['image'].shape == (2, 4, 4)
        assert torch.equal(crop['image'][0], crop['mask'])
        assert torch.equal(crop['image'][1], crop['mask'] + 63)
    places = {int(crop['mask'][0, 0]) // 1000 for crop in crops}
    assert places == {0, 1, 2}
    across = {int(crop['mask'][0, 1] - crop['mask'][0, 0]) for crop in crops}
    down = {int(crop['mask'][1, 0] - crop['mask'][0, 0]) for crop in crops}
    assert (across, down) == ({1, -1}, {7, -7})  # flipped and not


def test_follow_from_the_seed() -> None:
    crops = RandomCrops(PLACES, 4, 12, seed=1)
    backwards = [crops[k]['mask'] for k in reversed(range(12))][::-1]
    loaded = torch.cat([b['mask'] for b in DataLoader(RandomCrops(PLACES, 4, 12, 1), 5)])
    assert torch.equal(torch.stack(backwards), loaded)
    assert not torch.equal(loaded[0], RandomCrops(PLACES, 4, 12, seed=2)[0]['mask'])


def test_refused() -> None:
    with pytest.raises(SizeError, match='8 px do not fit an image of 9 x 7'):
        RandomCrops(PLACES, 8, 1)
    with pytest.raises(IndexError):
        RandomCrops(PLACES, 4, 12)[12]
