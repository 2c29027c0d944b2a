"""What the windows of a scene cost beside the bare model, and how much memory a huge scene takes.

    python examples/scenes/bench.py speed IN.tif --sensor sentinel2 --product l2a
    python examples/scenes/bench.py memory

``speed`` takes turns: each row of windows through the whole pipeline (reading, normalizing,
blending, writing), then the same windows, read before, through the model alone. ``memory`` makes a
scene of 100,000 x 100,000 px with 13 bands, without data on the disk, and runs the pipeline over
its first and one of its last rows of windows with a very small model.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from torchgeo_aom.models.aom import AOM
from torchgeo_aom.scene import RunOptions, Scene, open_scene
from torchgeo_aom.scene.outputs import Store
from torchgeo_aom.scene.pipeline import compute
from torchgeo_aom.scene.reader import SceneReader
from torchgeo_aom.scene.run import plan_for
from torchgeo_aom.scene.runner import Encoder, embedding, load_encoder
from torchgeo_aom.scene.sinks import EmbeddingSink

SIDE = 100_000


def peak_mib() -> float:
    """Largest memory of this process so far (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed(options: argparse.Namespace) -> None:
    """Print seconds of pipeline and of model."""
    scene = open_scene(
        options.scene, options.bands, sensor=options.sensor, product=options.product,
        mtl=options.mtl,
    )  # fmt: skip
    encoder = load_encoder(options.weights, 'aom_vitt', scene.bands)
    runner = embedding(encoder, scene.bands, options.patch)
    run = RunOptions(
        chip=options.chip, batch_size=options.batch, device=options.device,
        precision=options.precision, progress=False,
    )  # fmt: skip
    plan = plan_for(scene, runner, run)
    normalize = scene.normalize(options.statistics).to(run.torch_device())
    encoder.model.to(run.torch_device())
    whole = bare = 0.0
    windows = 0
    with tempfile.TemporaryDirectory() as folder:
        sink = EmbeddingSink('e', Path(folder) / 'e.tif', runner.channels)
        store, reader = Store(sink.path, ['bench']), SceneReader(scene)
        for unit in plan.units():
            # Two rows of windows where one leads in: the same for both.
            jobs = list(plan.jobs([unit]))
            places = [
                (plan.rows.starts[j.row] * plan.cell, plan.columns.starts[j.column] * plan.cell)
                for j in jobs
            ]
            images = torch.from_numpy(np.stack([reader.read((*at, *plan.chip)) for at in places]))
            batches = [normalize(x.to(run.torch_device())) for x in images.split(run.batch_size)]
            began = time.perf_counter()
            compute(
                reader, normalize, runner.function, plan, [sink], store, run, [unit],
                runner.channels,
            )  # fmt: skip
            whole += time.perf_counter() - began
            began = time.perf_counter()
            precision = {'bfloat16': torch.bfloat16, 'float16': torch.float16}.get(run.precision)
            with (
                torch.inference_mode(),
                torch.autocast(run.torch_device().type, precision, enabled=precision is not None),
            ):
                for batch in batches:
                    runner.function(batch).values.cpu()
            bare += time.perf_counter() - began
            windows += len(jobs)
        store.remove()
    print(
        f'{windows} windows of {plan.chip[0]} x {plan.chip[1]} px, {len(scene.layers)} bands, '
        f'patch {options.patch} px: pipeline {whole:.2f} s, model alone {bare:.2f} s, '
        f'that is {bare / whole:.1%}'
    )


def empty_scene(folder: Path) -> Scene:
    """A scene of 260 GB that takes no room on the disk."""
    path = folder / 'huge.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', dtype='uint16', count=13, height=SIDE, width=SIDE, tiled=True,
        blockxsize=512, blockysize=512, sparse_ok=True, bigtiff='YES', compress='deflate',
        crs='EPSG:32631', transform=from_origin(0, 1e6, 10, 10),
    ):  # fmt: skip
        pass
    return open_scene(path, 'sentinel2', product='l1c', nodata=None)


def memory(options: argparse.Namespace) -> None:
    """Print the peak of memory, and the time of a window at both ends of the scene."""
    with tempfile.TemporaryDirectory() as name:
        scene = empty_scene(Path(name))
        model = AOM(bands=scene.bands, embed_dim=192, depth=1, num_heads=3).eval()
        runner = embedding(Encoder(model, 'tiny'), scene.bands, 64)
        run = RunOptions(chip=options.chip, batch_size=8, progress=False)
        plan = plan_for(scene, runner, run)
        normalize = scene.normalize()
        with torch.inference_mode():
            runner.function(torch.zeros(8, 13, *plan.chip))
        before = peak_mib()
        print(
            f'{plan.windows:,} windows, {len(plan.units())} units; {before:.0f} MiB with the model'
        )
        sink = EmbeddingSink('e', Path(name) / 'e.tif', runner.channels)
        reader = SceneReader(scene)
        units = plan.units()
        for unit in (units[0], units[-3]):
            counts = compute(
                reader, normalize, runner.function, plan, [sink], Store(sink.path, ['bench']), run,
                [unit], runner.channels,
            )  # fmt: skip
            print(
                f'row {unit[1]}: {counts.windows} windows, '
                f'{1000 * counts.seconds / counts.windows:.0f} ms each; '
                f'{peak_mib() - before:.0f} MiB more than before'
            )


def main() -> None:
    """Measure one of both."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    verbs = parser.add_subparsers(required=True)
    own = verbs.add_parser('speed', help='pipeline beside the bare model')
    own.add_argument('scene', help='a scene')
    own.add_argument('--bands', nargs='+')
    own.add_argument('--sensor')
    own.add_argument('--product')
    own.add_argument('--statistics')
    own.add_argument('--mtl')
    own.add_argument('--weights', default='random')
    own.add_argument('--patch', type=int, default=16)
    own.add_argument('--batch', type=int, default=8)
    own.add_argument('--device', default='cpu')
    own.add_argument('--precision', default='float32')
    own.set_defaults(run=speed)
    huge = verbs.add_parser('memory', help='memory of 100,000 x 100,000 px')
    huge.set_defaults(run=memory)
    for verb in (own, huge):
        verb.add_argument('--chip', type=int, default=256)
    options = parser.parse_args()
    options.run(options)


if __name__ == '__main__':
    main()
