"""Weights as plain text: what is known is found by eye."""

from torchgeo_aom.models.weights import AOMWeights
from torchgeo_aom.models.weights_table import facts_text, weights_text

FACTS = {
    'name': 'AOMTiny_Weights.MINE',
    'unit': None,
    'mean': [0.1 + 0.2, 1 / 3, 2.0],
    'bands': [f'sentinel2:B{k:02}' for k in range(1, 13)],
    'notes': '',
    'metrics': [],
    'sources': [
        {'source': 'a', 'images': 1260, 'licence': 'MIT'},
        {'source': 'long name', 'images': 3, 'licence': 'MIT', 'commit': 'a1b8f0c'},
    ],
}


def test_facts() -> None:
    lines = facts_text(FACTS).splitlines()
    assert lines[:3] == [
        'name     AOMTiny_Weights.MINE',
        'unit     not stated',
        'mean     0.3, 0.3333333, 2',
    ]
    assert max(map(len, lines)) <= 100
    bands = ' '.join(line.removeprefix('bands').strip() for line in lines[3:5])
    assert bands.split(', ') == FACTS['bands']
    assert lines[5:7] == ['notes', 'metrics  none']
    assert lines[7:] == [
        '',
        'sources (2)',
        '  licence: MIT',
        '  source     images  commit',
        '  a          1260',
        '  long name  3       a1b8f0c',
    ]


def test_list(member: AOMWeights) -> None:
    lines = weights_text().splitlines()
    assert [line.split()[0] for line in lines] == ['aom_vitt', 'aom_vits', 'aom_vitb', 'aom_vitl']
    assert lines[0].split(maxsplit=2)[1] == str(member)
    assert '3 bands' in lines[0] and 'patches of 8, 16 px' in lines[0]
    assert lines[0].endswith('random numbers') and '(default)' not in lines[0]
    assert lines[1] == 'aom_vits  no trained weights yet'
