"""Options of ``torchgeo-aom probe``, also with ``--loading``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import add_speed_option
from .choices import METHODS, READOUT_PRECISIONS, READOUTS

__all__ = ('loading_parser', 'probe_parser')

PROG = 'torchgeo-aom probe'
EPILOG = f"""\
methods: {', '.join(METHODS)}; weights are added by --weights
probes: linear (logistic regression, strength chosen on validation), knn5, knn20 ... (cosine)

examples:
  torchgeo-aom probe --folds 5 --bands 13=sentinel2:eurosat --bands RGB=sentinel2:rgb --patch-size 8
  torchgeo-aom probe --dataset UCMerced --root data --model aom_vitb --weights encoder.safetensors
  torchgeo-aom probe --dataset RasterFolder --root photos --dataset-arg sensor=rgb \\
      --dataset-arg unit=uint8 --folds 5
  torchgeo-aom probe --config examples/downstream/eurosat_probe.yaml --root data
  torchgeo-aom probe --loading --help    (what loading costs next to the encoder)
"""


def probe_parser() -> argparse.ArgumentParser:
    """Options of probes; one that is not given has no value."""
    parser = argparse.ArgumentParser(
        PROG, epilog=EPILOG,
        description='Linear probe and nearest neighbors on frozen features, beside baselines.',
        formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    add = parser.add_argument
    add('--config', type=Path, metavar='FILE', help='YAML with these options; flags come after it')
    add('--dataset', help='name in torchgeo_aom.datasets, import path, or EuroSAT200 (default)')
    add('--root', help='folder of the data')
    add(
        '--dataset-arg', action='append', metavar='KEY=VALUE',
        help='another argument of the data set; may be repeated',
    )  # fmt: skip
    add(
        '--bands', action='append', metavar='[NAME=]SPEC',
        help='a set of bands, several specs with commas; may be repeated (default: all bands)',
    )  # fmt: skip
    add('--model', help='model name (default: aom_vitt)')
    add('--weights', nargs='+', metavar='FILE|NAME', help="trained weights to probe, or 'default'")
    add(
        '--methods', nargs='*', metavar='METHOD',
        help=f'baselines, some of {" ".join(METHODS)} (default: statistics rcf random)',
    )  # fmt: skip
    add(
        '--probes', nargs='+', metavar='PROBE',
        help="'linear', or 'knnN' for N nearest neighbors (default: linear knn5 knn20)",
    )  # fmt: skip
    add('--patch-size', metavar='PX', help="patch size in px, or 'auto' (default)")
    add('--size', type=int, metavar='PX', help='resize images to this height and width')
    add('--gsd-m', type=float, metavar='M', help='ground sampling distance, for patch size auto')
    add(
        '--readout', choices=READOUTS,
        help='feature of an image: mean of the last tokens (default), or pyramid: mean, deviation '
        'and maximum over places of four blocks',
    )  # fmt: skip
    add(
        '--precision',
        choices=('auto', *READOUT_PRECISIONS),
        help='number format of the products of the model; auto (default): bfloat16 where the '
        'hardware has it',
    )
    add_speed_option(parser.add_argument)
    add(
        '--folds', type=int, metavar='N',
        help='cut everything into folds of whole groups (default: 0, splits)',
    )  # fmt: skip
    add(
        '--splits', nargs='+', metavar='NAME',
        help='splits of the data set to take (default: train val test)',
    )  # fmt: skip
    add('--seeds', type=int, metavar='N', help='number of seeds (default: 3)')
    add(
        '--normalization', help='catalogue (default), measured, or statistics such as sentinel2:l2a'
    )
    add(
        '--rcf-features', type=int, metavar='N', help='random convolutional features (default: 512)'
    )
    add('--every', type=int, metavar='N', help='take only every n-th sample')
    add('--batch-size', type=int, metavar='N', help='images a batch (default: 32)')
    add('--num-workers', type=int, metavar='N', help='processes that load (default: 0, a thread)')
    add('--device', help='device that computes: cpu (default), cuda')
    add('--cache-dir', metavar='DIR', help="folder of features (default: in the user's cache)")
    add('--no-cache', dest='cache', action='store_false', help='keep no features')
    add('--refit', action='store_true', help='fit again on training and validation samples')
    add('--ignore-groups', action='store_true', help='take splits although they tear groups apart')
    add('--strict', action='store_true', help='stop if an image is both trained and tested on')
    add(
        '--output', type=Path, default=Path('output/probe'), metavar='DIR',
        help='folder of results.json and probe.png (default: %(default)s)',
    )  # fmt: skip
    add(
        '--json', action='store_true', default=False, help='print results.json instead of the table'
    )
    return parser


def loading_parser() -> argparse.ArgumentParser:
    """Options of what loading costs."""
    parser = argparse.ArgumentParser(
        'torchgeo-aom probe --loading',
        description='What loading and transforms cost next to the bare encoder.',
        epilog='example: torchgeo-aom probe --loading --every 2 --rounds 7',
    )
    add, default = parser.add_argument, '(default: %(default)s)'
    add('--dataset', default='EuroSAT200', help=f'class in torchgeo_aom.datasets {default}')
    add('--root', metavar='DIR', help='folder of the data')
    add('--model', default='aom_vitt', help=f'model name {default}')
    add('--patch-size', type=int, default=16, metavar='PX', help=f'patch size {default}')
    add('--batch-size', type=int, default=32, metavar='N', help=f'images a batch {default}')
    add(
        '--num-workers', type=int, default=0, metavar='N',
        help=f'processes that load; 0 is a thread {default}',
    )  # fmt: skip
    add('--every', type=int, default=4, metavar='N', help=f'take only every n-th image {default}')
    add('--rounds', type=int, default=5, metavar='N', help=f'alternating measurements {default}')
    add('--device', default='cpu', help=f'device that computes: cpu, cuda {default}')
    return parser
