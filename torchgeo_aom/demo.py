"""The main job on real data: one encoder, any bands, next to baselines; ``make demo`` runs it."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch.utils.data import Subset
from tqdm import tqdm

from torchgeo_aom import __version__
from torchgeo_aom.command import output_folder, say
from torchgeo_aom.commands.demo import demo_parser
from torchgeo_aom.data.samples import EuroSAT200, SentinelPairs, composite
from torchgeo_aom.errors import CheckpointError
from torchgeo_aom.files import write_whole
from torchgeo_aom.models.aom import AOM
from torchgeo_aom.models.speed import read_speed
from torchgeo_aom.models.weights import default_weights
from torchgeo_aom.plot import plot_demo
from torchgeo_aom.tasks import SemanticSegmentationTask
from torchgeo_aom.tasks.landcover import (
    MIN_PIXELS,
    HeadSettings,
    load_half,
    pixel_regression,
    predict,
    rate,
    train_head,
)
from torchgeo_aom.tasks.probe import band_statistics, extract_features, linear_probe
from torchgeo_aom.tasks.report import facts_line
from torchgeo_aom.text import ruled
from torchgeo_aom.transforms import Normalize, NormalizeSample

__all__ = ('main',)

MODEL = 'aom_vitt'
PROBE_BANDS = {
    '13 bands': 'sentinel2:eurosat',
    '7 bands as Landsat-8': 'sentinel2:common7',
    '4 bands of 10 m': 'sentinel2:10m',
    'RGB': 'sentinel2:rgb',
}
# What the head is trained on comes first.
DENSE_BANDS = {
    'L2A, 12 bands': ('l2a', 'sentinel2:l2a'),
    'L2A, RGB': ('l2a', 'sentinel2:rgb'),
    'L1C, 13 bands': ('l1c', 'sentinel2:l1c'),
}


NOTES = """\
scene classes: linear probe on frozen features of 200 EuroSAT chips, 10 classes; 5 folds of whole
  100-km cells, assigned {repeats} times; +- is the standard deviation over folds. Baseline: mean,
  standard deviation and percentiles of the same bands.
land cover: hypercolumn head on the frozen {model}, trained once on 12 bands of L2A in the western
  halves of 5 places, run on the eastern halves with the bands named; mean IoU over classes of at
  least {least} px. Baseline: logistic regression of single pixels, fitted anew on these bands."""


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on, besides the weights and the data."""

    head: HeadSettings
    repeats: int = 3
    every: int = 1
    speed: str = 'exact'


@dataclass(frozen=True)
class Row:
    """One line of the table: a score of the baseline and of each initialization of the model."""

    job: str
    bands: str
    metric: str
    scores: dict[str, tuple[float, float]]


# -- (a) linear probe ---------------------------------------------------------------------------


