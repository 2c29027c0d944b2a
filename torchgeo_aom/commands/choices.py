"""What options of commands may be, as plain values; the work itself takes them from here."""

from __future__ import annotations

from ..models.names import SIZES

__all__ = (
    'CASES',
    'CLOCKS',
    'FLOOR',
    'IMPORTANCE',
    'KEPT_PRECISIONS',
    'METHODS',
    'OBJECTIVES',
    'PAPER',
    'PEERS',
    'READOUTS',
    'READOUT_PRECISIONS',
    'SPEEDS',
    'STATISTICS_LIMIT',
    'STUDY_MODELS',
)

#: what a probe compares with
METHODS = ('statistics', 'rcf', 'rcf-empirical', 'random')
#: what a feature of an image is made of
READOUTS = ('mean', 'pyramid')
# Features in float16 were never compared with those in float32.
READOUT_PRECISIONS = ('float32', 'bfloat16')
#: images that are read at most for statistics
STATISTICS_LIMIT = 10_000
#: what times of pretraining are measured with
CLOCKS = ('wall', 'cpu')
#: corpora and assumed speeds in TFLOP/s of a pretraining run like that of the paper
PAPER = ('sentinel2@264=1004000', 'landsat8:all@256=146000', 'rgb@256=108000')
SPEEDS = (50.0, 100.0, 200.0, 400.0)
KEPT_PRECISIONS = ('float32', 'bfloat16')

# Studies
FLOOR = ('statistics', 'rcf')
PEERS = (
    'dofa_small_patch16_224',
    'dofa_base_patch16_224',
    'dofa_large_patch16_224',
    'panopticon_vitb14',
    'croma_base',
    'croma_large',
    'copernicusfm_base',
    'scalemae_large_patch16',
    'resnet50',
    'vit_small_patch16_224',
    'vit_base_patch16_224',
)
STUDY_MODELS = (*FLOOR, *SIZES, *PEERS)
IMPORTANCE = ('loo', 'forward', 'backward', 'shapley')
CASES = ('landsat-like', 'levels', 'hls')
OBJECTIVES = ('MSE', 'MSE + InfoNCE, as printed', 'MSE + InfoNCE, batch negatives')
STUDY_SPEEDS = ('exact', 'balanced', 'fast', '0:6', '0:6,1:4', '1:4', '0:4,6:2', '4:1', '1:1')
