"""Options that the commands of several studies share."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..command import key_values, output_folder
from ..models.patch_rule import read_patch_size
from .cli import values_of

__all__ = ('common_values',)


def common_values(options: argparse.Namespace, kind: type[Any]) -> tuple[dict[str, Any], Path]:
    """Values of a study from the command line and its file.

    Args:
        options: what was parsed.
        kind: dataclass of the study.

    Returns:
        Arguments of the dataclass, and the folder for results.

    Raises:
        ConfigError: if an option is unknown or cannot be used.
    """
    given = dict(vars(options))
    config, output = given.pop('config', None), given.pop('output')
    arguments = key_values(given.pop('dataset_arg', []), '--dataset-arg')
    if 'root' in given and 'root' not in (field.name for field in fields(kind)):
        arguments['root'] = given.pop('root')
    if arguments:
        given['dataset_args'] = arguments
    if 'preset' in given:
        given['presets'] = key_values(given.pop('preset'), '--preset')
    if 'patch_size' in given:
        given['patch_size'] = read_patch_size(given['patch_size'])
    return values_of(config, given, kind), output_folder(output)
