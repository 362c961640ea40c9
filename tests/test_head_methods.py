"""What a head may have besides its loss: a set-up, embeddings of its own, features to read."""

from copy import deepcopy

import pytest
import torch
from closeness import assert_same
from tiny import NORMALISE, all_features, as_tokens, clip_config
from torch import nn

from sen_toolbox.registry import MODELS

pytestmark = pytest.mark.numeric

IMAGE_OF = torch.tensor([0, 0, 1, 2, 2])


class Head(nn.Module):
    """Does nothing but take the sizes of the backbone."""

    def __init__(self, *, spec) -> None:
        super().__init__()


class MomentumHead(Head):
    """Keeps a copy of the backbone."""

    def setup(self, backbone):
        self.copy = deepcopy(backbone)


class PartHead(Head):
    """Embeds an image by the mean of its patches, a caption by the mean of its words."""

    reads = frozenset({'image.tokens', 'text.tokens'})

    def __init__(self, *, spec, columns=slice(None), score_weight=None) -> None:
        super().__init__(spec=spec)
        self.columns = columns
        if score_weight is not None:
            self.score_weight = score_weight

    def embed_image(self, pair):
        return pair.image.tokens[:, 1:].mean(dim=1)[:, self.columns]

    def embed_text(self, pair):
        words = pair.text.mask[:, :, None]
        return ((pair.text.tokens * words).sum(dim=1) / words.sum(dim=1))[:, self.columns]


def build(**heads) -> nn.Module:
    """A small model; what does not describe a head is an option of the model."""
    options = {k: heads.pop(k) for k in list(heads) if not isinstance(heads[k], dict)}
    torch.manual_seed(0)
    config = dict(
        type='TextImageRetriever',
        backbone=clip_config((64, 32), layers=1),
        heads=heads,
        loss_weights=dict.fromkeys(heads, 1.0),
        data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
    )
    return MODELS.build({**config, **options}).eval()


def batch() -> dict:
    torch.manual_seed(1)
    ids = torch.randint(1, 400, (5, 9))
    ids[:, 0] = 49406
    for row, end in enumerate((8, 3, 5, 2, 8)):
        ids[row, end], ids[row, end + 1 :] = 49407, 0
    images = torch.randn(3, 3, 64, 32)
    people = torch.tensor([7, 4, 7])
    return dict(images=images, tokens=as_tokens(ids), image_of=IMAGE_OF, person_ids=people)


def test_a_head_is_set_up_before_anybody_sees_the_model_and_again_with_pretrained_weights():
    model = build(momentum=dict(type=MomentumHead))
    copied = {k: v for k, v in model.state_dict().items() if k.startswith('heads.momentum.copy.')}
    own = {k: v for k, v in model.state_dict().items() if k.startswith('backbone.')}
    assert len(copied) == len(own) > 10
    for key, value in own.items():
        assert torch.equal(copied[f'heads.momentum.copy.{key.removeprefix("backbone.")}'], value)

    position = model.backbone.text.positional_embedding
    model.backbone.load_weights = lambda: position.data.fill_(3.0)
    model.load_weights()
    assert (model.heads['momentum'].copy.text.positional_embedding == 3).all()
    assert model.heads['momentum'].copy.text.positional_embedding is not position


def cosine(a, b):
    return (a / a.norm()) @ (b / b.norm())


