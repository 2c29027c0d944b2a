"""The command ``torchgeo-aom``: results on stdout, everything else on stderr, exit code 0, 1 or 2.

Training verbs go to TorchGeo's own command line, so that every option of it works; the others are
parsed here. Libraries are imported, and models registered, by the verb that needs them: help texts,
``bands``, ``plan``, ``weights list`` and ``doctor`` need none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from torchgeo_aom import __version__
from torchgeo_aom.command import add_sensors_option, add_speed_option
from torchgeo_aom.errors import AOMError, ConfigError
from torchgeo_aom.verbs import (
    BANDS_EPILOG,
    DESCRIPTION,
    DOCTOR_EPILOG,
    EPILOG,
    MODULES,
    PARSERS,
    PLAN_EPILOG,
    PRETRAIN,
    TRAINING,
    WEIGHTS_EPILOG,
)

__all__ = ('main',)

PROG = 'torchgeo-aom'


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process where not given.

    Returns:
        The exit code: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except AOMError as error:
        print(f'{PROG}: {type(error).__name__}: {error}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(
            f'{PROG}: the package {error.name!r} is missing; `{PROG} doctor` says what to install.',
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f'{PROG}: interrupted', file=sys.stderr)
        return 130
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else ''
    module, name = MODULES[verb][1] if verb in MODULES else None, verb
    if verb in PRETRAIN and '--pretrain' in arguments:
        module, name = PRETRAIN[verb], f'{verb} --pretrain'
        arguments = [argument for argument in arguments if argument != '--pretrain']
    elif verb == 'probe' and '--loading' in arguments:
        name = 'probe --loading'
    elif verb == 'study':
        name = ' '.join(arguments[:2])
    if module is not None:
        if {'-h', '--help'} & set(arguments):
            _help(name)
        else:
            _register()
        run: Callable[[list[str]], int] = import_module(module).main
        return run(arguments[1:])
    if verb in TRAINING:
        return _train(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if not verb:
        parser.print_help(sys.stderr)
        return 2
    return int(options.run(options))


def _help(name: str) -> None:
    """Print the help of a verb and stop, where its options are known without its libraries."""
    if name in PARSERS:
        room, _, function = PARSERS[name].partition(':')
        getattr(import_module(f'torchgeo_aom.commands.{room}'), function)().parse_args(['--help'])


def _register() -> None:
    """Register the models, which importing the package leaves to its command."""
    from torchgeo_aom.models.registry import register

    register()


def _train(arguments: list[str]) -> int:
    _register()
    # Lightning starts the other processes of a distributed run with the arguments of this one.
    sys.argv[1:] = arguments
    import_module('torchgeo.main').main()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROG,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    verbs = parser.add_subparsers(title='verbs', metavar='VERB', dest='verb')

    bands = _verb(
        verbs, 'bands', 'show what bands mean to the model, list presets', BANDS_EPILOG, _bands
    )
    bands.add_argument(
        'spec', nargs='*', metavar='SPEC', help='bands in the order of the channels, as said below'
    )
    _add_sensor_options(bands)
    bands.add_argument(
        '--list', action='store_true', help='list all presets, with the bands of each, and stop'
    )

    plan = _verb(
        verbs, 'plan', 'say what an image costs: tokens, operations, memory', PLAN_EPILOG, _plan
    )
    plan.add_argument('--model', default='aom_vitb', help='model name (default: %(default)s)')
    plan.add_argument(
        '--bands',
        nargs='+',
        metavar='SPEC',
        help="bands (default: those of the model's tag, else rgb)",
    )
    _add_sensor_options(plan)
    plan.add_argument(
        '--size',
        nargs='+',
        type=int,
        default=[224],
        metavar='PX',
        help='image height and width; one number for a square (default: 224)',
    )
    plan.add_argument(
        '--patch',
        type=_patch_size,
        default=16,
        metavar='PX',
        help="patch size, or 'auto': about 16 x 16 patches a band (default: %(default)s)",
    )
    plan.add_argument(
        '--gsd',
        type=float,
        metavar='M',
        help='meters a pixel, for --patch auto; it goes by --size where not given',
    )
    plan.add_argument(
        '--batch', type=int, default=1, metavar='N', help='images a batch (default: %(default)s)'
    )
    plan.add_argument(
        '--dtype',
        default='float32',
        help='number format: float32, bfloat16 or float16 (default: %(default)s)',
    )
    add_speed_option(plan.add_argument)

    weights = _verb(verbs, 'weights', 'list, show and export weights', WEIGHTS_EPILOG, None)
    actions = weights.add_subparsers(title='actions', metavar='ACTION', required=True)
    every = _verb(actions, 'list', 'list all known weights', WEIGHTS_EPILOG, _weights_list)
    show = _verb(
        actions, 'show', 'show all facts about some weights', WEIGHTS_EPILOG, _weights_show
    )
    show.add_argument(
        'name', metavar='NAME', help='as in the list, for example AOMTiny_Weights.OPTICAL'
    )
    export = _verb(
        actions,
        'export',
        'write the encoder of a checkpoint as safetensors',
        WEIGHTS_EPILOG,
        _weights_export,
    )
    export.add_argument('checkpoint', metavar='CKPT', help='a Lightning checkpoint or weights file')
    export.add_argument('output', metavar='OUT', help='the file to write, ending in .safetensors')
    export.add_argument(
        '--overwrite', action='store_true', help='replace OUT and its model card (.md)'
    )
    for action in (every, show, export):
        action.add_argument('--json', action='store_true', help='print JSON')

    doctor = _verb(
        verbs,
        'doctor',
        'check versions, optional packages, the cache; devices and models with --imports',
        DOCTOR_EPILOG,
        _doctor,
    )
    doctor.add_argument(
        '--imports',
        action='store_true',
        help='also import the packages, which finds broken ones, and list devices and models',
    )
    doctor.add_argument('--json', action='store_true', help='print JSON')

    # Listed for the help only: these parse their own arguments.
    for name, text in {**{k: v[0] for k, v in MODULES.items()}, **TRAINING}.items():
        verbs.add_parser(name, help=text)
    return parser


def _patch_size(text: str) -> int | str:
    return text if text == 'auto' else int(text)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    epilog: str,
    run: Callable[[argparse.Namespace], int] | None,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_sensor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--sensor', metavar='NAME', help='sensor of the bands that name none, such as sentinel2'
    )
    add_sensors_option(parser)
    parser.add_argument('--json', action='store_true', help='print JSON')


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _bands(options: argparse.Namespace) -> int:
    from torchgeo_aom.bands import band_rows, describe_bands, resolve_bands

    presets = _presets(options.sensors)
    if options.list:
        if options.json:
            _print_json(presets)
        else:
            width = max(map(len, presets))
            print('\n'.join(f'{name:<{width}}  {text}' for name, text in presets.items()))
        return 0
    if not options.spec:
        options.parser.error('name at least one band or preset, or give --list')
    # Only a look-up: two names of one band are worth seeing here, and an error for a model.
    bands = resolve_bands(_single(options.spec), options.sensor, allow_duplicates=True)
    if len({band.index for band in bands}) < len(bands):
        print(f'{PROG}: note: some of these are the same band to the model', file=sys.stderr)
    if options.json:
        _print_json(band_rows(bands))
    else:
        print(describe_bands(bands))
    return 0


def _presets(files: Sequence[str]) -> dict[str, str]:
    """Add the sensors of some files, then name every preset with the bands behind it."""
    from torchgeo_aom.bands import list_presets, load_sensors, resolve_bands

    for path in files:
        load_sensors(path)
    return {name: ' '.join(band.name for band in resolve_bands(name)) for name in list_presets()}


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _plan(options: argparse.Namespace) -> int:
    from torchgeo_aom.bands import load_sensors, resolve_bands
    from torchgeo_aom.models.plan import describe
    from torchgeo_aom.models.speed import read_speed

    for path in options.sensors:
        load_sensors(path)
    plan = describe(
        options.model,
        bands=resolve_bands(_single(options.bands), options.sensor) if options.bands else None,
        size=_single(options.size),
        patch_size=options.patch,
        batch_size=options.batch,
        dtype=options.dtype,
        gsd_m=options.gsd,
        speed=options.speed and read_speed(options.speed),
    )
    if options.json:
        _print_json(plan.as_dict())
    else:
        print(plan)
    return 0


def _weights_list(options: argparse.Namespace) -> int:
    from torchgeo_aom.models.names import SIZES
    from torchgeo_aom.models.published import published_facts
    from torchgeo_aom.models.weights_table import weights_text

    known = published_facts()  # nothing registers others in the process of a command
    if options.json:
        names: dict[str, list[str]] = {model: [] for model in SIZES}
        for facts in known:
            full = str(facts['full_name'])
            enum = full.partition('.')[0]
            names[facts['model']] += [full, f'{enum}.DEFAULT'] if facts.get('default') else [full]
        _print_json(names)
    else:
        print(weights_text(known))
    return 0


def _weights_show(options: argparse.Namespace) -> int:
    from torchgeo_aom.models.weights import find_weights
    from torchgeo_aom.models.weights_table import facts_text

    member = find_weights(options.name)
    facts = {'name': str(member), 'url': member.url, **member.meta}
    if options.json:
        _print_json(facts)
    else:
        print(facts_text(facts))
    return 0


def _weights_export(options: argparse.Namespace) -> int:
    from torchgeo_aom.models.card import card_facts, write_card
    from torchgeo_aom.models.weights import export_checkpoint

    card = os.path.splitext(options.output)[0] + '.md'
    for path in (options.output, card):
        if os.path.exists(path) and not options.overwrite:
            raise ConfigError(f'{path} exists; name another file or give --overwrite.')
    sha256 = export_checkpoint(options.checkpoint, options.output)
    write_card(card, card_facts(options.checkpoint, options.output, sha256))
    if options.json:
        _print_json({'path': options.output, 'sha256': sha256, 'card': card})
    else:
        print(f'{options.output}  sha256 {sha256}')
        print(f'{card}  model card, a draft: complete what says TODO')
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from torchgeo_aom.doctor import diagnose

    report = diagnose(options.imports)
    if options.json:
        _print_json(report.as_dict())
    else:
        print(report)
    return 1 if report.problems else 0
