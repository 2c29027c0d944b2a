"""Reproduction cards: what the paper prints, and results of other commands beside it."""

import json
import re
from pathlib import Path

import pytest

from torchgeo_aom.cli import main as cli
from torchgeo_aom.errors import DataError
from torchgeo_aom.studies.cards import cards_report, paper_cards
from torchgeo_aom.studies.results import read_results


def test_every_table_and_figure_with_results() -> None:
    names = [card['name'] for card in paper_cards()]
    assert names == [
        'Table 1', 'Table 2', 'Table 3', 'Figure 3', 'Figure 4', 'Figure 5', 'Figure 6',
        'Table 4', 'Table 5',
    ]  # fmt: skip
    assert all(card['commands'] and card['deviations'] for card in paper_cards())


def test_commands_name_files_that_exist(root: Path) -> None:
    for card in paper_cards():
        for command in card['commands']:
            for path in re.findall(r'examples/\S+\.yaml', command):
                assert (root / path).is_file(), path


def test_nothing_measured() -> None:
    text = cards_report([], 'this').markdown()
    assert '| m-cashew-plant | 68.3 | CROMA 55.6 | not measured |' in text
    assert 'The paper prints no values; ours: not measured, figures to look at.' in text
    assert text.count('Command: ') >= text.count('Seeds: ') == text.count('Deviations: ') == 9


def test_results_of_all_commands(tmp_path: Path) -> None:
    (tmp_path / 'probe').mkdir()
    row = {'bands': 'all bands', 'probe': 'linear', 'scores': {'accuracy': [[0.8], [0.9]]}}
    rows = [{**row, 'method': 'runs/mine.safetensors'}, {**row, 'method': 'statistics'}]
    config = {'dataset': 'UCMerced', 'model': 'aom_vitt'}
    (tmp_path / 'probe' / 'results.json').write_text(json.dumps({'config': config, 'rows': rows}))
    (tmp_path / 'segment').mkdir()
    lines = [
        {'dataset': 'SPARCS', 'bands': 'all', 'method': 'upernet', 'model': 'aom_vitt',
         'weights': None, 'seed': seed, 'mean IoU': 0.4 + seed / 10}
        for seed in range(2)
    ]  # fmt: skip
    text = '\n'.join(map(json.dumps, [*lines, {**lines[0], 'method': 'pixels'}]))
    (tmp_path / 'segment' / 'results.jsonl').write_text(text + '\n')
    (tmp_path / 'study').mkdir()
    found = {'dataset': 'EuroSAT', 'bands': 'RGB', 'run': '', 'scores': [0.7]}
    patches = {'dataset': 'UCMerced', 'bands': 'all', 'run': 'patch sizes', 'scores': [0.6]}
    listed = [{**found, 'model': 'aom_vitt (mine)'}, {**found, 'model': 'statistics'}]
    listed += [{**patches, 'model': f'aom_vitt (mine), {size} px'} for size in (8, 16)]
    facts = {'results': listed}
    (tmp_path / 'study' / 'study.json').write_text(json.dumps(facts))
    results = read_results([tmp_path / name for name in ('probe', 'segment', 'study')])
    page = cards_report(results, 'this').markdown()
    assert (
        '85.0 ± 7.1 (aom_vitt (mine.safetensors), all bands, 2 seeds; probe/results.json)' in page
    )
    assert '45.0 ± 7.1 (aom_vitt (random), all, 2 seeds; segment/results.jsonl)' in page
    assert '| 95.5 | not printed | 70.0 (aom_vitt (mine), RGB, 1 seed; study/study.json) |' in page
    assert '(statistics' not in page
    assert '60.0 (aom_vitt (mine), 8 px, all, 1 seed; study/study.json); 60.0 (aom_vitt' in page


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='holds no results'):
        read_results([tmp_path])
    (tmp_path / 'study.json').write_text('{"results": [{}]}')
    with pytest.raises(DataError, match='cannot be read'):
        read_results([tmp_path])


def test_command(tmp_path: Path) -> None:
    assert cli(['study', 'cards', '--output', str(tmp_path)]) == 0
    assert 'Table 5' in (tmp_path / 'report.html').read_text()
