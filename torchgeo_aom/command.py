"""What commands share: files of options, KEY=VALUE, the folder of results, and messages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from torchgeo_aom.errors import ConfigError

__all__ = (
    'add_sensors_option',
    'add_speed_option',
    'key_values',
    'output_folder',
    'read_options',
    'say',
)


def say(text: str) -> None:
    """Tell the user what is going on: on stderr, apart from results."""
    print(text, file=sys.stderr, flush=True)


def add_sensors_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--sensors`` to a parser or a group of one."""
    parser.add_argument(
        '--sensors', action='append', default=[], metavar='FILE',
        help='add the sensors of this TOML file; may be repeated',
    )  # fmt: skip


def add_speed_option(add: Callable[..., Any]) -> None:
    """Add ``--speed``, without a value where it is not given.

    Args:
        add: ``add_argument`` of a parser or a group of one.
    """
    add(
        '--speed', metavar='MODE',
        help='exact (default), balanced or fast, which merge neighboring bands inside the encoder; '
        'or a schedule of blocks:groups, such as 1:4,4:1',
    )  # fmt: skip


def output_folder(path: Path) -> Path:
    """Make the folder of ``--output``.

    Args:
        path: what the user gave.

    Returns:
        The folder.

    Raises:
        ConfigError: if it cannot be written.
    """
    folder = path.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'--output {folder} cannot be written: {error}') from error
    return folder


def read_options(path: Path) -> dict[str, Any]:
    """Read the YAML file of ``--config``.

    Args:
        path: the file.

    Returns:
        Values by the name of their option.

    Raises:
        ConfigError: if it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'--config {path} cannot be read: {error}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'--config {path} must hold options by name, such as seeds: 3')
    return values


def key_values(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Values of an option that takes KEY=VALUE, read as YAML.

    Args:
        texts: what the user gave.
        option: the option, for messages.

    Returns:
        Values by key, with underscores.

    Raises:
        ConfigError: if there is no equals sign, or the value is no YAML.
    """
    found = {}
    for text in texts:
        key, sign, value = text.partition('=')
        if not sign or not key:
            raise ConfigError(f'{option} takes KEY=VALUE, got {text!r}')
        try:
            found[key.replace('-', '_')] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f'{option} {text!r} cannot be read: {error}') from error
    return found
