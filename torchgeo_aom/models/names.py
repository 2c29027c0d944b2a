"""Names of the models and their sizes, which need no torch."""

from __future__ import annotations

from ..bands import preset_tags
from ..errors import ConfigError, suggest

__all__ = ('SIZES', 'check_name')

SIZES: dict[str, dict[str, int]] = {
    'aom_vitt': {'embed_dim': 192, 'depth': 12, 'num_heads': 3},
    'aom_vits': {'embed_dim': 384, 'depth': 12, 'num_heads': 6},
    'aom_vitb': {'embed_dim': 768, 'depth': 12, 'num_heads': 12},
    'aom_vitl': {'embed_dim': 1024, 'depth': 24, 'num_heads': 16},
}


def check_name(name: str) -> str:
    """Return a model name with or without a tag if it is ours.

    Args:
        name: such as ``'aom_vitb'`` or ``'aom_vitb.sentinel2_rgb'``.

    Returns:
        The name.

    Raises:
        ConfigError: if there is no such model or tag, with the closest one.
    """
    model, _, tag = name.partition('.')
    if model not in SIZES:
        raise ConfigError(
            f'{name!r} is not an AOM model{suggest(model, SIZES)}. Known: '
            f'{", ".join(SIZES)}, each also with a band preset as tag, e.g. aom_vitb.sentinel2_rgb.'
        )
    if tag and tag not in preset_tags():
        raise ConfigError(
            f'{tag!r} is not a band preset{suggest(tag, preset_tags())}. Known: '
            f'{", ".join(preset_tags())}. Other bands: bands= of timm.create_model or of '
            'torchgeo_aom.tasks.'
        )
    return name
