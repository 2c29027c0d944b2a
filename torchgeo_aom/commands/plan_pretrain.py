"""Options of ``torchgeo-aom plan --pretrain``."""

from __future__ import annotations

import argparse

from ..models.names import SIZES
from .choices import KEPT_PRECISIONS, PAPER, SPEEDS

__all__ = ('plan_pretrain_parser',)


def plan_pretrain_parser() -> argparse.ArgumentParser:
    """Options of the cost of a pretraining run; the defaults are the run of the paper."""
    parser = argparse.ArgumentParser(
        prog='torchgeo-aom plan --pretrain',
        description='Say what a pretraining run will cost: operations, memory, GPU hours, files a '
        'second. The defaults are the run of the paper.',
        epilog='example: torchgeo-aom plan --pretrain --model aom_vits --corpus '
        'sentinel2@264=250000 rgb@256=10000 --devices 8 --speeds 120',
    )
    add = parser.add_argument
    add(
        '--model',
        default='aom_vitb',
        choices=tuple(SIZES),
        help='model name (default: %(default)s)',
    )
    add(
        '--patch-sizes', nargs='+', type=int, default=[16, 24, 32, 48, 64], metavar='PX',
        help='patch sizes of the pretraining (default: 16 24 32 48 64)',
    )  # fmt: skip
    add('--scales-per-step', type=int, metavar='N', help='patch sizes a step (default: all)')
    add(
        '--memory', choices=('all', 'scale'), default='scale',
        help='keep activations of all patch sizes, or of one at a time and compute twice '
        '(default: %(default)s)',
    )  # fmt: skip
    add(
        '--grad-checkpointing', action='store_true',
        help='keep the activations of one block at a time, too, and compute twice',
    )  # fmt: skip
    add(
        '--precision', choices=KEPT_PRECISIONS, default='bfloat16',
        help='number format of activations (default: %(default)s)',
    )  # fmt: skip
    add(
        '--corpus', nargs='+', default=list(PAPER), metavar='BANDS@SIZE=IMAGES',
        help=f'what is trained on (default: {" ".join(PAPER)})',
    )  # fmt: skip
    add(
        '--epochs', type=int, default=220, metavar='N',
        help='passes over all images (default: %(default)s)',
    )  # fmt: skip
    add(
        '--batch', type=int, default=1024, metavar='N',
        help='images a step, over all devices (default: %(default)s)',
    )  # fmt: skip
    add('--devices', type=int, default=64, metavar='N', help='GPUs (default: %(default)s)')
    add(
        '--speeds', nargs='+', type=float, default=list(SPEEDS), metavar='TFLOP/s',
        help='sustained speeds of one device to assume (default: '
        f'{" ".join(f"{speed:g}" for speed in SPEEDS)})',
    )  # fmt: skip
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser
