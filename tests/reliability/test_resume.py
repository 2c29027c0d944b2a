"""Pretraining survives: kill -9, SIGTERM, Ctrl-C, a full disk; two processes equal one.

The runs are children of one process that has imported everything once, see the end of the file.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = 15  # three epochs of five
KILLS = {
    'mid_epoch': 3,
    'boundary': 6,  # goes on from the last step of the first epoch
    'second_epoch': 8,
    'while_writing': 7,
    'before_the_optimizer': 12,
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all runs ended with."""
    folder = tmp_path_factory.mktemp('runs')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True
    )
    path = folder / 'results.json'
    assert path.is_file(), done.stderr[-4000:]
    result: dict[str, Any] = json.loads(path.read_text())
    return result


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('place', KILLS)
def test_killed_run_ends_bit_identical(runs: dict[str, Any], place: str, workers: int) -> None:
    run = runs[f'{place}_{workers}']
    assert run['killed'] == -signal.SIGKILL
    assert run['resumed'] == 0
    assert run['from_step'] <= KILLS[place]
    assert run['from_step'] >= KILLS[place] - 2
    assert run['hash'] == runs['whole_0']['hash']


def test_number_of_workers_changes_nothing(runs: dict[str, Any]) -> None:
    assert runs['whole_2']['hash'] == runs['whole_0']['hash']
    assert runs['other_seed']['hash'] != runs['whole_0']['hash']


def test_sigterm_saves_and_leaves(runs: dict[str, Any]) -> None:
    run = runs['sigterm']
    assert run['killed'] == 143
    assert run['from_step'] == 4
    assert run['hash'] == runs['whole_0']['hash']


def test_ctrl_c_leaves_what_was_saved(runs: dict[str, Any]) -> None:
    run = runs['sigint']
    assert run['killed'] == 1
    assert run['error'] == ''  # no traceback
    assert run['from_step'] == 4
    assert run['hash'] == runs['whole_0']['hash']


def test_full_disk_keeps_the_last_checkpoint(runs: dict[str, Any]) -> None:
    run = runs['disk_full']
    assert run['killed'] not in (0, -signal.SIGKILL)
    assert 'No space left' in run['error']
    assert run['from_step'] == 5
    assert run['hash'] == runs['whole_0']['hash']


def test_two_processes_equal_one(runs: dict[str, Any]) -> None:
    """Negatives and batch statistics of all devices, missing pixels, an uneven last batch."""
    assert runs['one_process']['code'] == runs['two_processes']['code'] == 0
    assert runs['difference'] < 1e-6
    assert runs['moved'] > 1e-3


# -- the runs ----------------------------------------------------------------------------------