@torch.no_grad()
@pytest.mark.parametrize(
    ('parts', 'global_weight', 'shares'),
    [
        # Beside the global embedding, whose weight is 1 as that of a head that has none.
        (dict(part=dict(type=PartHead)), 1.0, [1 / 2, 1 / 2]),
        (dict(part=dict(type=PartHead, score_weight=3.0)), 1.0, [1 / 4, 3 / 4]),
        # Instead of it.
        (dict(part=dict(type=PartHead)), 0.0, [0, 1]),
        # Two heads of different widths, and one that counts for nothing.
        (
            dict(
                first=dict(type=PartHead, columns=slice(5), score_weight=2.0),
                other=dict(type=Head),
                second=dict(type=PartHead, columns=slice(5, 30)),
                third=dict(type=PartHead, score_weight=0.0),
            ),
            0.5,
            [1 / 7, 4 / 7, 2 / 7, 0],
        ),
    ],
)
def test_the_score_is_the_weighted_mean_of_the_cosines(parts, global_weight, shares):
    model, given = build(**parts, global_score_weight=global_weight), batch()
    records = model(mode='predict', **given)
    assert [len(record['text_embeddings']) for record in records] == [2, 1, 2]
    images = torch.stack([record['image_embedding'] for record in records])
    texts = torch.cat([record['text_embeddings'] for record in records])
    assert_same(images.norm(dim=1), torch.ones(3))
    pair = all_features(model, given)
    heads = [head for head in model.heads.values() if isinstance(head, PartHead)]
    of_images = [pair.image.embedding, *(head.embed_image(pair) for head in heads)]
    of_texts = [pair.text.embedding, *(head.embed_text(pair) for head in heads)]
    for t in range(5):
        for i in range(3):
            cosines = [cosine(x[t], y[i]) for x, y in zip(of_texts, of_images, strict=True)]
            expected = sum(share * value for share, value in zip(shares, cosines, strict=True))
            assert_same(texts[t] @ images[i], expected)
    # What counts for nothing takes no room in an index.
    widths = [part.shape[1] for part, share in zip(of_images, shares, strict=True) if share]
    assert images.shape[1] == sum(widths)


@pytest.mark.parametrize(
    ('parts', 'global_weight'),
    [
        ({}, 0.0),
        (dict(other=dict(type=Head)), 0.0),
        (dict(part=dict(type=PartHead, score_weight=-1.0)), 1.0),
        (dict(part=dict(type=PartHead)), -0.5),
    ],
)
def test_weights_of_scores_that_are_negative_or_all_0_are_refused(parts, global_weight):
    message = rf'from 0 up and not all 0, got global_score_weight {global_weight} and \['
    with pytest.raises(ValueError, match=message):
        build(**parts, global_score_weight=global_weight)


class ReadingHead(Head):
    """Reads what it is told to read."""

    def __init__(self, *, spec, reads) -> None:
        super().__init__(spec=spec)
        self.reads = frozenset(reads)

    def forward(self, pair, batch, backbone):
        found = dict(image=pair.image, text=pair.text)
        for name in self.reads:
            modality, field = name.split('.')
            assert getattr(found[modality], field) is not None, name
        return dict(loss=pair.text.embedding.sum())


@pytest.mark.parametrize('name', ['image.stages.layer3', 'text.extra.regions', 'image.token'])
def test_a_feature_that_the_backbone_does_not_provide_is_refused_with_the_choices(name):
    message = (
        rf"head 'parts' reads \['{name}'\], which the backbone does not provide; it provides "
        r"\['image.attention', 'image.embedding', 'image.tokens', 'text.attention', "
        r"'text.embedding', 'text.end', 'text.mask', 'text.tokens'\]"
    )
    with pytest.raises(KeyError, match=message):
        build(parts=dict(type=ReadingHead, reads=['text.tokens', name]))


def test_the_backbone_computes_what_any_head_reads_and_nothing_else():
    model = build(
        first=dict(type=ReadingHead, reads=['text.tokens']),
        second=dict(type=ReadingHead, reads=['image.attention', 'text.mask', 'text.end']),
        third=dict(type=Head),
    )
    model.heads['third'].forward = lambda pair, *_: seen.append(pair) or dict(loss=torch.zeros(()))
    seen = []
    model(**batch(), mode='loss')
    [pair] = seen
    assert pair.image.tokens is pair.text.attention is None
    assert pair.text.tokens is not None
    assert pair.image.attention is not None
