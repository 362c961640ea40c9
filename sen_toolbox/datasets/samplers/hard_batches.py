"""A sampler that puts persons into a batch whom the model finds alike."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info
from torch import Tensor
from torch.utils.data import Sampler

from sen_toolbox.checks import checked_at_least
from sen_toolbox.datasets.samplers.sharing import share_of_rank
from sen_toolbox.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class HardBatchSampler(Sampler):
    """Every item once in an epoch, in batches made of groups of persons who are alike.

    A batch drawn at random rarely holds two persons in the same clothes, so the main colours are
    mostly enough for a contrastive loss. Here an epoch is a number of
    rounds. In each, every person who has items left gives one; :func:`groups_alike` divides these
    persons, and the groups come in random order. So a person comes twice in a batch only across
    the border of two rounds.

    A ``HardBatchHook`` gives it the order before each epoch, by what the model has learned until
    then.

    With several processes all have the order of all; of each batch of theirs together, one takes
    its consecutive part (:func:`share_of_rank`).

    Args:
        dataset: Data set whose records have a ``person_id``.
        batch_size: Samples in a batch of one process, as in the data loader.
        group_size: Persons in a group, at least 1.
        seed: That of the run, which MMEngine gives every sampler; the hook draws by it.

    Raises:
        ValueError: If ``group_size`` is below 1.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        *,
        batch_size: int,
        group_size: int = 16,
        seed: int | None = None,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.global_batch = batch_size * self.world_size
        self.group_size = checked_at_least('group_size', group_size, 1)
        self.size = len(dataset)
        items: dict[int, list[int]] = {}
        for index in range(self.size):
            items.setdefault(dataset.get_data_info(index)['person_id'], []).append(index)
        self.items_of_person = list(items.values())
        self._order: list[int] | None = None

    def __len__(self) -> int:
        """Number of items of this process in an epoch."""
        return len(self._share(range(self.size)))

    def set_order(self, order: Tensor) -> None:
        """Sets the indices (items,) of the next epochs, for all processes together.

        Raises:
            ValueError: If they are not those of the data set, each once.
        """
        # It may come out of a checkpoint.
        items = order.flatten().long().tolist() if isinstance(order, Tensor) else []
        if sorted(items) != list(range(self.size)):
            raise ValueError(
                f'the order of hard batches has {len(items)} items, which are not the '
                f'{self.size} of the data set, each once'
            )
        self._order = items

    def __iter__(self) -> Iterator[int]:
        """Yields the indices of this process.

        Raises:
            ValueError: If there is no order yet.
        """
        if self._order is None:
            raise ValueError(
                'HardBatchSampler has no order: give the config a HardBatchHook, '
                "default_hooks=dict(hard_batches=dict(type='HardBatchHook'))"
            )
        return iter(self._share(self._order))

    def _share(self, drawn: Sequence[int]) -> list[int]:
        return share_of_rank(drawn, self.global_batch, self.rank, self.world_size)

    def draw(self, vectors: np.ndarray, rng: np.random.Generator) -> list[int]:
        """Returns the indices of one epoch for all processes together.

        Args:
            vectors: What the model makes of each person (persons, D), in the order of
                ``items_of_person``.
            rng: Draws directions and orders.
        """
        shuffled = [rng.permutation(items).tolist() for items in self.items_of_person]
        drawn: list[int] = []
        for number in range(max(map(len, shuffled))):
            persons = [p for p, items in enumerate(shuffled) if len(items) > number]
            groups = groups_alike(vectors[persons], self.group_size, rng)
            for group in rng.permutation(len(groups)):
                drawn += [shuffled[persons[member]][number] for member in groups[group]]
        return drawn


def groups_alike(vectors: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Divides vectors into groups that are alike, by a random projection tree.

    Dasgupta and Freund, STOC 2008: a part is cut in two at the middle of its projections on a
    random direction, until the parts are small. Exact neighbours would be the same ones again and
    again, and would take the square of the time.

    Args:
        vectors: (n, D), n from 1.
        size: Of a group; only the last has fewer where it does not divide n.
        rng: Draws one direction for each level of the tree.

    Returns:
        Positions, 0..n-1, of the members of each group.
    """
    parts = [np.arange(len(vectors))]
    while len(parts[0]) > size:
        along = vectors @ np.asarray(rng.standard_normal(vectors.shape[1]), vectors.dtype)
        parts = [half for part in parts for half in _halves(part, along, size)]
    return parts


def _halves(part: np.ndarray, along: np.ndarray, size: int) -> list[np.ndarray]:
    """A part cut in two between groups, the larger half first; one that is small stays."""
    if len(part) <= size:
        return [part]
    part = part[np.argsort(along[part], kind='stable')]
    groups = -(-len(part) // size)
    cut = (groups + 1) // 2 * size
    return [part[:cut], part[cut:]]