def main(folder: Path) -> None:
    import fsspec.implementations.local as local
    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader, Dataset, Sampler

    from torchgeo_aom.data.samples import EuroSAT200
    from torchgeo_aom.rng import generator
    from torchgeo_aom.tasks.pretrain import PretrainTask
    from torchgeo_aom.transforms import Normalize

    warnings.filterwarnings('ignore')
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    torch.set_num_threads(1)
    bands = ['sentinel2:B02', 'sentinel2:B04', 'sentinel2:B08']
    chips = EuroSAT200(bands)
    normalize = Normalize(bands, product='sentinel2:l1c')
    images = normalize(torch.stack([chips[10 * k]['image'] for k in range(20)]))[..., :16, :16]

    class Chips(Dataset[dict[str, Any]]):
        """A request is a whole batch: (epoch, samples)."""

        def __getitem__(self, request: tuple[int, list[int]]) -> dict[str, Any]:
            epoch, samples = request
            flips = [bool(generator(0, 'flip', epoch, k).integers(2)) for k in samples]
            image = [
                images[k].flip(-1) if f else images[k] for k, f in zip(samples, flips, strict=True)
            ]
            valid = torch.ones(len(samples), *images.shape[1:], dtype=torch.bool)
            for row, sample in enumerate(samples):
                valid[row, 0, : sample % 3] = False
            return {
                'image': torch.stack(image), 'valid': valid, 'bands': bands,
                'key': torch.tensor(samples), 'source': 'eurosat',
            }  # fmt: skip

    class Order(Sampler[tuple[int, list[int]]]):
        """Batches of an epoch, a share of each for this process."""

        def __init__(self, count: int, rank: int, world: int) -> None:
            self.count, self.rank, self.world = count, rank, world
            self.epoch = self.start = self.done = 0

        def set_epoch(self, epoch: int) -> None:
            if epoch != self.epoch:
                self.epoch = epoch
                self.start = self.done = 0

        def __len__(self) -> int:
            return 5

        def __iter__(self) -> Iterator[tuple[int, list[int]]]:
            order = generator(0, 'order', self.epoch).permutation(self.count).tolist()
            for place in range(self.start, 5):
                yield self.epoch, order[4 * place : 4 * place + 4][self.rank :: self.world]

    class Loader(DataLoader[dict[str, Any]]):
        """Knows where it is: by what was handed out, not by what workers have fetched."""

        def __init__(self, order: Order, workers: int) -> None:
            super().__init__(
                Chips(), batch_size=None, sampler=order, num_workers=workers,
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            self.order = order

        def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # torch names a private type
            self.order.done = self.order.start
            for batch in super().__iter__():
                self.order.done += 1
                yield batch

        def state_dict(self) -> dict[str, int]:
            return {'epoch': self.order.epoch, 'done': self.order.done}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.order.set_epoch(state['epoch'])
            self.order.start = self.order.done = state['done']

    def task(**options: Any) -> PretrainTask:
        seed_everything(1)
        return PretrainTask(
            'aom_vitt', (4, 8, 12), embed_dim=16, depth=1, num_heads=2, decoder_width=16,
            decoder_depth=1, projector_dim=8, kernel_sizes=(4, 8), negatives='batch',
            batch_size=4, base_lr=0.06, **{'scales_per_step': 2, **options},
        )  # fmt: skip

    class Disturb(Callback):
        """Does something to the run."""

        def __init__(self, place: str, step: int, action: Callable[[], None]) -> None:
            self.place, self.step, self.action = place, step, action

        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if self.place == 'end' and trainer.global_step == self.step:
                self.action()

        def on_before_zero_grad(self, trainer: Trainer, *args: Any) -> None:
            if self.place == 'start' and trainer.global_step == self.step:
                self.action()

        def on_before_optimizer_step(self, trainer: Trainer, *args: Any) -> None:
            if self.place == 'optimizer' and trainer.global_step == self.step:
                self.action()

        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            if self.place == 'write' and trainer.global_step == self.step - 1:
                write = local.LocalFileOpener.write

                def half(opener: Any, data: bytes) -> int:
                    write(opener, data[: len(data) // 2])
                    opener.flush()
                    self.action()
                    return 0

                local.LocalFileOpener.write = half

    class Finish(Callback):
        """Writes down the weights and what the optimizer remembers."""

        def __init__(self, path: Path) -> None:
            self.path = path

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.is_global_zero:
                state = [*pl_module.state_dict().items()]
                for k, memory in trainer.optimizers[0].state_dict()['state'].items():
                    state += [(f'{k}.{name}', value) for name, value in memory.items()]
                digest = hashlib.sha256()
                for name, value in state:
                    digest.update(name.encode() + value.contiguous().numpy().tobytes())
                torch.save(dict(state), self.path.with_suffix('.pt'))
                self.path.write_text(digest.hexdigest())

    def train(
        name: str,
        workers: int = 0,
        disturb: Disturb | None = None,
        resume: Path | None = None,
        world: int = 1,
        count: int = 20,
        trainer_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        run = folder / name
        callbacks: list[Callback] = [Finish(folder / f'{name}.txt')]
        checkpointing = trainer_options is None
        if checkpointing:
            callbacks.append(ModelCheckpoint(run, '{step}', every_n_train_steps=1, save_top_k=1))
        if disturb:
            callbacks.append(disturb)  # Lightning puts checkpoints last
        trainer = Trainer(
            max_epochs=3, accelerator='cpu', callbacks=callbacks, logger=False,
            enable_checkpointing=checkpointing, enable_progress_bar=False, default_root_dir=run,
            enable_model_summary=False, use_distributed_sampler=False,
            **{'devices': 1, **(trainer_options or {})},
        )  # fmt: skip
        model = task(**options)

        class Rank(Order):
            def __iter__(self) -> Iterator[tuple[int, list[int]]]:
                self.rank = trainer.global_rank  # known once the processes have started
                return super().__iter__()

        trainer.fit(model, Loader(Rank(count, 0, world), workers), ckpt_path=resume)

    def child(name: str, **arguments: Any) -> int:
        """Run in a process of its own; the exit code, negative for a signal."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                sys.stderr = (folder / f'{name}.err').open('a')
                train(name, **arguments)
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 99
            except BaseException as error:
                (folder / f'{name}.error').write_text(repr(error))
            os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def digest(name: str) -> str:
        path = folder / f'{name}.txt'
        return path.read_text() if path.exists() else f'{name} did not end'

    def resumed(name: str, workers: int, killed: int) -> dict[str, Any]:
        found = sorted((folder / name).glob('*.ckpt'), key=lambda path: path.stat().st_mtime)
        path = next((p for p in found if p.stem == 'sigterm'), found[-1])
        step = torch.load(path, weights_only=True)['global_step']
        code = child(name, workers=workers, resume=path)
        error = folder / f'{name}.error'
        return {
            'killed': killed, 'resumed': code, 'from_step': step, 'hash': digest(name),
            'error': error.read_text() if error.exists() else '',
        }  # fmt: skip

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def full() -> None:
        raise OSError(28, 'No space left on device')

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def term() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    results: dict[str, Any] = {}
    for workers in (0, 2):
        child(f'whole_{workers}', workers=workers)
        results[f'whole_{workers}'] = {'hash': digest(f'whole_{workers}')}
        for place, step in KILLS.items():
            kind = {'while_writing': 'write', 'before_the_optimizer': 'optimizer'}.get(place, 'end')
            name = f'{place}_{workers}'
            killed = child(name, workers=workers, disturb=Disturb(kind, step, kill))
            results[name] = resumed(name, workers, killed)
    child('other_seed', seed=1)
    results['other_seed'] = {'hash': digest('other_seed')}
    killed = child('sigterm', disturb=Disturb('end', 4, term))
    results['sigterm'] = resumed('sigterm', 0, killed)
    killed = child('sigint', disturb=Disturb('start', 4, interrupt))
    results['sigint'] = resumed('sigint', 0, killed)
    killed = child('disk_full', disturb=Disturb('write', 6, full))
    results['disk_full'] = resumed('disk_full', 0, killed)

    # In float64, so that rounding does not hide an error; 19 images: a last batch of 2 and 1.
    double: dict[str, Any] = {'precision': '64-true'}
    shared = {**double, 'devices': 2, 'strategy': 'ddp_fork'}
    code = child('one_process', count=19, trainer_options=double, scales_per_step=None)
    results['one_process'] = {'code': code}
    code = child('two_processes', count=19, world=2, trainer_options=shared, scales_per_step=None)
    results['two_processes'] = {'code': code}
    one, two = (torch.load(folder / f'{n}.pt') for n in ('one_process', 'two_processes'))
    start = task(scales_per_step=None).state_dict()
    floats = [k for k in start if start[k].is_floating_point()]
    results['difference'] = max(float((one[k] - two[k]).abs().max()) for k in floats)
    results['moved'] = min(
        float((one[k] - start[k]).abs().max()) for k in floats if 'running' not in k
    )
    (folder / 'results.json').write_text(json.dumps(results))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
