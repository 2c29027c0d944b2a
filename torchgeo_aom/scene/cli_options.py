"""Options of ``torchgeo-aom scene``, and its help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torchgeo_aom.command import add_sensors_option, add_speed_option

__all__ = ('EPILOG', 'add_verbs')

Run: TypeAlias = Callable[[argparse.Namespace], int]

EPILOG = """\
IN is a GeoTIFF with all bands, several files with one band each, a Sentinel-2 product (SAFE folder
or zip file), the folder of a Landsat Collection 2 product, or a STAC item with its files beside it.

examples:
  torchgeo-aom scene embed IN.tif OUT.tif --sensor landsat8 --product c2l2
  torchgeo-aom scene embed S2B_MSIL2A_20230101.SAFE OUT.tif --vectors OUT.parquet
  torchgeo-aom scene embed B02.tif B03.tif B04.tif OUT.tif --sensor sentinel2 --product l2a
  torchgeo-aom scene predict IN.tif MAP.tif --weights task.ckpt --bands naip --product uint8
  torchgeo-aom scene complete IN.tif OUT.tif --sensor sentinel2 --product l2a \\
      --weights pretrain.ckpt --missing sentinel2:B11
  torchgeo-aom scene similar OUT.parquet LIKE.parquet --at 500123 4650456

