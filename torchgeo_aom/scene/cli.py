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

from .cli_options import EPILOG, add_verbs

__all__ = ('main',)

PROG = 'torchgeo-aom scene'


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
    runs = {'embed': _embed, 'predict': _predict, 'complete': _complete, 'similar': _similar}
    add_verbs(verbs, runs)
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
    from torchgeo_aom.models.speed import read_speed

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
        _trainer(options), options.speed and read_speed(options.speed),
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
    from torchgeo_aom.models.patch_rule import read_patch_size

    from .embed import embed_scene

    patch = read_patch_size(options.patch)
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
