"""The command ``torchgeo-aom scene``: embeddings, maps, searches and completed bands of scenes."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from torchgeo_aom.errors import AOMWarning, ConfigError

__all__ = ('main',)

PROG = 'torchgeo-aom scene'
EPILOG = """\
IN is a GeoTIFF with all bands, several files with one band each, a Sentinel-2 product (SAFE folder
or zip file), the folder of a Landsat Collection 2 product, or a STAC item with its files beside it.

examples:
  torchgeo-aom scene embed IN.tif OUT.tif --sensor landsat8 --product c2l2
  torchgeo-aom scene embed S2B_MSIL2A_20230101.SAFE OUT.tif --vectors OUT.parquet
  torchgeo-aom scene embed B02.tif B03.tif B04.tif OUT.tif --sensor sentinel2 --product l2a
  torchgeo-aom scene predict IN.tif MAP.tif --weights task.ckpt --bands naip --product uint8
  torchgeo-aom scene complete IN.tif OUT.tif --weights pretrain.ckpt --missing sentinel2:B11 ...
  torchgeo-aom scene similar OUT.parquet LIKE.parquet --at 500123 4650456

A run that was stopped goes on where it was when it is started again. Several processes share the
work with --devices 4, through Lightning; or with --shard 0/4 to 3/4 or under torchrun, where they
need not run at the same time, and the last one to finish writes the files.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``torchgeo-aom scene``.

    Args:
        argv: arguments after ``scene``.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        PROG,
        description='From a raster of any sensor and size to a map or an embedding.',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title='verbs', metavar='VERB', required=True)
    _embed_options(verbs)
    _predict_options(verbs)
    _complete_options(verbs)
    _similar_options(verbs)
    options = parser.parse_args(argv)
    logger = logging.getLogger('torchgeo_aom.scene')
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(message)s'))
    logger.addHandler(handler)
    # Of several processes of a machine, one says what all would say.
    logger.setLevel(logging.INFO if os.environ.get('LOCAL_RANK', '0') == '0' else logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('always', AOMWarning)
            return int(options.run(options))
    except KeyboardInterrupt:
        logger.info('stopped; what is computed is kept: run the same again to go on')
        raise
    finally:
        logger.removeHandler(handler)


def _verb(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=f'{text[0].upper()}{text[1:]}.'
    )
    parser.set_defaults(run=run)
    return parser


def _input_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what the scene is')
    group.add_argument('scene', nargs='+', metavar='IN', help='the scene')
    group.add_argument('output', metavar='OUT', help='file to write')
    group.add_argument(
        '--bands', nargs='+', metavar='SPEC', help='bands; of a file that names none, in its order'
    )
    group.add_argument('--sensor', help='sensor of the names that have none')
    group.add_argument(
        '--sensors', action='append', default=[], metavar='FILE', help='TOML file with sensors'
    )
    group.add_argument('--product', help='how values are stored: l2a, c2l2, uint8, reflectance ...')
    group.add_argument('--mtl', metavar='FILE', help='Landsat metadata of Level-1 numbers')
    group.add_argument('--gsd', type=float, metavar='M', help='meters a pixel to read at')
    group.add_argument(
        '--nodata', default='product',
        help="stored value without data, or 'none' (default: that of the product)",
    )  # fmt: skip
    group.add_argument(
        '--nodata-in', choices=('all', 'any'), default='all',
        help='a pixel has no data where no band has any, or where one has not (default: all)',
    )  # fmt: skip
    group.add_argument(
        '--statistics', metavar='NAME', help='of the catalogue, such as sentinel2:l2a'
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
    group.add_argument('--chip', type=int, metavar='PX', help='side of a window (default: 256)')
    group.add_argument(
        '--overlap', type=int, metavar='PX', help='that windows share (default: a quarter)'
    )
    group.add_argument('--batch', type=int, default=8, metavar='N', help='default: %(default)s')
    group.add_argument(
        '--readers', type=int, default=2, metavar='N', help='threads that read (default: 2)'
    )
    group.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1 (default: %(default)s)')
    group.add_argument('--precision', default='float32', help='float32, bfloat16 or float16')
    group.add_argument('--memory-mib', type=int, default=256, help=argparse.SUPPRESS)
    group.add_argument('--shard', metavar='I/N', help='compute part I of N, counted from 0')
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
    parser.add_argument('--agree-sizes', nargs='+', type=int, default=[16, 32], metavar='PX')


def _embed_options(verbs: Any) -> None:
    parser = _verb(verbs, 'embed', 'write embeddings of a scene, one for each patch', _embed)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument('--weights', help="file, name or 'random' (default: those of the model)")
    group.add_argument('--model', default='aom_vitt', help='default: %(default)s')
    group.add_argument('--patch', default='auto', metavar='PX', help='default: by resolution')
    group.add_argument('--dtype', default='float16', help='float16, float32 or int8')
    group.add_argument('--components', type=int, metavar='K', help='main components instead')
    group.add_argument(
        '--position', choices=('remove', 'keep'), default='remove',
        help='what says only where in its window a patch lies (default: %(default)s)',
    )  # fmt: skip
    group.add_argument('--vectors', metavar='PARQUET', help='also write a vector for each window')
    _mean_options(group)
    _agree_options(parser)
    _run_options(parser)


def _predict_options(verbs: Any) -> None:
    parser = _verb(verbs, 'predict', 'write the map that a trained task makes', _predict)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument('--weights', required=True, metavar='CKPT', help='checkpoint of a task')
    group.add_argument('--patch', type=int, metavar='PX', help="default: the task's")
    group.add_argument(
        '--missing', choices=('refuse', 'use'), default='refuse',
        help='what to do where the scene lacks bands of the task (default: %(default)s)',
    )  # fmt: skip
    group.add_argument('--classes', nargs='+', default=[], metavar='NAME', help='names of classes')
    group.add_argument('--probabilities', metavar='TIF', help='also write probabilities')
    _mean_options(group)
    _agree_options(parser)
    _run_options(parser)


def _complete_options(verbs: Any) -> None:
    parser = _verb(verbs, 'complete', 'predict bands that a scene lacks', _complete)
    _input_options(parser)
    group = parser.add_argument_group('what to make of it')
    group.add_argument('--weights', required=True, metavar='CKPT', help='of pretraining')
    group.add_argument('--missing', nargs='+', required=True, metavar='SPEC', help='bands wanted')
    group.add_argument('--patch', type=int, metavar='PX', help='default: the smallest trained')
    _run_options(parser)


def _similar_options(verbs: Any) -> None:
    parser = _verb(verbs, 'similar', 'find the windows most like a place', _similar)
    parser.add_argument('vectors', nargs='+', metavar='IN', help='files of scene embed --vectors')
    parser.add_argument('output', metavar='OUT', help='GeoParquet file to write')
    parser.add_argument(
        '--at', nargs=2, type=float, required=True, metavar=('X', 'Y'),
        help='the place, in the coordinates of the first file',
    )  # fmt: skip
    parser.add_argument('--lonlat', action='store_true', help='X and Y are degrees')
    parser.add_argument('--count', type=int, default=20, metavar='N', help='default: %(default)s')
    parser.add_argument(
        '--no-center', action='store_true', help='compare vectors as they are, mean included'
    )
    parser.add_argument('--figure', metavar='PNG', help='picture of the result to write')
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    parser.add_argument('--json', action='store_true', help='print facts as JSON')


def _scene(options: argparse.Namespace) -> Any:
    from torchgeo_aom.bands import load_sensors

    from .open import open_scene
    from .outputs import check_output

    if options.quicklook:
        check_output(options.quicklook, tuple(options.scene), options.overwrite)
    for path in options.sensors:
        load_sensors(path)
    nodata: Any = options.nodata
    if nodata not in ('product', 'none'):
        try:
            nodata = float(nodata)
        except ValueError:
            raise ConfigError(f"--nodata is a number or 'none', got {nodata!r}") from None
    many = options.scene[0] if len(options.scene) == 1 else options.scene
    bands = options.bands
    return open_scene(
        many,
        bands[0] if bands and len(bands) == 1 else bands,
        sensor=options.sensor,
        product=options.product,
        gsd_m=options.gsd,
        mtl=options.mtl,
        nodata=None if nodata == 'none' else nodata,
        drivers=options.allow_drivers,
        max_block_mib=options.max_block_mib,
    )


def _options(options: argparse.Namespace) -> Any:
    from .options import RunOptions

    shard = None
    if options.shard is not None:
        parts = options.shard.split('/')
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise ConfigError(f'--shard is I/N, such as 0/4, got {options.shard!r}')
        shard = int(parts[0]), int(parts[1])
    return RunOptions(
        options.chip, options.overlap, options.batch, options.readers, options.device,
        options.precision, options.overwrite, None, shard, options.memory_mib, options.nodata_in,
        _trainer(options),
    )  # fmt: skip


def _trainer(options: argparse.Namespace) -> Any:
    """Lightning's trainer for several processes; None for one."""
    if min(options.devices, options.nodes) < 1:
        raise ConfigError('--devices and --nodes are numbers from 1')
    if options.devices == options.nodes == 1:
        return None
    from .loop import make_trainer

    return make_trainer(options.device, options.devices, options.nodes)


def _embed(options: argparse.Namespace) -> int:
    from .embed import embed_scene

    patch = options.patch
    if patch != 'auto':
        if not patch.isdigit():
            raise ConfigError(f"--patch is a number of px or 'auto', got {patch!r}")
        patch = int(patch)
    scene = _scene(options)
    result = embed_scene(
        scene,
        options.output,
        weights=True if options.weights is None else options.weights,
        model=options.model,
        patch_size=patch,
        statistics=options.statistics,
        mean=options.mean,
        std=options.std,
        dtype=options.dtype,
        components=options.components,
        position=options.position,
        vectors=options.vectors,
        agree=options.agree,
        agree_sizes=options.agree_sizes,
        options=_options(options),
    )
    return _report(scene, result, options)


def _predict(options: argparse.Namespace) -> int:
    from .predict import predict_scene

    scene = _scene(options)
    result = predict_scene(
        scene,
        options.output,
        weights=options.weights,
        patch_size=options.patch,
        statistics=options.statistics,
        mean=options.mean,
        std=options.std,
        missing=options.missing,
        classes=options.classes,
        probabilities=options.probabilities,
        agree=options.agree,
        agree_sizes=options.agree_sizes,
        options=_options(options),
    )
    return _report(scene, result, options)


def _complete(options: argparse.Namespace) -> int:
    from .complete import complete_scene

    missing = options.missing
    scene = _scene(options)
    result = complete_scene(
        scene,
        options.output,
        missing[0] if len(missing) == 1 else missing,
        weights=options.weights,
        patch_size=options.patch,
        statistics=options.statistics,
        sensor=options.sensor,
        options=_options(options),
    )
    return _report(scene, result, options)


def _similar(options: argparse.Namespace) -> int:
    from .similar import similar_places

    frame = similar_places(
        options.vectors,
        options.output,
        at=tuple(options.at),
        lonlat=options.lonlat,
        count=options.count,
        center=not options.no_center,
        figure=options.figure,
        overwrite=options.overwrite,
    )
    if options.json:
        rows = frame.drop(columns='geometry').to_dict('records')
        print(json.dumps({'path': options.output, 'rows': rows}, indent=2, default=str))
    else:
        print(frame.drop(columns='geometry').to_string(index=False))
    return 0


def _report(scene: Any, result: Any, options: argparse.Namespace) -> int:
    if options.quicklook and result.done:
        from .quicklook import save_quicklook

        save_quicklook(scene, options.output, options.quicklook)
    files = [str(path) for path in result.files]
    if options.json:
        facts = {
            'files': files, 'windows': result.windows, 'empty': result.empty,
            'seconds': round(result.seconds, 3), 'tags': result.tags,
        }  # fmt: skip
        print(json.dumps(facts, indent=2))
    else:
        print('\n'.join(files))
    return 0