def probe(values: Any, chips: EuroSAT200, keep: Any, repeats: int) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy over folds of whole cells, assigned anew."""
    labels, cells = chips.labels[keep], np.asarray(chips.cells)[keep]
    folds = [chips.assign_folds(seed)[keep] for seed in range(repeats)]
    scores = [score for fold in folds for score in linear_probe(values, labels, fold, cells).scores]
    return float(np.mean(scores)), float(np.std(scores, ddof=1))


def run_probe(models: Mapping[str, AOM], settings: Settings) -> list[Row]:
    """Tell the classes of EuroSAT apart by frozen features, and by statistics of the bands."""
    rows = []
    for name, spec in PROBE_BANDS.items():
        chips = EuroSAT200(bands=spec)
        normalize = NormalizeSample(Normalize(chips.bands, product=chips.product))
        keep = np.arange(0, len(chips), settings.every)
        chips.transforms = normalize
        part = Subset(chips, keep.tolist())
        images = np.stack([part[k]['image'].numpy() for k in range(len(part))])
        scores = {'baseline': probe(band_statistics(images), chips, keep, settings.repeats)}
        for init, model in models.items():
            found = extract_features(
                model, part, chips.bands, settings.head.patch_size, label=f'features, {name}'
            )
            scores[init] = probe(found.values, chips, keep, settings.repeats)
            say(f'  {name}, {init}: features {"reused" if found.cached else "computed"}')
        rows.append(Row('scene classes', name, 'accuracy', scores))
    return rows


# -- (b) segmentation ---------------------------------------------------------------------------


def run_dense(
    models: Mapping[str, AOM], settings: Settings, folder: Path
) -> tuple[list[Row], dict[str, Any], dict[str, list[Any]]]:
    """Map land cover: head trained on 12 bands of the west, run on other bands of the east."""
    folder.mkdir(parents=True, exist_ok=True)
    heads = {}
    for init, model in models.items():
        heads[init], reused = train_head(model, MODEL, settings.head, folder)
        say(f'  {init}: head {"reused" if reused else "trained"}')
    ratings: dict[str, Any] = {}
    maps: dict[str, list[Any]] = {}
    for name, (level, spec) in DENSE_BANDS.items():
        east = load_half(level, spec, 'east')
        masks = [place['mask'].numpy() for place in east]
        maps.setdefault('label', masks)
        classify = pixel_regression(level, spec, settings.head.seed)
        ratings[name] = {'baseline': rate(masks, [classify(place['image']) for place in east])}
        for init, path in heads.items():
            # The same weights with other bands: no parameter knows how many there are.
            task = SemanticSegmentationTask.load_from_checkpoint(path, bands=spec).eval()
            bar = tqdm(east, desc=f'maps, {name}', unit='place', disable=None)
            maps[name] = [predict(task, place['image'], settings.head.window) for place in bar]
            ratings[name][init] = rate(masks, maps[name])
        say(f'  {name}: mapped')
    west = torch.cat([p['mask'].flatten() for p in load_half('l2a', 'sentinel2:rgb', 'west')])
    most = int(west[west != SentinelPairs.ignore_index].mode().values)
    ratings['none (majority class)'] = {
        'baseline': rate(maps['label'], [np.full_like(m, most) for m in maps['label']])
    }
    rows = [
        Row('land cover', name, metric, {who: (r[metric], 0.0) for who, r in rated.items()})
        for metric in ('mean IoU', 'pixel accuracy')
        for name, rated in ratings.items()
    ]
    return rows, ratings, maps


# -- results ------------------------------------------------------------------------------------


def table(rows: Sequence[Row], inits: Sequence[str]) -> str:
    """All rows in plain text."""
    head = ('job', 'bands', 'metric, %', 'baseline', *(f'{MODEL}, {init}' for init in inits))

    def cell(row: Row, who: str) -> str:
        mean, spread = row.scores.get(who, (float('nan'), 0.0))
        text = '-' if np.isnan(mean) else f'{100 * mean:.1f}'
        return text + (f' +- {100 * spread:.1f}' if spread else '')

    lines = [head] + [
        (row.job, row.bands, row.metric, *(cell(row, who) for who in ('baseline', *inits)))
        for row in rows
    ]
    text = ruled(lines)
    return '\n'.join([*text, text[1]])


def draw(rows: Sequence[Row], maps: Mapping[str, Any], inits: Sequence[str], title: str) -> bytes:
    """The figure as PNG."""

    def scores(job: str, metric: str, names: Mapping[str, Any], baseline: str) -> dict[str, Any]:
        chosen = {r.bands: r.scores for r in rows if (r.job, r.metric) == (job, metric)}
        who = {baseline: 'baseline', **{f'{MODEL}, {init}': init for init in inits}}
        series = {text: [chosen[name][key] for name in names] for text, key in who.items()}
        return {'groups': [name.replace(', ', ',\n') for name in names], 'series': series}

    places = SentinelPairs()
    east = SentinelPairs('l2a', 'sentinel2:rgb', 'east')
    images = [composite(east[k]['image'], east.bands) for k in range(len(east))]
    majority = {r.metric: r.scores['baseline'][0] for r in rows if r.bands.startswith('none')}
    figure = plot_demo(
        {
            **scores('scene classes', 'accuracy', PROBE_BANDS, 'statistics of the bands'),
            'title': 'Scene classes: EuroSAT, 200 chips, linear probe on frozen features',
            'ylabel': 'accuracy, %',
            'levels': {'chance': 1 / len(EuroSAT200.classes)},
            'note': 'bars: standard deviation over folds of whole 100-km cells',
        },
        {
            **scores('land cover', 'mean IoU', DENSE_BANDS, 'regression of single pixels'),
            'title': 'Land cover: hypercolumn head trained on 12 bands of the western halves',
            'ylabel': 'mean IoU of the eastern halves, %',
            'levels': {'majority class': majority['mean IoU']},
            'note': 'the baseline is fitted on each set of bands, the head only once',
        },
        {
            'rows': [f'{p["date"][:4]}\n{_degrees(p)}' for p in places.places],
            'columns': {'image': images, **{k: v for k, v in maps.items()}},
            'classes': places.classes,
            'colors': places.colors,
            'title': f'Eastern halves (1.1 x 2.2 km); maps of {MODEL}, {inits[-1]}',
        },
        title,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def _degrees(place: Mapping[str, str]) -> str:
    latitude, longitude = float(place['latitude']), float(place['longitude'])
    north, east = 'N' if latitude >= 0 else 'S', 'E' if longitude >= 0 else 'W'
    return f'{abs(latitude):.1f} {north} {abs(longitude):.1f} {east}'


def build_models(settings: Settings) -> dict[str, AOM]:
    """The encoder with random weights and, where there are any, with trained ones."""
    options: dict[str, Any] = {
        'bands': 'sentinel2',
        'patch_size': settings.head.patch_size,
        'speed': read_speed(settings.speed),
    }
    torch.manual_seed(settings.head.seed)
    models: dict[str, Any] = {'random initialization': timm.create_model(MODEL, **options)}
    try:
        weights = default_weights(MODEL)
    except CheckpointError:
        say(f'There are no trained weights of {MODEL} yet.')
    else:
        models[weights.name] = timm.create_model(MODEL, pretrained=True, **options)
    for init, model in models.items():
        say(facts_line(MODEL, model, init))
    return models


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit code.
    """
    options = demo_parser().parse_args(argv)
    head = HeadSettings(seed=options.seed)
    settings = Settings(head, speed=options.speed or 'exact')
    if options.quick:
        head = replace(head, patch_size=16, steps=4, batch_size=64)
        settings = replace(settings, head=head, repeats=1, every=5)
    folder = output_folder(options.output / 'heads').parent
    start = time.monotonic()
    models = build_models(settings)
    inits = list(models)
    say('(a) Linear probe: which class is a chip of EuroSAT?')
    rows = run_probe(models, settings)
    say('(b) Segmentation: which land cover is a pixel?')
    dense, ratings, maps = run_dense(models, settings, folder / 'heads')
    rows += dense

    quick = ' (quick: numbers mean nothing)' if options.quick else ''
    text = table(rows, inits)
    facts = {'version': __version__, 'torch': torch.__version__, 'settings': asdict(settings)}
    results = {**facts, 'quick': options.quick, 'rows': [asdict(r) for r in rows], 'iou': ratings}
    write_whole(folder / 'results.json', (json.dumps(results, indent=2) + '\n').encode())
    flat = io.StringIO()
    writer = csv.writer(flat, lineterminator='\n')
    writer.writerow(('job', 'bands', 'metric', 'method', 'score', 'spread'))
    for row in rows:
        writer.writerows((row.job, row.bands, row.metric, k, *v) for k, v in row.scores.items())
    write_whole(folder / 'results.csv', flat.getvalue().encode())
    title = f'{MODEL}: one encoder, the bands named at call time{quick}'
    write_whole(folder / 'demo.png', draw(rows, maps, inits, title))
    print(text)
    print(NOTES.format(model=MODEL, repeats=settings.repeats, least=MIN_PIXELS))
    say(f'{time.monotonic() - start:.0f} s; results.json and results.csv are beside the figure')
    print(folder / 'demo.png')
    return 0
