"""Options of ``torchgeo-aom demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import add_speed_option

__all__ = ('demo_parser',)


def demo_parser() -> argparse.ArgumentParser:
    """Options of the demo."""
    parser = argparse.ArgumentParser(
        'torchgeo-aom demo',
        description='Run the main job on the images that ship with the package: linear probes and '
        'a segmentation with several sets of bands, beside baselines.',
        epilog='example: torchgeo-aom demo --quick --output output/quick',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=Path('output/demo'),
        metavar='DIR',
        help='folder of demo.png and of the scores (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of weights and training (default: %(default)s)'
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few chips and steps: tests that it runs, no more'
    )
    add_speed_option(parser.add_argument)
    return parser
