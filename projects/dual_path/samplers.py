"""Every image once in an epoch, with a negative beside it if wanted."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from sen_toolbox.datasets.samplers import share_of_rank
from sen_toolbox.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ImageOnceSampler(Sampler):
    """A pass over the images in random order, each with one of its captions.

    With ``negatives`` the order is one of couples: the second image of each has another identity
    than the first, and is drawn anew among all images while it has not.

    With several processes all make the same draw for the batch of all processes together; each
    takes its consecutive part of every such batch. Of the last, partial batch each takes the same
    number; some last items are left out.

    Args:
        dataset: Data set whose records have a ``person_id`` and an ``img_path``.
        batch_size: Samples in a batch of one process, as in the data loader.
        negatives: Whether items come in couples; ``batch_size`` is then even.
        seed: The same for all processes; None agrees on a random one.

    Raises:
        ValueError: If the batch is odd, or there is one identity alone.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        *,
        batch_size: int,
        negatives: bool = False,
        seed: int | None = None,
    ) -> None:
        if negatives and batch_size % 2:
            raise ValueError(f'batch_size must be even for couples, got {batch_size}')
        self.rank, self.world_size = get_dist_info()
        self.batch_size, self.negatives = batch_size, negatives
        images: dict[str, list[int]] = {}
        for index in range(len(dataset)):
            images.setdefault(dataset.get_data_info(index)['img_path'], []).append(index)
        self.items_of_image = list(images.values())
        self.persons = [
            dataset.get_data_info(items[0])['person_id'] for items in self.items_of_image
        ]
        if negatives and len(set(self.persons)) < 2:
            raise ValueError('one identity alone has no negatives')
        self.seed = sync_random_seed() if seed is None else seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of items of this process in an epoch."""
        return len(self._share(range(len(self.items_of_image))))

    def __iter__(self) -> Iterator[int]:
        """Yields the indices of this process."""
        return iter(self._share(self.draw(np.random.default_rng([self.seed, self.epoch]))))

    def _share(self, drawn: Sequence[int]) -> list[int]:
        couple = 2 if self.negatives else 1
        global_batch = self.batch_size * self.world_size
        return share_of_rank(drawn, global_batch, self.rank, self.world_size, multiple=couple)

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Returns the indices of one epoch for all processes together."""
        order = rng.permutation(len(self.items_of_image)).tolist()
        if self.negatives:
            for first in range(0, len(order) - 1, 2):
                while self.persons[order[first + 1]] == self.persons[order[first]]:
                    order[first + 1] = int(rng.integers(len(order)))
        return [int(rng.choice(self.items_of_image[image])) for image in order]
