"""A pretraining run on one device: float32 parameters, bfloat16 blocks, state that resumes.

Most steps are guided: visible places of random bands predict teachers' maps and spectra, with bands
merged in half of them. Every few steps one has the losses of the paper (Eq. 5, 7 and 8). What a
step does follows from its number, so a run that is stopped goes on bit by bit.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.optim import Muon  # type: ignore[attr-defined]
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConfigError
from ..layers.spectral_groups import spectral_position
from ..rng import generator
from ..tasks.pretrain import PretrainTask
from ..tasks.schedule import muon_groups
from .heads import Heads
from .packed import PackedCorpus
from .step import Batch, Weights, guided_loss, prepare, visible_tokens
from .targets import TargetMaps
from .views import draw, tokens_of

__all__ = ('Engine', 'Run', 'source_shares')


@dataclass(frozen=True)
class Run:
    """Settings of a run.

    Attributes:
        model: name of the model.
        steps: length of the run.
        tokens: tokens of a guided step, about.
        lr: largest learning rate.
        warmup: steps of linear warm-up.
        decay: share of the run at whose end the learning rate falls linearly to zero.
        weight_decay: of matrices.
        seed: of everything drawn.
        paper_every: one step in so many has the losses of the paper; 0 for none.
        paper_images: images of such a step.
        paper_weight: weight of Eq. 8 in it.
        patch_sizes: patch sizes of the decoders.
        sizes: width, depth and heads of the encoder where not those of *model*.
        merge_share: share of the guided steps that merge bands.
        rgb_share: share of the steps on red, green and blue alone, of sources that have more.
        jitter: strength of changes in brightness.
        weights: weights of the parts of the guided loss.
        start: weights to start from.
    """

    model: str = 'aom_vitt'
    steps: int = 1000
    tokens: int = 4096
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.05
    seed: int = 0
    paper_every: int = 8
    paper_images: int = 16
    paper_weight: float = 0.5
    patch_sizes: tuple[int, ...] = (8, 16, 32)
    sizes: Mapping[str, int] = field(default_factory=dict)
    merge_share: float = 0.5
    rgb_share: float = 0.35
    jitter: float = 0.12
    weights: Weights = field(default_factory=Weights)
    start: str | None = None

    def rate(self, step: int) -> float:
        """Learning rate of a step: warm-up, constant, linear to zero."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.lr * min(1.0, max(0.0, left))


def source_shares(corpus: PackedCorpus, fine: float = 0.4) -> dict[str, float]:
    """Share of the steps of each source.

    Within fine and coarse images sources count by the root of their number of chips, times the
    root of their weight: many places teach more than many chips of one.

    Args:
        corpus: the chips.
        fine: share of the steps on chips of 256 px.

    Returns:
        Shares that sum to 1.
    """
    roots = {one.name: math.sqrt(one.count * one.weight) for one in corpus.sources}
    large = {one.name for one in corpus.sources if one.size >= 256}
    sums = {
        kind: sum(v for k, v in roots.items() if (k in large) == kind) for kind in (True, False)
    }
    if not sums[True] or not sums[False]:
        fine = float(bool(sums[True]))
    share = {True: fine, False: 1 - fine}
    return {k: v * share[k in large] / sums[k in large] for k, v in roots.items()}


