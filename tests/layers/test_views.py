"""Views of pretraining: keyed, of the right share, turned; missing pixels stay missing."""

from __future__ import annotations

import torch

from torchgeo_aom.layers.views import random_views

HEIGHT, WIDTH = 48, 64


def ramp(count: int = 1) -> torch.Tensor:
    """Images whose two channels are row and column."""
    rows, columns = torch.meshgrid(
        torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing='ij'
    )
    return torch.stack((rows, columns)).expand(count, -1, -1, -1)


def test_a_view_depends_on_its_key_alone() -> None:
    images = torch.randn(3, 2, HEIGHT, WIDTH)
    keys = [7, 11, 5]
    views, valid = random_views(images, None, keys, 0, 3, 16, 32, (0.2, 1.0))
    assert valid is None
    assert views.shape == (3, 2, 32, 32)
    turned, _ = random_views(images.flip(0), None, keys[::-1], 0, 3, 16, 32, (0.2, 1.0))
    assert torch.equal(turned.flip(0), views)
    for other in ((1, 3, 16), (0, 4, 16), (0, 3, 24)):
        assert not torch.equal(random_views(images, None, keys, *other, 32, (0.2, 1.0))[0], views)


def test_share_of_the_area_and_all_eight_orientations() -> None:
    keys = list(range(400))
    views, _ = random_views(ramp(400), None, keys, 0, 0, 16, 24, (0.25, 0.75))
    rows, columns = views.unbind(1)
    # The ramps say how much of the image a view shows, in either orientation.
    height = rows.flatten(1).amax(1) - rows.flatten(1).amin(1)
    width = columns.flatten(1).amax(1) - columns.flatten(1).amin(1)
    share = height * width / (HEIGHT * WIDTH)
    assert share.min() > 0.2
    assert share.max() < 0.8
    assert 0.4 < share.mean() < 0.5  # half a pixel is lost at each border
    slopes = torch.stack(
        [
            difference.mean(1)
            for ramp in (rows, columns)
            for difference in (ramp[:, -1] - ramp[:, 0], ramp[:, :, -1] - ramp[:, :, 0])
        ],
        1,
    )
    seen = {tuple(row) for row in (slopes / 5).round().clamp(-1, 1).int().tolist()}
    assert len(seen) == 8


def test_missing_pixels_stay_missing() -> None:
    images = torch.ones(2, 1, HEIGHT, WIDTH)
    valid = torch.ones(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[0, :, :, : WIDTH // 2] = False
    views, mask = random_views(images, valid, [1, 2], 0, 0, 16, 32, (1.0, 1.0))
    assert mask is not None
    assert mask[1].all()
    assert 0.3 < mask[0].float().mean() < 0.5
    assert torch.equal(views.bool(), mask)
    torch.testing.assert_close(views[1], torch.ones(1, 32, 32))


def test_the_whole_image_is_the_image() -> None:
    image = torch.randn(1, 3, 32, 32)
    view, _ = random_views(image, None, [3], 0, 0, 16, 32, (1.0, 1.0))
    turns = [
        torch.rot90(flipped, k, (2, 3)) for flipped in (image, image.flip(-1)) for k in range(4)
    ]
    assert any(torch.allclose(view, turned, atol=1e-6) for turned in turns)
