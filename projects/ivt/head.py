"""Every view of the images matched with every text of the persons."""

import torch
from torch import Tensor, nn

from projects.ivt.backbone import KEPT
from sen_toolbox.models.features import ImageFeatures, PairFeatures, TextFeatures
from sen_toolbox.models.heads import MatchingHead
from sen_toolbox.models.heads.views import take_view
from sen_toolbox.registry import HEADS
from sen_toolbox.text.tokens import Tokens


@HEADS.register_module()
class ViewsAndLevelsHead(MatchingHead):
    """Applies a matching loss to views of the images and texts of several levels, all together.

    The batch has V further texts of each caption side by side in ``further_tokens`` and V further
    ``views`` of each image.

    Args:
        loss: Config of the loss ``(image_embedding, text_embedding, labels)``.
        spec: Sizes of the backbone; unused.
    """

    reads = KEPT

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``.

        Raises:
            KeyError: If the batch has no further texts or views.
        """
        texts, count = further_texts(batch)
        views = torch.cat([take_view(batch, number) for number in range(count)])
        keep = pair.image.extra.get('kept')
        keep = None if keep is None else keep.expand(len(views), -1)
        seen = backbone.encode_image(views, keep=keep).embedding.chunk(count)
        images = [pair.of_texts(x) for x in (pair.image.embedding, *seen)]
        words = backbone.encode_text(texts, keep=pair.text.extra.get('kept')).embedding
        whole = PairFeatures(
            ImageFeatures(torch.cat(images)), TextFeatures(torch.cat([pair.text.embedding, words]))
        )
        labels = pair.of_texts(batch['labels']).repeat(1 + count)
        return super().forward(whole, dict(labels=labels), backbone)


def further_texts(batch: dict) -> tuple[Tokens, int]:
    """The first further text of all captions, then the second, and so on, and how many there are.

    Raises:
        KeyError: If the batch has none.
    """
    if 'further_tokens' not in batch:
        raise KeyError(
            "the batch has no 'further_tokens': put TextLevels into the training pipeline and "
            "PackPair(per_caption=['further_tokens']) at its end"
        )
    length, beside = batch['tokens'].ids.shape[1], batch['further_tokens']
    count = beside.ids.shape[1] // length

    def stacked(rows: Tensor) -> Tensor:
        return torch.cat(rows.split(length, dim=1))

    return Tokens(stacked(beside.ids), stacked(beside.mask), beside.end.repeat(count)), count
