"""Scenes: from a raster of any sensor and size to a map or an embedding, with bounded memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .complete import complete_scene
    from .embed import embed_scene
    from .layers import Scene
    from .open import open_scene
    from .options import RunOptions
    from .predict import predict_scene
    from .run import SceneResult
    from .similar import similar_places

__all__ = (
    'RunOptions',
    'Scene',
    'SceneResult',
    'complete_scene',
    'embed_scene',
    'open_scene',
    'predict_scene',
    'similar_places',
)

# Where each is: imported when it is asked for (PEP 562), so that the command's help needs no torch.
_LAZY = {
    'RunOptions': 'options',
    'Scene': 'layers',
    'SceneResult': 'run',
    'complete_scene': 'complete',
    'embed_scene': 'embed',
    'open_scene': 'open',
    'predict_scene': 'predict',
    'similar_places': 'similar',
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_LAZY[name]}'), name)