A run that was stopped goes on where it was when it is started again. Several processes share the
work with --devices 4, through Lightning; or with --shard 0/4 to 3/4 or under torchrun, where they
need not run at the same time, and the last one to finish writes the files.
"""


def add_verbs(verbs: Any, runs: Mapping[str, Run]) -> None:
    """Add the verbs of scenes to a parser.

    Args:
        verbs: what ``add_subparsers`` returned.
        runs: what each verb does: embed, predict, complete, similar.
    """
    _embed_options(verbs, runs['embed'])
    _predict_options(verbs, runs['predict'])
    _complete_options(verbs, runs['complete'])
    _similar_options(verbs, runs['similar'])


def _verb(verbs: Any, name: str, text: str, run: Run) -> argparse.ArgumentParser:
    examples = ''.join(re.findall(rf'^  torchgeo-aom scene {name} .*\n', EPILOG, re.MULTILINE))
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=f'examples:\n{examples}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _input_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what the scene is')
    group.add_argument(
        'scene',
        nargs='+',
        metavar='IN',
        help='the scene: a file, several files, or the folder of a product',
    )
    group.add_argument('output', metavar='OUT', help='file to write')
    group.add_argument(
        '--bands', nargs='+', metavar='SPEC',
        help='bands to use (default: all that the scene names); where a file names none, what its '
        'bands are, in their order',
    )  # fmt: skip
    group.add_argument(
        '--sensor', metavar='NAME', help='sensor of the bands that name none, such as landsat8'
    )
    add_sensors_option(group)
    group.add_argument(
        '--product', metavar='NAME',
        help='how values are stored: l2a, c2l2, uint8, reflectance ... (default: as products say)',
    )  # fmt: skip
    group.add_argument(
        '--mtl', metavar='FILE', help='metadata file (MTL) of a Landsat Level-1 scene'
    )
    group.add_argument(
        '--gsd', type=float, metavar='M',
        help='meters a pixel to read at (default: that of the finest band)',
    )  # fmt: skip
    group.add_argument(
        '--nodata', default='product',
        help="stored value without data, or 'none' (default: that of the product)",
    )  # fmt: skip
    group.add_argument(
        '--nodata-in', choices=('all', 'any'), default='all',
        help='a pixel has no data where no band has any, or where one has not (default: all)',
    )  # fmt: skip
    group.add_argument(
        '--statistics',
        metavar='NAME',
        help='mean and deviation of the catalogue by name, such as sentinel2:l2a',
    )
    group.add_argument(
        '--allow-drivers', nargs='+', default=['GTiff'], metavar='NAME',
        help='formats that may be opened (default: GTiff)',
    )  # fmt: skip
    group.add_argument(
        '--max-block-mib', type=int, default=256, metavar='MIB',
        help='largest block of a file (default: %(default)s)',
    )  # fmt: skip


def _run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('how to run')
    group.add_argument(
        '--chip', type=int, metavar='PX', help='side of a window in pixels (default: 256)'
    )
    group.add_argument(
        '--overlap',
        type=int,
        metavar='PX',
        help='pixels that windows share (default: a quarter of them)',
    )
    group.add_argument(
        '--batch', type=int, default=8, metavar='N', help='windows a batch (default: 8)'
    )
    group.add_argument(
        '--readers', type=int, default=2, metavar='N', help='threads that read (default: 2)'
    )
    group.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1 (default: %(default)s)')
    group.add_argument(
        '--precision',
        default='auto',
        metavar='DTYPE',
        help='float32, bfloat16, float16, or auto (default): bfloat16 where the hardware has it',
    )
    add_speed_option(group.add_argument)
    group.add_argument('--memory-mib', type=int, default=256, help=argparse.SUPPRESS)
    group.add_argument('--shard', metavar='I/N', help='compute only part I of N, counted from 0')
    group.add_argument(
        '--devices', type=int, default=1, metavar='N',
        help='processes of this machine, with --device cuda each on a GPU (default: %(default)s)',
    )  # fmt: skip
    group.add_argument('--nodes', type=int, default=1, metavar='N', help='machines (default: 1)')
    group.add_argument('--overwrite', action='store_true', help='replace files that exist')
    group.add_argument('--quicklook', metavar='PNG', help='picture of scene and result to write')
    group.add_argument('--json', action='store_true', help='print facts as JSON')


def _mean_options(parser: Any) -> None:
    for name, text in (('mean', 'mean'), ('std', 'standard deviation')):
        parser.add_argument(
            f'--{name}', nargs='+', type=float, metavar='X',
            help=f'{text} of each band in reflectance, instead of --statistics',
        )  # fmt: skip


def _agree_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--agree', metavar='TIF', help='also write how far several patch sizes agree'
    )
    parser.add_argument(
        '--agree-sizes',
        nargs='+',
        type=int,
        default=[16, 32],
        metavar='PX',
        help='patch sizes that --agree compares (default: 16 32)',
    )


def _embed_options(verbs: Any, run: Run) -> None:
    parser = _verb(verbs, 'embed', 'write embeddings of a scene, one for each patch', run)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument(
        '--weights',
        metavar='FILE|NAME',
        help="a file, a name, or 'random' (default: the trained ones of the model)",
    )
    group.add_argument('--model', default='aom_vitt', help='model (default: %(default)s)')
    group.add_argument(
        '--patch',
        default='auto',
        metavar='PX',
        help="patch size in pixels (default: 'auto', by the resolution)",
    )
    group.add_argument(
        '--dtype',
        default='float16',
        help='values of OUT: float16, float32 or int8 (default: %(default)s)',
    )
    group.add_argument(
        '--components',
        type=int,
        metavar='K',
        help='write K main components instead of all features',
    )
    group.add_argument(
        '--position', choices=('remove', 'keep'), default='remove',
        help='what says only where in its window a patch lies (default: %(default)s)',
    )  # fmt: skip
    group.add_argument('--vectors', metavar='PARQUET', help='also write a vector for each window')
    _mean_options(group)
    _agree_options(parser)
    _run_options(parser)


def _predict_options(verbs: Any, run: Run) -> None:
    parser = _verb(verbs, 'predict', 'write the map that a trained task makes', run)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument(
        '--weights', required=True, metavar='CKPT', help='checkpoint of a dense task'
    )
    group.add_argument(
        '--patch', type=int, metavar='PX', help='patch size in pixels (default: that of the task)'
    )
    group.add_argument(
        '--missing', choices=('refuse', 'use'), default='refuse',
        help='what to do where the scene lacks bands of the task (default: %(default)s)',
    )  # fmt: skip
    group.add_argument(
        '--classes',
        nargs='+',
        default=[],
        metavar='NAME',
        help='names of the classes, kept in the file (default: numbers)',
    )
    group.add_argument('--probabilities', metavar='TIF', help='also write the probabilities')
    _mean_options(group)
    _agree_options(parser)
    _run_options(parser)


def _complete_options(verbs: Any, run: Run) -> None:
    parser = _verb(verbs, 'complete', 'predict bands that a scene lacks', run)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument('--weights', required=True, metavar='CKPT', help='checkpoint of pretraining')
    group.add_argument('--missing', nargs='+', required=True, metavar='SPEC', help='bands wanted')
    group.add_argument(
        '--patch',
        type=int,
        metavar='PX',
        help='patch size in pixels (default: the smallest that was trained)',
    )
    _run_options(parser)


def _similar_options(verbs: Any, run: Run) -> None:
    parser = _verb(verbs, 'similar', 'find the windows most like a place', run)
    parser.add_argument('vectors', nargs='+', metavar='IN', help='files of scene embed --vectors')
    parser.add_argument('output', metavar='OUT', help='GeoParquet file to write')
    parser.add_argument(
        '--at', nargs=2, type=float, required=True, metavar=('X', 'Y'),
        help='the place, in the coordinates of the first file',
    )  # fmt: skip
    parser.add_argument(
        '--lonlat', action='store_true', help='X and Y are longitude and latitude in degrees'
    )
    parser.add_argument(
        '--count', type=int, default=20, metavar='N', help='windows to find (default: 20)'
    )
    parser.add_argument(
        '--no-center', action='store_true', help='compare vectors as they are, mean included'
    )
    parser.add_argument('--figure', metavar='PNG', help='picture of the result to write')
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    parser.add_argument('--json', action='store_true', help='print facts as JSON')