class Engine:
    """Parameters, optimizer and step counter of a run.

    Args:
        run: settings.
        corpus: packed chips.
        teachers: stored maps, by name.
        device: where it computes.
    """

    def __init__(
        self,
        run: Run,
        corpus: PackedCorpus,
        teachers: Mapping[str, TargetMaps],
        device: str = 'cpu',
    ) -> None:
        """Build everything; nothing is trained."""
        if run.steps < 1 or run.tokens < 64:
            raise ConfigError(
                f'steps must be positive and tokens at least 64, got {run.steps} and {run.tokens}.'
            )
        self.run, self.corpus, self.teachers = run, corpus, dict(teachers)
        self.device = torch.device(device)
        self.shares = source_shares(corpus)
        torch.manual_seed(run.seed)
        sizes: dict[str, Any] = dict(run.sizes)
        # The paper's task, two patch sizes at a time; what is asked besides are the heads.
        self.task = PretrainTask(
            run.model, run.patch_sizes, 2, mask_kind='mixed', negatives='batch', seed=run.seed,
            weights=run.start, bands='rgb', projector_norm='layer', **sizes,
        )  # fmt: skip
        width = self.task.encoder.embed_dim
        self.heads = Heads(width, {name: one.dim for name, one in self.teachers.items()})
        self.trained = nn.ModuleDict({'task': self.task, 'heads': self.heads}).to(self.device)
        self.task.train()
        # Blocks and heads once more in bfloat16: its products are what a step's time goes into.
        self.encoder = copy.deepcopy(self.task.encoder).bfloat16()
        self.small_heads = copy.deepcopy(self.heads).bfloat16()
        self.pairs = [
            *_pairs(self.task.encoder.blocks, self.encoder.blocks),
            *_pairs(self.task.encoder.norm, self.encoder.norm),
            *_pairs(self.heads, self.small_heads),
        ]
        self.optimizer = Muon(
            muon_groups(self.trained, run.weight_decay), lr=run.lr, betas=(0.9, 0.95),
            weight_decay=run.weight_decay, nesterov=True,
        )  # fmt: skip
        self.step = 0
        self.views_seen = 0

    # -- steps -----------------------------------------------------------------------------------

    def is_paper(self, step: int) -> bool:
        """Whether a step has the losses of the paper."""
        every = self.run.paper_every
        return bool(every) and step % every == every - 1

    def one(self) -> dict[str, float]:
        """Take one step; returns the parts of its loss."""
        for group in self.optimizer.param_groups:
            group['lr'] = self.run.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._paper() if self.is_paper(self.step) else self._guided()
        for large, small in self.pairs:
            if small.grad is not None:
                grad = small.grad.float()
                large.grad = grad if large.grad is None else large.grad + grad
                small.grad = None
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        parts['grad_norm'] = float(norm)
        if math.isfinite(parts['grad_norm']):
            self.optimizer.step()
        with torch.no_grad():
            for large, small in self.pairs:
                small.copy_(large)
        self.step += 1
        return parts

    def _guided(self) -> dict[str, float]:
        run = self.run
        view = draw(
            self.corpus, self.shares, self.step, run.seed, run.tokens, run.merge_share,
            run.rgb_share,
        )  # fmt: skip
        batch = self._moved(prepare(self.corpus, self.teachers, view, run.jitter))
        self.views_seen += len(view.chips)
        tokens = visible_tokens(self.task.encoder, batch).bfloat16()
        small = self.encoder
        position = spectral_position(batch.codes, 'index')
        tokens, weight, _ = small.run_blocks(tokens, None, position, view.merge)
        pooled = small.channel_pool(tokens, weight)
        loss, parts = guided_loss(self.small_heads, small.norm, tokens, pooled, batch, run.weights)
        loss.backward()
        return {'loss': float(loss.detach()), 'tokens': float(tokens_of(view)), **parts}

    def _paper(self) -> dict[str, float]:
        run = self.run
        rng = generator(run.seed, 'paper', self.step)
        names = list(self.shares)
        name = names[int(rng.choice(len(names), p=list(self.shares.values())))]
        source = self.corpus.source(name)
        count = min(run.paper_images, source.count)
        ids = [int(k) for k in rng.choice(source.count, count, replace=False)]
        image, valid = self.corpus.read(name, ids)
        corner = rng.integers(0, source.size - 64 + 1, 2)
        row, column = (int(x) for x in corner)
        some = sorted(int(c) for c in rng.permutation(len(source.bands))[:5])
        part = (slice(None), some, slice(row, row + 64), slice(column, column + 64))
        batch = {
            'image': image[part].to(self.device),
            'bands': [source.bands[c] for c in some],
            'key': ids,
            'source': name,
        }
        if valid is not None:
            batch['valid'] = valid[part].to(self.device)
        self.views_seen += count
        with torch.autocast(self.device.type, torch.bfloat16):
            result = self.task.losses(batch, self.step)
        (run.paper_weight * result.loss.float()).backward()
        return {
            'paper': float(result.loss.detach()),
            'reconstruction': float(result.reconstruction.float().mean()),
            'alignment': float(result.alignment.float()),
        }

    def _moved(self, batch: Batch) -> Batch:
        if self.device.type == 'cpu':
            return batch
        for name in ('image', 'codes', 'spectrum', 'counts', 'weights'):
            setattr(batch, name, getattr(batch, name).to(self.device))
        for parts in (batch.places, batch.images):
            parts.update({name: one.to(self.device) for name, one in parts.items()})
        return batch

    # -- state -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        part = Path(path).with_name(f'.{Path(path).name}.part')
        state = {
            'trained': self.trained.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'step': self.step,
            'views': self.views_seen,
            'run': json.dumps(asdict(self.run)),
        }
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on where a run of the same settings was.

        Raises:
            ConfigError: if its settings were others.
        """
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        was, now = json.loads(state['run']), json.loads(json.dumps(asdict(self.run)))
        changed = sorted(key for key in now if was.get(key) != now[key])
        if changed:
            raise ConfigError(
                f'{path} is of a run with other settings: {", ".join(changed)}. Give the same, or '
                'start a new run from its weights.'
            )
        self.trained.load_state_dict(state['trained'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step, self.views_seen = state['step'], state['views']
        with torch.no_grad():
            for large, small in self.pairs:
                small.copy_(large)

    def fit(
        self, folder: str | os.PathLike[str], minutes: float = math.inf, every: float = 3.0
    ) -> None:
        """Train until the run is over or the time is up; state and log go to a folder.

        Args:
            folder: where ``state.pt`` and ``log.csv`` are kept; a run that is there goes on.
            minutes: how long at most.
            every: minutes between two saves.
        """
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        if (out / 'state.pt').exists():
            self.load(out / 'state.pt')
        start = saved = time.monotonic()
        log: dict[str, list[float]] = {}
        with tqdm(total=self.run.steps, initial=self.step, unit='step') as bar:
            while self.step < self.run.steps and time.monotonic() - start < 60 * minutes:
                for key, value in self.one().items():
                    log.setdefault(key, []).append(value)
                bar.update()
                if self.step % 50 == 0:
                    self._write(out / 'log.csv', log)
                    log = {}
                if time.monotonic() - saved > 60 * every:
                    self.save(out / 'state.pt')
                    saved = time.monotonic()
        self.save(out / 'state.pt')

    def _write(self, path: Path, log: Mapping[str, list[float]]) -> None:
        with path.open('a', newline='', encoding='utf-8') as file:
            rows = csv.writer(file)
            now = [f'{time.time():.0f}', self.step, self.views_seen]
            for key, values in sorted(log.items()):
                rows.writerow([*now, key, f'{sum(values) / len(values):.5g}'])


def _pairs(large: nn.Module, small: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return list(zip(large.parameters(), small.parameters(), strict=True))
