"""Options of ``torchgeo-aom bench``, also with ``--pretrain``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..models.names import SIZES
from .choices import CLOCKS

__all__ = ('bench_parser', 'pretrain_parser')

BENCH = """\
Speed beside other models, in one run on the machine at hand; only the ratios mean something.

Every round runs all models once, one after the other, and ratios are taken within a round: a
machine that slows down slows all of them. Equal token counts are compared with a bare timm trunk;
other models read the same image in their own way, so their token counts differ and are shown.
"""
PRETRAIN = """\
Speed of pretraining, in one run: the step, the plain way, the machine's peak, the data loader.

The plain way runs the encoder over all tokens, masked ones too, at each patch size; decoders,
losses and optimizer are the same. Every round times all parts once, one after the other, and ratios
are taken within a round. On a machine that does other work too, --clock cpu --threads 1 counts the
processor's time instead of the wall's.
"""
EPILOG = """\
examples:
  torchgeo-aom bench
  torchgeo-aom bench --model aom_vitt --bands rgb --batch 8 --threads 1
  torchgeo-aom bench --growth 3 13 50 200 --size 64
  torchgeo-aom bench --pretrain --help      (speed of pretraining)
"""


def bench_parser() -> argparse.ArgumentParser:
    """Options of speed beside other models."""
    parser = argparse.ArgumentParser(
        prog='torchgeo-aom bench',
        description=BENCH,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    given = '(default: %(default)s)'
    add('--model', default='aom_vitb', choices=tuple(SIZES), help=f'model {given}')
    add('--bands', default='sentinel2', metavar='SPEC', help=f'preset or band {given}')
    add('--size', type=int, default=224, metavar='PX', help=f'image height and width {given}')
    add('--patch', type=int, default=16, metavar='PX', help=f'patch size {given}')
    add('--batch', type=int, default=1, metavar='N', help=f'images a batch {given}')
    add('--runs', type=int, default=5, metavar='N', help=f'rounds counted {given}')
    add('--device', default='cpu', choices=('cpu', 'cuda'), help=f'where to run {given}')
    add('--threads', type=int, metavar='N', help="CPU threads (default: PyTorch's choice)")
    add('--no-peers', action='store_true', help='leave out DOFA and Panopticon')
    add('--channelvit', type=Path, metavar='DIR', help='a checkout of ChannelViT, to time it too')
    add(
        '--growth', nargs='+', type=int, metavar='BANDS',
        help='time by number of bands instead, in each speed mode: --growth 3 13 50 200',
    )  # fmt: skip
    add('--json', action='store_true', help='print JSON')
    return parser


def pretrain_parser() -> argparse.ArgumentParser:
    """Options of speed of pretraining."""
    parser = argparse.ArgumentParser(
        prog='torchgeo-aom bench --pretrain',
        description=PRETRAIN,
        epilog='example, on a GPU: torchgeo-aom bench --pretrain --device cuda --model aom_vitb '
        '--random sentinel2 264 --batch 16',
    )
    add = parser.add_argument
    given = '(default: %(default)s)'
    add('--model', default='aom_vitt', choices=tuple(SIZES), help=f'model {given}')
    add(
        '--patch-sizes', nargs='+', type=int, default=[16, 24, 32, 48, 64], metavar='PX',
        help='patch sizes of a step (default: 16 24 32 48 64)',
    )  # fmt: skip
    add(
        '--memory', choices=('all', 'scale'), default='all',
        help=f'keep activations of all patch sizes, or of one at a time {given}',
    )  # fmt: skip
    add('--compile', action='store_true', help='compile the blocks')
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        '--sources', type=Path, metavar='FILE',
        help='YAML list of sources, as in a training configuration; default: shipped images',
    )  # fmt: skip
    images.add_argument(
        '--random', nargs=2, metavar=('BANDS', 'PX'), help='random pixels, no data loader'
    )
    add('--batch', type=int, metavar='N', help='images a step (default: by their size)')
    add('--runs', type=int, default=3, metavar='N', help=f'rounds counted {given}')
    add('--device', default='cpu', choices=('cpu', 'cuda'), help=f'where to run {given}')
    add('--threads', type=int, metavar='N', help="CPU threads (default: PyTorch's choice)")
    add(
        '--clock', default='wall', choices=CLOCKS,
        help=f"the wall's time, or the processor's {given}",
    )  # fmt: skip
    add(
        '--workers', type=int, default=0, metavar='N',
        help=f'processes of the data loader; 0: none of its own {given}',
    )  # fmt: skip
    add('--json', action='store_true', help='print JSON')
    return parser
