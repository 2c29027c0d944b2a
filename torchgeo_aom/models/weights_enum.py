"""The enums of weights, in torchvision's form and open to new members at run time."""

from __future__ import annotations

import os
from collections import OrderedDict
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch
from torch import Tensor
from torchvision.models import Weights, WeightsEnum

from ..errors import ConfigError, suggest
from ..transforms import Normalize
from .checkpoint import read_state_dict
from .download import fetch
from .loading import FACTS, strip_prefix

__all__ = (
    'ENUMS',
    'AOMBase_Weights',
    'AOMLarge_Weights',
    'AOMSmall_Weights',
    'AOMTiny_Weights',
    'AOMWeights',
    'add_member',
    'enum_of',
    'local_path',
    'members',
    'set_default',
)


def _normalizer() -> None:
    """Stands in the members' values; :attr:`AOMWeights.transforms` reads the meta instead."""


class UnknownWeights(ConfigError, KeyError):
    """There are no weights of that name; a KeyError too, as of any enum."""

    __str__ = Exception.__str__  # a KeyError would quote the message


class _Named(type(WeightsEnum)):  # type: ignore[misc]
    """Enum whose look-up by name says what there is."""

    def __getitem__(cls, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            known = list(cls.__members__)
            raise UnknownWeights(
                f'{cls.__name__} has no weights {name!r}{suggest(name, known)}. Known: '
                f'{", ".join(known) or "none yet; see register_weights"}.'
            ) from None


class AOMWeights(WeightsEnum, metaclass=_Named):  # type: ignore[misc]
    """Base of the weights of all sizes: checked at every use, never executed.

    .. versionadded:: 0.1
    """

    @property
    def transforms(self) -> Normalize:
        """Normalization for the bands and the unit that the weights were trained with.

        Raises:
            ConfigError: if the weights do not state it.
        """
        meta = self.meta
        missing = [key for key in ('unit', 'mean', 'std') if meta.get(key) is None]
        if missing:
            raise ConfigError(
                f'{self} does not state what its images were normalized with: '
                f'{", ".join(missing)} unknown. State it where the file is written, '
                'save_weights(..., normalize=Normalize(...)), or registered, register_weights(..., '
                "meta={'unit': 'sentinel2:l2a', 'mean': [...], 'std': [...]}), with mean and std "
                'in reflectance. Or take a Normalize of your own instead of transforms.'
            )
        unit = meta['unit']
        stored = {'unit': unit} if unit in ('reflectance', 'uint8') else {'product': unit}
        return Normalize(meta['bands'], mean=meta['mean'], std=meta['std'], **stored)

    def get_state_dict(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        map_location: str | torch.device | None = None,
        progress: bool = True,
        check_hash: bool = True,
        file_name: str | None = None,
        weights_only: bool = True,
    ) -> dict[str, Tensor]:
        """Parameters by the backbone's names, from the file, the package or the cache.

        The arguments are those of :func:`torch.hub.load_state_dict_from_url`. The content is
        hashed at every call, whatever *check_hash* says.

        Args:
            model_dir: folder for downloads instead of PyTorch's cache.
            map_location: device for the values.
            progress: whether to show the progress of a download.
            check_hash: for callers that pass it; the hash is always checked.
            file_name: only None: the name in the cache holds the hash.
            weights_only: only True: no file is ever executed.

        Returns:
            Parameters by name.

        Raises:
            CheckpointError: if the file is missing, damaged or tampered with.
            ConfigError: if an argument asks for what is never done.
        """
        if not weights_only or file_name is not None:
            raise ConfigError(
                f'weights_only={weights_only!r}, file_name={file_name!r}: weights are only ever '
                'read as values and cached under their hash; leave both out.'
            )
        meta = self.meta
        path = local_path(self.url)
        if path is None:
            path = fetch(self.url, meta['sha256'], model_dir, progress)
        state_dict, _ = read_state_dict(path, sha256=meta['sha256'])
        own = strip_prefix(state_dict, head=True)
        if map_location is not None:
            own = OrderedDict((key, value.to(map_location)) for key, value in own.items())
        # What shapes do not show travels with the parameters, to any load_state_dict.
        keys = ('num_heads', 'channel_encoding', 'channel_pool', 'speed_loss')
        facts = {key: meta[key] for key in keys if key in meta}
        own._metadata = {'': {FACTS: facts}}  # type: ignore[attr-defined]
        return own

    @classmethod
    def _missing_(cls, value: object) -> AOMWeights | None:
        """Look-up by value, for members added at run time."""
        return next((member for member in members(cls).values() if member.value == value), None)

    def __str__(self) -> str:
        """Full name, which ``get_weight`` finds."""
        return f'{type(self).__name__}.{self.name}'

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """Pickle as name and facts, so that another process knows a user's weights too."""
        return _restore, (type(self).__name__, self.name, self.url, self.meta)


class AOMTiny_Weights(AOMWeights):
    """AOM Tiny (``aom_vitt``) weights.

    .. versionadded:: 0.1
    """


class AOMSmall_Weights(AOMWeights):
    """AOM Small (``aom_vits``) weights.

    .. versionadded:: 0.1
    """


class AOMBase_Weights(AOMWeights):
    """AOM Base (``aom_vitb``) weights.

    .. versionadded:: 0.1
    """


class AOMLarge_Weights(AOMWeights):
    """AOM Large (``aom_vitl``) weights.

    .. versionadded:: 0.1
    """


#: where the model is described
PAPER = 'https://arxiv.org/abs/2512.17224'
ENUMS: dict[str, type[AOMWeights]] = {
    'aom_vitt': AOMTiny_Weights,
    'aom_vits': AOMSmall_Weights,
    'aom_vitb': AOMBase_Weights,
    'aom_vitl': AOMLarge_Weights,
}


def local_path(url: str) -> Path | None:
    """Path of a ``file://`` or ``package://`` URL; None where it has to be downloaded.

    Args:
        url: address of a weights file. ``package://torchgeo_aom/data/x.safetensors`` is a file
            inside an installed package.

    Raises:
        ConfigError: if the scheme is another.
    """
    parts = urlparse(url)
    if parts.scheme == 'file':
        return Path(unquote(parts.path))
    if parts.scheme == 'package':
        return Path(str(resources.files(parts.netloc).joinpath(parts.path.lstrip('/'))))
    if parts.scheme in ('http', 'https'):
        return None
    raise ConfigError(
        f'{url!r} has the scheme {parts.scheme!r}; give a path, or file://, package:// or https://.'
    )


def enum_of(model: str) -> type[AOMWeights]:
    """Enum of the weights of a model.

    Args:
        model: name of a model, with or without a tag.

    Raises:
        ConfigError: if there is no such model.
    """
    name = model.partition('.')[0]
    if name not in ENUMS:
        raise ConfigError(
            f'{model!r} is not an AOM model{suggest(name, ENUMS)}. Known: {", ".join(ENUMS)}.'
        )
    return ENUMS[name]


def add_member(cls: type[AOMWeights], name: str, url: str, meta: dict[str, Any]) -> AOMWeights:
    """Give an enum a member at run time, which Python offers no public way for.

    Args:
        cls: the enum.
        name: name of the member.
        url: address of the file.
        meta: validated facts.

    Returns:
        The member; the one that exists already where the facts are the same.

    Raises:
        ConfigError: if the name stands for other weights.
    """
    # What TorchGeo's own members have: timm.create_model(weights.meta['model'], ...)
    model = next(key for key, enum in ENUMS.items() if enum is cls)
    meta = {'model': model, 'publication': PAPER, **meta}
    value = Weights(url=url, transforms=_normalizer, meta=meta)
    if name in cls._member_map_:
        member: AOMWeights = members(cls)[name]
        if member.meta != meta:
            differ = sorted(
                key for key in {*member.meta, *meta} if member.meta.get(key) != meta.get(key)
            )
            raise ConfigError(
                f'{member} is already registered with other facts ({", ".join(differ)}); choose '
                'another name.'
            )
        member._value_ = value  # the same content may have moved
        return member
    member = object.__new__(cls)
    member._name_ = name
    member._value_ = value
    member.__objclass__ = cls
    member._sort_order_ = len(cls._member_names_)
    cls._member_names_.append(name)
    cls._member_map_[name] = member
    type.__setattr__(cls, name, member)
    return member


def set_default(cls: type[AOMWeights], member: AOMWeights) -> None:
    """Make a member the one that ``pretrained=True`` means, also as ``DEFAULT``.

    Args:
        cls: the enum.
        member: one of its members.
    """
    cls._member_map_['DEFAULT'] = member
    type.__setattr__(cls, 'DEFAULT', member)


def members(cls: type[AOMWeights]) -> dict[str, AOMWeights]:
    """Members of an enum by name, ``DEFAULT`` included."""
    return dict(cls.__members__)


def _restore(enum: str, name: str, url: str, meta: dict[str, Any]) -> AOMWeights:
    """Unpickle a member."""
    cls = next(cls for cls in ENUMS.values() if cls.__name__ == enum)
    if name in cls._member_map_ and members(cls)[name].meta == meta:
        return members(cls)[name]
    return add_member(cls, name, url, meta)
