"""Turns a checkpoint into what ships with the package: weights as float16, facts, model card.

    python examples/weights/publish.py --checkpoint runs/aom_vitt/checkpoints/last.ckpt \
        --config examples/weights/aom_vitt.yaml --hours 2 --out torchgeo_aom/published
    python examples/weights/publish.py --results runs/evaluate/results.json \
        --out torchgeo_aom/published

The second call writes what `evaluate.py` has measured into facts and card.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from evaluate import table

from torchgeo_aom import __version__
from torchgeo_aom.models.aom import AOM, SIZES
from torchgeo_aom.models.checkpoint import read_state_dict
from torchgeo_aom.models.loading import strip_prefix
from torchgeo_aom.models.speed import merge_schedule, speed_text
from torchgeo_aom.models.weights import save_weights
from torchgeo_aom.models.weights_enum import enum_of
from torchgeo_aom.models.weights_meta import complete_meta, facts_of, validate_meta
from torchgeo_aom.pretraining.views import SHAPES
from torchgeo_aom.transforms import Normalize

ORIGINS = Path(__file__).with_name('origins.csv')
BANDS, PRODUCT = 'sentinel2:l2a', 'sentinel2:l2a'
#: what taught packed runs, and what that was trained on
TEACHERS = (
    'Teachers see images during training and are not part of the weights: EfficientNet-Lite0 and '
    'EfficientNet-Lite2 (Google, Apache-2.0), trained on ImageNet-1k with its labels; the U-Net of '
    'ukis-csmask 1.0.0 (German Aerospace Center, Apache-2.0), trained on SPARCS and CloudSEN12+ '
    'with their labels of clouds and shadows. **So SPARCS and CloudSEN12 are no clean tests of '
    'these weights.**\n\n'
)
COMMAND = 'python examples/weights/evaluate.py --ucmerced UCMERCED --hls HLS --ucmerced-seeds 1'


def origins() -> list[dict[str, Any]]:
    """What the corpus is made of."""
    with ORIGINS.open(newline='', encoding='utf-8') as file:
        return [{**row, 'images': int(row['images'])} for row in csv.DictReader(file)]


def metrics(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """What was measured, as the meta of weights has it."""
    command = f'{COMMAND} --weights {name}'
    found = []
    for measure in ('ucmerced', 'hls', 'speeds_hls', 'eurosat', 'speeds', 'merged'):
        for bands, row in results.get(measure, {}).items():
            title = f'{measure}, {bands}: linear probe, accuracy in %'
            found.append({'name': title, 'value': row['weights'][0], 'command': command})
    for patch, row in results.get('water', {}).items():
        title = f'HLS water, patches of {patch} px: linear on frozen maps, mean IoU in %'
        found.append({'name': title, 'value': row['weights'][0], 'command': command})
    for measure in ('levels', 'sensors'):
        if measure in results:
            title = f'{measure}: retrieval at 1 in %'
            value = results[measure]['weights'][0]
            found.append({'name': title, 'value': value, 'command': command})
    for measure, size in (('patches', 128), ('patches_256', 256)):
        for patch, value in results.get(measure, {}).items():
            title = f'ucmerced at {size} px, patches of {patch} px: linear probe, accuracy in %'
            found.append({'name': title, 'value': value, 'command': command})
    return found


def speed_loss(results: dict[str, Any]) -> dict[str, Any]:
    """What speed modes lose, by schedule: the larger loss of the two sets, in points."""
    found: dict[str, Any] = {}
    for exact, measure, bands, data in (
        ('eurosat', 'speeds', '13 bands', 'EuroSAT-200, 13 bands'),
        ('hls', 'speeds_hls', '7 bands', 'HLS WorldCover patches, 7 bands'),
    ):
        for name, row in results.get(measure, {}).items():
            schedule = speed_text(merge_schedule(name.rpartition(', ')[2], 12))
            points = round(results[exact][bands]['weights'][0] - row['weights'][0], 1)
            if schedule not in found or points > found[schedule]['points']:
                found[schedule] = {'points': points, 'data': data}
    return found


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(f'.{path.name}.part')
    part.write_text(text, encoding='utf-8')
    os.replace(part, path)


def card(facts: dict[str, Any], results: dict[str, Any]) -> str:
    """Model card."""
    meta, name = facts['meta'], facts['full_name']
    rows = '\n'.join(
        f'| {row["source"]} | {row["images"]:,} | {row["sensor"]} | {row["repository"]} @ '
        f'{row["commit"]} | {row["licence"]} |'
        for row in meta['sources']
    )
    options = '\n'.join(f'| {key} | {value} |' for key, value in facts['training'].items())
    measured = table(results) if results else 'Not measured yet.\n'
    return f"""# {name}

