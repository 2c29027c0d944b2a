"""Whether a place looks like itself on other dates more than like other places.

    python examples/scenes/dates.py --out runs/dates A_2019.parquet A_2020.parquet ...
    python examples/scenes/dates.py A_2019.parquet A_2020.parquet ... --bands naip --product uint8 \
        --scenes A_2019.tif A_2020.tif ...

Takes the files of ``torchgeo-aom scene embed --vectors`` of one place on several dates. For each
window of each date, the windows of every other date are ranked by similarity; the place itself is
right if it comes first. With ``--scenes``, the rasters in the same order, the mean and standard
deviation of each band in the same windows are compared, too: what a model has to be better than.
"""

from __future__ import annotations

import argparse
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchgeo_aom.scene import Scene, open_scene
from torchgeo_aom.scene.reader import SceneReader
from torchgeo_aom.scene.vectors import read_vectors

Floats = NDArray[np.float32]


Date = dict[tuple[int, int], Floats]


def vectors_of(path: str) -> Date:
    """Vector of each window, with the mean of the date taken away."""
    frame, vectors, _ = read_vectors(path)
    return named(frame, vectors - vectors.mean(0))


def statistics_of(path: str, scene: Scene) -> Date:
    """Mean and standard deviation of each band in the same windows, standardized for the date."""
    frame, _, _ = read_vectors(path)
    reader = SceneReader(scene)
    rows = []
    for outline in frame.geometry:
        corners = [~scene.grid.transform * place for place in outline.exterior.coords]
        (left, top), (right, bottom) = np.rint(corners).min(0), np.rint(corners).max(0)
        image = reader.read((int(top), int(left), int(bottom - top), int(right - left)))
        rows.append([*np.nanmean(image, (1, 2)), *np.nanstd(image, (1, 2))])
    reader.close()
    values = np.nan_to_num(np.array(rows, np.float32))
    return named(frame, (values - values.mean(0)) / np.maximum(values.std(0), 1e-9))


def named(frame: Any, vectors: Floats) -> Date:
    """Vectors of length one, by row and column of their windows."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return dict(zip(zip(frame['row'], frame['column'], strict=True), unit, strict=True))


def compare(one: Date, two: Date) -> list[float]:
    """Share of windows that find themselves, and similarity with themselves and with others."""
    places = sorted(one.keys() & two.keys())
    a, b = (np.stack([date[place] for place in places]) for date in (one, two))
    table = a @ b.T
    own = np.diag(table)
    others = table[~np.eye(len(places), dtype=bool)]
    right = float((table.argmax(1) == np.arange(len(places))).mean())
    nearer = float((own[:, None] > table).sum() / (len(places) * (len(places) - 1)))
    return [right, nearer, float(own.mean()), float(others.mean()), 1 / len(places)]


def report(label: str, dates: list[Date]) -> dict[str, float]:
    """Print and return the mean over all pairs of dates."""
    rows = [compare(one, two) for one, two in permutations(dates, 2)]
    right, nearer, own, others, chance = np.mean(rows, axis=0).tolist()
    print(
        f'{label}: {len(dates)} dates, {len(dates[0])} windows: a window finds itself on another '
        f'date in {right:.1%} (chance {chance:.1%}); it is nearer to itself than to another place '
        f'in {nearer:.1%} (chance 50 %); cosine {own:.2f} with itself, {others:.2f} with others'
    )
    return {'right': right, 'nearer': nearer, 'own': own, 'others': others, 'chance': chance}


def main() -> None:
    """Compare embeddings, and statistics if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='+', help='GeoParquet files of one place, one a date')
    parser.add_argument('--scenes', nargs='+', help='the rasters, in the same order')
    parser.add_argument('--bands', nargs='+', help='their bands, as of scene embed')
    parser.add_argument('--sensor', help='as of scene embed')
    parser.add_argument('--product', help='as of scene embed')
    parser.add_argument('--out', type=Path, help='folder for dates.json')
    options = parser.parse_args()
    found = {'embeddings': report('embeddings', [vectors_of(path) for path in options.files])}
    if options.scenes:
        bands = options.bands[0] if len(options.bands or ()) == 1 else options.bands
        scenes = [
            open_scene(path, bands, sensor=options.sensor, product=options.product)
            for path in options.scenes
        ]
        pairs = zip(options.files, scenes, strict=True)
        found['statistics'] = report('statistics', [statistics_of(*pair) for pair in pairs])
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / 'dates.json').write_text(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
