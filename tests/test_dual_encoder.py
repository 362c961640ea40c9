"""Two encoders side by side: what they provide together, their joint space and its weights."""

import pytest
import torch
from closeness import assert_same
from test_encoders import IMAGE, RNN
from tiny import NORMALISE, as_tokens, clip_config
from torch import nn

from sen_toolbox.models.features import EMBEDDINGS, PairFeatures, reads_of
from sen_toolbox.registry import BACKBONES, MODELS

RESNET = IMAGE['ResNet']
TOKENS = as_tokens(torch.tensor([[38, 5, 39, 0], [38, 39, 0, 0], [38, 7, 9, 39]]))


def build(**settings) -> nn.Module:
    """A ResNet of 512 numbers beside an LSTM of 10, in a joint space of 6."""
    torch.manual_seed(0)
    sizes = dict(type='DualEncoder', image=RESNET, text=RNN, embed_dim=6)
    return BACKBONES.build({**sizes, **settings})


def images(count=3) -> torch.Tensor:
    return torch.randn(count, 3, *RESNET['image_size'])


def test_encoders_of_two_widths_are_refused_without_a_joint_space():
    with pytest.raises(
        ValueError, match='of images have 512 numbers, of captions 10: set embed_dim'
    ):
        build(embed_dim=None)


@torch.no_grad()
def test_encoders_that_only_heads_compare_may_differ_in_width():
    backbone = build(embed_dim=None, joint=False).eval()
    assert backbone.spec.embed_dim is None
    pair = backbone(images(), TOKENS)
    assert (pair.image.embedding.shape, pair.text.embedding.shape) == ((3, 512), (3, 10))
    with pytest.raises(ValueError, match='joint=False has no joint space for embed_dim=6'):
        build(joint=False)


def test_nothing_is_scored_by_a_backbone_without_a_joint_space():
    backbone = dict(type='DualEncoder', image=RESNET, text=RNN, joint=False)
    parts = dict(
        heads={}, loss_weights={}, data_preprocessor=dict(type='PairPreprocessor', **NORMALISE)
    )
    with pytest.raises(ValueError, match='no joint space .* global_score_weight to 0, got 1.0'):
        MODELS.build(dict(type='TextImageRetriever', backbone=backbone, **parts))


def test_weights_for_projections_that_it_does_not_have_are_refused():
    with pytest.raises(ValueError, match="pretrained='x.pth' .* without embed_dim it has none"):
        BACKBONES.build(clip_config((64, 32)) | dict(pretrained='x.pth'))


def test_a_norm_for_projections_that_it_does_not_have_is_refused():
    with pytest.raises(ValueError, match='projection_norm is for projections: set embed_dim'):
        BACKBONES.build(clip_config((64, 32)) | dict(projection_norm={}))


@torch.no_grad()
def test_a_norm_behind_the_projections_takes_the_place_of_their_bias():
    backbone = build(projection_norm=dict(eps=0.5, momentum=0.25)).train()
    own = backbone.text(TOKENS).embedding @ backbone.text_projection.linear.weight.t()
    variance, mean = torch.var_mean(own, dim=0, correction=0)
    normal = (own - mean) / (variance + 0.5).sqrt()
    norm = backbone.text_projection.norm
    norm.weight.fill_(2), norm.bias.fill_(3)
    assert_same(backbone(None, TOKENS).text.embedding, 2 * normal + 3)
    assert_same(norm.running_mean, 0.25 * mean)
    assert backbone.text_projection.linear.bias is None


@torch.no_grad()
def test_embeddings_are_projected_and_tokens_are_not():
    backbone, inputs = build().eval(), images()
    assert backbone.spec.embed_dim == 6
    assert (backbone.spec.image.width, backbone.spec.text.width) == (512, 10)
    pair = backbone(inputs, TOKENS, frozenset({'text.tokens'}))
    image, text = backbone.image_projection, backbone.text_projection
    own = backbone.text(TOKENS, frozenset({'tokens'}))
    expected = backbone.image(inputs).embedding @ image.weight.t() + image.bias
    assert_same(pair.image.embedding, expected)
    assert_same(pair.text.embedding, own.embedding @ text.weight.t() + text.bias)
    assert_same(pair.text.tokens, own.tokens)


@torch.no_grad()
def test_without_a_joint_space_embeddings_are_those_of_the_encoders():
    torch.manual_seed(0)
    backbone = BACKBONES.build(clip_config((64, 32))).eval()
    inputs = torch.randn(3, 3, 64, 32)
    pair = backbone(inputs, TOKENS)
    assert backbone.spec.embed_dim == 64
    assert torch.equal(pair.image.embedding, backbone.image(inputs, frozenset()).embedding)
    assert torch.equal(pair.text.embedding, backbone.text(TOKENS, frozenset()).embedding)
    assert {name.split('.')[0] for name, _ in backbone.named_parameters()} == {'image', 'text'}


def test_it_provides_what_each_encoder_provides_under_its_modality():
    backbone = build()
    expected = {f'image.{name}' for name in backbone.image.provides}
    expected |= {f'text.{name}' for name in backbone.text.provides}
    assert 'image.stages.layer3' in expected
    assert backbone.provides == expected | EMBEDDINGS | {'text.mask', 'text.end'}


@torch.no_grad()
def test_each_encoder_computes_what_is_read_of_its_modality():
    pair = build().eval()(images(), TOKENS, frozenset({'image.stages.layer2', 'text.embedding'}))
    assert set(pair.image.stages) == {'layer2'}
    assert pair.text.tokens is None
    assert reads_of(frozenset({'image.tokens', 'text.mask'}), 'image') == {'tokens'}


@torch.no_grad()
def test_captions_know_the_rows_of_their_images():
    image_of = torch.tensor([1, 0, 1])
    pair = build().eval()(images(2), TOKENS, image_of=image_of)
    rows = torch.tensor([[10.0], [20.0]])
    assert pair.of_texts(rows).flatten().tolist() == [20, 10, 20]
    assert PairFeatures(pair.image, pair.text).of_texts(rows) is rows


def test_the_words_are_those_of_the_text_encoder():
    backbone = build()
    assert backbone.word_embedding is backbone.text.word_embedding
    assert backbone.word_embedding.weight.shape == (40, 6)


def test_each_part_starts_from_the_file_that_it_names(tmp_path):
    trained = build()
    for parameter in trained.parameters():
        parameter.data.add_(1)
    file = tmp_path / 'epoch_1.pth'
    state = {f'backbone.{key}': value for key, value in trained.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), file)
    start = dict(pretrained=str(file))
    parts = {
        ('image.',): dict(image=RESNET | start),
        ('text.',): dict(text=RNN | start),
        ('image_projection.', 'text_projection.'): start,
    }
    for prefixes, settings in parts.items():
        backbone, before = build(**settings), build().state_dict()
        backbone.load_weights()
        for key, value in backbone.state_dict().items():
            expected = trained.state_dict() if key.startswith(prefixes) else before
            assert torch.equal(value, expected[key]), (prefixes, key)