The encoder of an Any-Optical-Model (arXiv 2512.17224), `{facts['model']}`, trained by this project.
It is **not** the model of the paper: that is a ViT-B, trained on 1.26 million images, not public.

```python
import torchgeo_aom

model = torchgeo_aom.load_backbone('{name}', bands='sentinel2:rgb')
```

| Fact | Value |
|---|---|
| File | `{facts['file']}`, half precision |
| SHA-256 | `{meta['sha256']}` |
| Parameters | {meta['num_params']:,} |
| Bands where none are named | {', '.join(meta['bands'])} |
| Patch sizes trained | {', '.join(map(str, meta['patch_sizes']))} px |
| Training | {meta['hours']:g} hours on one CPU core |
| Code | torchgeo_aom {meta['version']} |
| Licence | {meta['licence']} |

## Training

{facts['about']}

| Option | Value |
|---|---|
{options}

{TEACHERS if 'start' in facts['training'] else ''}## Data

{sum(row['images'] for row in meta['sources']):,} images, unlabelled. What any of the measures below
tests on was left out: `examples/weights/rules.py`. Of the chips of `sentinel2_chips`, which have no
georeference, some of water and plain land correlate with EuroSAT chips (at most 0.82).

| Source | Images | Sensor | Repository | Terms |
|---|---|---|---|---|
{rows}

## Measured

`{COMMAND} --weights {name}`, in percent, mean and standard deviation over three seeds where
something can vary; what is not listed has not been measured:

{measured}
## For what, and for what not

A start for probes, fine-tuning and studies of bands with any optical sensor, on small machines. It
has seen few places, mostly of Europe and North America, no radar or hyperspectral images, and
hardly any Sentinel-2 L1C. Do not take it for a measure of what the method of the paper can reach.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write weights and facts, or measures into facts."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0] if __doc__ else None)
    parser.add_argument('--checkpoint', type=Path)
    parser.add_argument('--config', type=Path, help='configuration of the run')
    parser.add_argument('--about', help='how it was trained, in a few sentences')
    parser.add_argument('--hours', type=float, help='what it took')
    parser.add_argument('--results', type=Path, help='results.json of evaluate.py')
    parser.add_argument('--model', default='aom_vitt', choices=SIZES)
    parser.add_argument('--name', default='OPTICAL')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args(argv)
    stem = f'{args.model}_{args.name.lower()}'
    record = args.out / f'{stem}.json'
    full_name = f'{enum_of(args.model).__name__}.{args.name}'
    if args.checkpoint is not None:
        normalize = Normalize(BANDS, product=PRODUCT)
        model = AOM(bands=BANDS, **SIZES[args.model])
        state, _ = read_state_dict(args.checkpoint)
        model.load_state_dict(strip_prefix(state), strict=True)
        content = yaml.safe_load(args.config.read_text(encoding='utf-8'))
        if 'run' in content:  # of pretrain.py
            options = content['run']
            patches = sorted({shape.patch for some in SHAPES.values() for shape in some})
        else:
            options = content['model']['init_args']
            patches = options['patch_sizes']
        extra = {'patch_sizes': json.dumps(patches)}
        path = args.out / f'{stem}.safetensors'
        sha256 = save_weights(model.half(), path, extra, normalize)
        meta = complete_meta(
            {
                'licence': 'MIT; trained on data under the terms listed in sources',
                'dataset': f'{sum(row["images"] for row in origins()):,} images of many sensors',
                'sources': origins(),
                'hours': args.hours,
                'version': __version__,
            },
            facts_of(read_state_dict(path)[1], load_file(path)),
            sha256,
            sum(parameter.numel() for parameter in model.parameters()),
        )
        facts = {
            'name': args.name, 'full_name': full_name, 'model': args.model, 'default': True,
            'file': path.name, 'about': args.about, 'training': options, 'meta': meta,
        }  # fmt: skip
    else:
        facts = json.loads(record.read_text(encoding='utf-8'))
    results = {} if args.results is None else json.loads(args.results.read_text(encoding='utf-8'))
    if results:
        facts['meta']['metrics'] = metrics(results, full_name)
        facts['meta']['speed_loss'] = speed_loss(results)
    validate_meta(facts['meta'], args.model)
    write(record, json.dumps(facts, indent=1) + '\n')
    write(args.out / f'{stem}.md', card(facts, results))
    print(record)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
