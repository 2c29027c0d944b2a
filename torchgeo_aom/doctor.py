"""What is installed and what works: the report of ``torchgeo-aom doctor``."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torchgeo_aom import __version__
from torchgeo_aom.files import cache_folder

__all__ = ('Report', 'diagnose')

# Distributions that matter, in the order of the report, and what has to be importable.
REQUIRED = {
    'torch': 'torch',
    'torchvision': 'torchvision',
    'torchgeo': 'torchgeo.models',
    'timm': 'timm',
    'segmentation-models-pytorch': 'segmentation_models_pytorch',
    'lightning': 'lightning',
    'rasterio': 'rasterio',
    'torchmetrics': 'torchmetrics',
    'safetensors': 'safetensors',
    'requests': 'requests',
    'numpy': 'numpy',
    'pandas': 'pandas',
    'matplotlib': 'matplotlib',
    'tqdm': 'tqdm',
}
# Distributions of the extras, and what each is for.
OPTIONAL = {
    'scikit-learn': ('probe', 'linear probes and band studies'),
    'h5py': ('geobench', 'GEO-Bench'),
    'geobenchv2': ('geobenchv2', 'GEO-Bench-2'),
    'pycocotools': ('detection', 'object detection'),
    'pyarrow': ('scene', 'vectors of scenes'),
    'onnxscript': ('onnx', 'writing ONNX files'),
    'onnxruntime': ('onnx', 'running ONNX files'),
}
# These have environments of their own, since their requirements differ from ours.
PROGRAMS = {'terratorch': 'terratorch', 'torchgeo-bench': 'torchgeo-bench'}


@dataclass
class Report:
    """Facts about this machine, and what is wrong with it.

    .. versionadded:: 0.1
    """

    python: str
    system: str
    packages: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    cache: dict[str, str] = field(default_factory=dict)
    models: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    imported: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {'torchgeo_aom': __version__} | asdict(self)

    def __str__(self) -> str:
        """The report in plain text."""
        lines = [f'torchgeo_aom {__version__}, Python {self.python}, {self.system}']
        for title, rows in (
            ('Packages', self.packages),
            ('Optional packages', self.optional),
            ('Other programs, in environments of their own', self.programs),
            ('Devices', self.devices),
            ('Cache', self.cache),
            ('Models registered with', {k: ', '.join(v) for k, v in self.models.items()}),
        ):
            if rows:
                lines += ['', title]
                lines += [f'  {name:<28} {value}' for name, value in rows.items()]
        problems = [f'  {problem}' for problem in self.problems] or ['  none']
        lines += ['', 'Problems', *problems]
        if not self.imported:
            lines += [
                '',
                'Packages were found, not imported: doctor --imports does that, and lists',
            ]
            lines += ['devices and models.']
        return '\n'.join(lines)


def diagnose(imports: bool = True) -> Report:
    """Look at packages, devices and registered models.

    Args:
        imports: whether to import the packages too, which finds broken ones, and to ask them for
            devices and models. It takes seconds; without it, packages are only found.

    Returns:
        The report; ``problems`` is empty if everything that every use needs is there.

    .. versionadded:: 0.1
    """
    report = Report(platform.python_version(), platform.platform(), imported=imports)
    bounds = _bounds()
    for name, module in REQUIRED.items():
        version = _version(name)
        report.packages[name] = version or 'missing'
        if version is None:
            report.problems.append(f"{name} is missing: pip install '{name}{bounds.get(name, '')}'")
            continue
        if name in bounds and not bounds[name].contains(version, prereleases=True):
            report.problems.append(
                f"{name} {version} is not supported: pip install '{name}{bounds[name]}'"
            )
        if not imports:
            if find_spec(module.partition('.')[0]) is None:
                report.problems.append(f'{name} {version} has no files: install it again')
            continue
        try:
            import_module(module)
        except Exception as error:  # a broken binary raises anything
            report.problems.append(f'{name} {version} cannot be imported: {_first_line(error)}')
    for name, (extra, use) in OPTIONAL.items():
        install = f"missing, for {use}: pip install 'torchgeo_aom[{extra}]'"
        report.optional[name] = _version(name) or install
    for name, extra in PROGRAMS.items():
        report.programs[name] = _version(name) or f"not here: pip install 'torchgeo_aom[{extra}]'"
    _cache(report)
    if imports:
        _devices(report)
        _models(report)
    return report


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _bounds() -> dict[str, Any]:
    """Version bounds of our requirements; none if the package runs from a folder."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires('torchgeo_aom') or []
    except metadata.PackageNotFoundError:
        return {}
    requirements = [Requirement(line) for line in lines if 'extra ==' not in line]
    return {requirement.name: requirement.specifier for requirement in requirements}


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.splitlines()[0]


def _devices(report: Report) -> None:
    try:
        import torch
    except Exception:  # said above
        return
    report.devices['cpu'] = f'{os.cpu_count()} cores, {torch.get_num_threads()} threads'
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        report.devices[f'cuda:{index}'] = f'{facts.name}, {facts.total_memory / 2**30:.0f} GiB'
    if torch.backends.mps.is_available():
        report.devices['mps'] = 'Apple GPU'


def _cache(report: Report) -> None:
    # Where torch.hub keeps files, by its documented rule; nothing here sets another folder.
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    home = Path(os.environ.get('TORCH_HOME') or f'{cache}/torch').expanduser()
    weights = home / 'hub' / 'checkpoints'
    for name, folder in (
        ('features', cache_folder('features')),
        ('statistics', cache_folder('statistics')),
        ('downloaded weights', weights),
    ):
        sizes = [path.stat().st_size for path in folder.glob('*') if path.is_file()]
        held = f'{len(sizes)} files, {sum(sizes) / 2**20:.0f} MiB' if sizes else 'empty'
        report.cache[name] = f'{folder}  ({held})'


def _models(report: Report) -> None:
    try:
        import timm
        from segmentation_models_pytorch.encoders import encoders
        from torchgeo.models import list_models

        from torchgeo_aom.models.registry import register

        register()
    except Exception as error:  # the report has to say so rather than stop
        report.problems.append(f'the models cannot be registered: {_first_line(error)}')
        return
    report.models = {
        'timm': timm.list_models('aom_*'),
        'smp': sorted(name for name in encoders if re.fullmatch(r'aom_\w+', name)),
        'torchgeo': [name for name in list_models() if name.startswith('aom_')],
    }
