"""Identities and rankings with and without the dictionary, and between both."""

from torch import nn

from sen_toolbox.models.features import PairFeatures
from sen_toolbox.models.heads import PairRankingHead
from sen_toolbox.registry import HEADS


@HEADS.register_module()
class DictionaryHead(PairRankingHead):
    """Classifies parts with and without the dictionary alike; four rankings, two of one modality.

    Search compares those with the dictionary.
    """

    def forward(self, pair: PairFeatures, batch: dict, backbone: nn.Module) -> dict:
        """Returns ``loss`` and each term of it."""
        labels = pair.of_texts(batch['labels'])
        neck = self.neck
        images, texts = neck.plain_image(pair), neck.plain_text(pair)
        images_dict = pair.of_texts(neck.embed_image(pair)['parts'])
        texts_dict = neck.embed_text(pair)['parts']
        values = dict(
            id=self.identify('parts', images, texts, labels),
            rank=self.rank('rank', images, texts, labels),
            id_dict=self.identify('parts', images_dict, texts_dict, labels),
            rank_dict=self.rank('rank_dict', images_dict, texts_dict, labels),
            rank_text=self.rank('rank_text', texts, texts_dict, labels),
            rank_image=self.rank('rank_image', images, images_dict, labels),
        )
        return dict(loss=sum(values.values()), **values)
