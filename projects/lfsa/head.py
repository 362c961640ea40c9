"""Losses of intact and of corrupted captions."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.lfsa.losses import PairKinds
from sen_toolbox.models.features import PairFeatures, PairSpec
from sen_toolbox.models.gather import gather_all, widened
from sen_toolbox.models.heads import IdentityHead
from sen_toolbox.registry import HEADS, LOSSES


@HEADS.register_module()
class CorruptedCaptionHead(nn.Module):
    """Adds up losses of cosines, of corrupted captions and of intact ones, and one of identities.

    The batch has the corrupted captions in ``second_tokens`` and in ``image_id`` which image a pair
    has. Identities are told from images and corrupted captions.

    Args:
        num_classes: Number of training identities.
        losses: Config of a loss ``(similarity, kinds, draws)`` by its name; each has the weight 1.
        two_streams: Whether there are both versions. Else the batch has one, in ``tokens``, and
            identities are told from unit vectors.
        spec: Sizes of the backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        losses: Mapping[str, dict],
        two_streams: bool = True,
        spec: PairSpec,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.losses = nn.ModuleDict({name: LOSSES.build(cfg) for name, cfg in losses.items()})
        self.identity = IdentityHead(num_classes=num_classes, spec=spec)
        self.two_streams = two_streams

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss``, each of its terms by name, and the accuracies of the identities.

        Raises:
            KeyError: If the batch lacks the corrupted captions or the numbers of the images.
        """
        needed = ('image_id', 'second_tokens') if self.two_streams else ('image_id',)
        if missing := [key for key in needed if key not in batch]:
            raise KeyError(
                f'the batch has no {missing}: put CorruptCaption into the training pipeline and '
                "PackPair(per_image=['image_id'], per_caption=['second_tokens']) at its end"
            )
        if self.two_streams:
            corrupted = replace(pair, text=backbone.encode_text(batch['second_tokens']))
            texts = dict(corrupted=corrupted.text.embedding, intact=pair.text.embedding)
            found = self.identity(corrupted, batch, backbone)
        else:
            texts = dict(intact=pair.text.embedding)
            found = self.identity(_of_unit_length(pair), batch, backbone)
        image, labels, images = gather_all(
            widened(pair.of_texts(pair.image.embedding)),
            *(pair.of_texts(batch[key]) for key in ('labels', 'image_id')),
        )
        kinds, terms = PairKinds.of(labels, images), dict(identity=found.pop('loss'))
        for name, text in texts.items():
            draws = self.draw_choices(name, len(text), text.device)
            text, draws = gather_all(widened(text), draws)
            with torch.autocast(text.device.type, enabled=False):
                similarity = F.normalize(image) @ F.normalize(text).t()
                for loss, compute in self.losses.items():
                    terms[f'{loss}_{name}'] = compute(similarity, kinds, draws)
        return dict(loss=sum(terms.values()), **terms, **found)

    def draw_choices(self, name: str, count: int, device: torch.device) -> Tensor:
        """Draws with whom pairs are compared.

        Args:
            name: 'corrupted' or 'intact'.
            count: Number P of pairs.
            device: Of the result.

        Returns:
            (P, 2), above 0 and up to 1.
        """
        return 1 - torch.rand(count, 2, device=device)


def _of_unit_length(pair: PairFeatures) -> PairFeatures:
    image, text = (
        replace(side, embedding=F.normalize(side.embedding)) for side in (pair.image, pair.text)
    )
    return replace(pair, image=image, text=text)
