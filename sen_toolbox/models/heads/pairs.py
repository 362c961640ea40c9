"""The pairs of a batch, as matching losses compare them."""

from torch import Tensor

from sen_toolbox.models.features import PairFeatures
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.text.tokens import Tokens


def gathered_pairs(pair: PairFeatures, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of images and captions and their labels, of all ranks, one row per caption.

    Args:
        pair: Features of the batch.
        batch: Has ``labels`` (B,), one per image.

    Returns:
        (P, D), (P, D), both in at least float32, and (P,).
    """
    images, texts, labels = gather_all(
        widened(pair.of_texts(pair.image.embedding)),
        widened(pair.text.embedding),
        pair.of_texts(batch['labels']),
    )
    return images, texts, labels


def second_tokens(batch: dict) -> Tokens:
    """The second captions of a batch.

    Raises:
        KeyError: If it has none.
    """
    if 'second_tokens' not in batch:
        raise KeyError(
            "the batch has no 'second_tokens': put SecondCaption, RewrittenCaption or HideColours "
            "into the training pipeline and PackPair(per_caption=['second_tokens']) at its end"
        )
    return batch['second_tokens']
