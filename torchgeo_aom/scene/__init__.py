"""Scenes: from a raster of any sensor and size to a map or an embedding, with bounded memory."""

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
