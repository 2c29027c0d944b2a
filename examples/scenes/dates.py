"""Whether a place looks like itself on other dates more than like other places.

    python examples/scenes/dates.py --out runs/dates A_2019.parquet A_2020.parquet ...

Takes the files of ``torchgeo-aom scene embed --vectors`` of one place on several dates. For each
window of each date, the windows of every other date are ranked by similarity; the place itself is
right if it comes first.
"""

from __future__ import annotations

import argparse
import json
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchgeo_aom.scene.vectors import read_vectors

Floats = NDArray[np.float32]


def vectors_of(path: str) -> dict[tuple[int, int], Floats]:
    """Vector of each window, with the mean of the date taken away."""
    frame, vectors, _ = read_vectors(path)
    centered = vectors - vectors.mean(0)
    centered /= np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-9)
    return dict(zip(zip(frame['row'], frame['column'], strict=True), centered, strict=True))


def compare(one: dict[tuple[int, int], Floats], two: dict[tuple[int, int], Floats]) -> list[float]:
    """Share of windows that find themselves, and similarity with themselves and with others."""
    places = sorted(one.keys() & two.keys())
    a, b = (np.stack([date[place] for place in places]) for date in (one, two))
    table = a @ b.T
    own = np.diag(table)
    others = table[~np.eye(len(places), dtype=bool)]
    right = float((table.argmax(1) == np.arange(len(places))).mean())
    nearer = float((own[:, None] > table).sum() / (len(places) * (len(places) - 1)))
    return [right, nearer, float(own.mean()), float(others.mean()), 1 / len(places)]


def main() -> None:
    """Print the mean over all pairs of dates."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='+', help='GeoParquet files of one place, one a date')
    parser.add_argument('--out', type=Path, help='folder for dates.json')
    options = parser.parse_args()
    dates = [vectors_of(path) for path in options.files]
    rows = [compare(one, two) for one, two in permutations(dates, 2)]
    right, nearer, own, others, chance = np.mean(rows, axis=0).tolist()
    print(
        f'{len(dates)} dates, {len(dates[0])} windows: a window finds itself on another date in '
        f'{right:.1%} (chance {chance:.1%}); it is nearer to itself than to another place in '
        f'{nearer:.1%} (chance 50 %); cosine {own:.2f} with itself, {others:.2f} with others'
    )
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        facts = {'right': right, 'nearer': nearer, 'own': own, 'others': others, 'chance': chance}
        (options.out / 'dates.json').write_text(json.dumps(facts, indent=1))


if __name__ == '__main__':
    main()
