"""The data module of GEO-Bench v1: `BandDataModule` with the arguments of `GeoBench`."""

from __future__ import annotations

from ..datasets.geobench import GeoBench
from .base import BandDataModule, Bands
from .batches import Sides

__all__ = ('GeoBenchDataModule',)


class GeoBenchDataModule(BandDataModule):
    """Splits of a task of GEO-Bench v1 as normalized batches, see `BandDataModule`.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        task: str = 'm-eurosat',
        root: str = 'data',
        bands: Bands | None = None,
        partition: str = 'default',
        product: str | None = None,
        ignore_no_data: bool = False,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        normalization: str = 'task',
        crop: Sides | None = None,
        eval_crop: Sides | None = None,
        pad: Sides | None = None,
        resize: Sides | None = None,
        flip: bool = True,
        rotate: bool = True,
        strict: bool = False,
        cache_dir: str | None = None,
    ) -> None:
        """Check the arguments; files are looked at later.

        Args:
            task: name of the task, such as ``'m-eurosat'``.
            root: the folder that holds ``classification_v1.0`` and ``segmentation_v1.0``, or the
                folder of the task itself.
            bands: bands wanted, in their order; all optical ones where not given.
            partition: which list of samples: ``'default'``, or ``'0.01x_train'`` and others with
                fewer samples to train on.
            product: how values are stored, instead of what is known of the task.
            ignore_no_data: leave pixels of the class "no data" out of losses and scores; the
                benchmark itself counts them as a class.
            batch_size: images a batch in training.
            eval_batch_size: images a batch elsewhere; the same where not given.
            num_workers: processes that load.
            normalization: mean and standard deviation of each band: ``'task'``, those that the
                benchmark brings (of all splits together); ``'measured'``, those of the training
                split; ``'catalogue'``, those that fit the product; or the name of statistics, such
                as ``'sentinel2:l2a'``.
            crop: in training, cut out this height and width anywhere.
            eval_crop: elsewhere, cut this height and width from the middle.
            pad: pad images to at least this height and width first.
            resize: resize images to this height and width, masks by nearest neighbor.
            flip: flip images in training.
            rotate: turn images by multiples of 90 degrees in training.
            strict: raise instead of warn where values contradict the product.
            cache_dir: where measured statistics are kept; the user's cache where not given.

        Raises:
            ConfigError: if an argument is unknown, or two contradict each other.
        """
        arguments = {
            'task': task,
            'root': root,
            'partition': partition,
            'ignore_no_data': ignore_no_data,
        }
        super().__init__(
            GeoBench,
            arguments if product is None else {**arguments, 'product': product},
            bands,
            batch_size,
            eval_batch_size,
            num_workers,
            'geobench:task' if normalization == 'task' else normalization,
            crop=crop,
            eval_crop=eval_crop,
            pad=pad,
            resize=resize,
            flip=flip,
            rotate=rotate,
            strict=strict,
            cache_dir=cache_dir,
        )
