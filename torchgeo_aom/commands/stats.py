"""Options of ``torchgeo-aom stats``."""

from __future__ import annotations

import argparse

from ..command import add_sensors_option
from .choices import STATISTICS_LIMIT

__all__ = ('stats_parser',)


def stats_parser() -> argparse.ArgumentParser:
    """Options of statistics."""
    parser = argparse.ArgumentParser(
        'torchgeo-aom stats',
        description='Measure mean and standard deviation per band of folders of images.',
        epilog='example: torchgeo-aom stats chips/ --bands sentinel2:l2a --product l2a --nodata 0',
    )
    parser.add_argument('folder', nargs='+', metavar='FOLDER', help='folders or files')
    parser.add_argument('--sensor', metavar='NAME', help='sensor of the images, such as sentinel2')
    parser.add_argument(
        '--bands', nargs='+', metavar='SPEC',
        help='bands in file order, or by the names that files give (default: all of --sensor)',
    )  # fmt: skip
    parser.add_argument(
        '--product', metavar='NAME',
        help="how values are stored, such as l2a; 'file': as each file says",
    )  # fmt: skip
    parser.add_argument('--unit', help='instead of --product: reflectance or uint8')
    parser.add_argument(
        '--nodata', type=_nodata, metavar='VALUE',
        help="stored value that means no data, or 'none' (default: that of the product)",
    )  # fmt: skip
    parser.add_argument(
        '--pattern', default='*', metavar='GLOB', help='which files (default: all images)'
    )
    parser.add_argument(
        '--limit',
        type=int,
        default=STATISTICS_LIMIT,
        metavar='N',
        help='read at most this many images; 0: all (default: %(default)s)',
    )
    parser.add_argument(
        '--bad-limit', type=float, default=0.01, metavar='SHARE',
        help='share of unreadable files allowed, 0 to 1 (default: %(default)s)',
    )  # fmt: skip
    add_sensors_option(parser)
    parser.add_argument(
        '--cache', metavar='DIR', help="folder that keeps the result (default: in the user's cache)"
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser


def _nodata(text: str) -> float | str:
    """A number, or 'none' for no such value."""
    return text if text == 'none' else float(text)
