"""Synthetic noisy correspondence: captions that belong to other images."""

import numpy as np

from sen_toolbox.checks import checked_share

CAPTION_KEYS = ('captions', 'pruned')


def swap_captions(pairs: list[dict], *, rate: float, seed: int) -> tuple[list[dict], int]:
    """Shuffles the captions of a random share of pairs among these pairs.

    Identity and image of a pair stay. As in the RDE release, a shuffled caption may come from a
    pair of the same identity, and a few find their way back.

    Args:
        pairs: Records of one caption each.
        rate: Share of the pairs whose captions are shuffled, in 0..1.
        seed: Decides the share and the order; with a seed given to numpy, the release draws alike.

    Returns:
        The new pairs, and how many have another pair's caption.

    Raises:
        ValueError: If the rate is not in 0..1.
    """
    checked_share('noise_rate', rate)
    rng = np.random.RandomState(seed)
    order = np.arange(len(pairs))
    rng.shuffle(order)
    chosen = order[: int(rate * len(pairs))]
    source = chosen.copy()
    rng.shuffle(source)
    swapped = list(pairs)
    for target, origin in zip(chosen.tolist(), source.tolist(), strict=True):
        foreign = {key: pairs[origin][key] for key in CAPTION_KEYS if key in pairs[origin]}
        swapped[target] = {**pairs[target], **foreign}
    return swapped, int((chosen != source).sum())
