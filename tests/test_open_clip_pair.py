"""A backbone of open_clip's own modules: it trains, and reads files as open_clip does."""

import open_clip
import pytest
import torch
from hub_cache import ARCHITECTURES
from tiny import NORMALISE

from sen_toolbox.models.backbones import OpenCLIPPair
from sen_toolbox.registry import MODELS
from sen_toolbox.text.tokens import Tokens

every = pytest.mark.parametrize('arch', ARCHITECTURES)


def tokens(pair, count):
    length = pair.spec.text.context_length
    ids = torch.randint(4, pair.spec.text.vocab_size, (count, length))
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool), torch.full((count,), length - 1))


@every
def test_every_parameter_receives_a_gradient(hub, arch):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='TextImageRetriever',
            backbone=dict(type='OpenCLIPPair', arch=arch),
            heads=dict(
                match=dict(type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.1))
            ),
            loss_weights=dict(match=1.0),
            data_preprocessor=dict(type='PairPreprocessor', **NORMALISE),
        )
    )
    batch = dict(
        images=torch.randn(4, 3, 32, 32),
        tokens=tokens(model.backbone, 4),
        labels=torch.arange(4),
    )
    losses = model(mode='loss', **batch)
    losses['match.loss'].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@every
def test_embeddings_are_those_of_open_clips_model(hub, arch):
    torch.manual_seed(0)
    theirs, pair = open_clip.create_model(arch).eval(), OpenCLIPPair(arch=arch).eval()
    own = pair.model.state_dict()
    assert theirs.state_dict().keys() - own.keys() == {
        key
        for key in theirs.state_dict()
        if key.startswith(('logit_scale', 'logit_bias', 'text_decoder.'))
    }
    pair.model.load_state_dict({key: theirs.state_dict()[key] for key in own})
    images, words = torch.randn(3, 3, 32, 32), tokens(pair, 5)
    with torch.inference_mode():
        found = pair(images, words)
        expected = theirs.encode_image(images), theirs.encode_text(words.ids)
    torch.testing.assert_close(found.image.embedding, expected[0])
    torch.testing.assert_close(found.text.embedding, expected[1])


def test_weights_of_another_layout_are_read_as_open_clip_reads_them(hub, tmp_path):
    # A text tower beside the image tower, as CLIP has it, for a model that keeps it apart.
    config = {**ARCHITECTURES['small-clip'], 'custom_text': True}
    torch.manual_seed(0)
    state = open_clip.create_model('small-clip').state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'clip.pt')
    pair = OpenCLIPPair(arch=config, pretrained=str(tmp_path / 'clip.pt'))
    pair.load_weights()
    key = 'token_embedding.weight'
    assert torch.equal(pair.model.state_dict()[f'text.{key}'], state[key])
    # And on pictures of another size, by open_clip's way to resize positions.
    vision = {**config['vision_cfg'], 'image_size': 48}
    larger = OpenCLIPPair(
        arch={**config, 'vision_cfg': vision}, pretrained=str(tmp_path / 'clip.pt')
    )
    larger.load_weights()
    theirs = open_clip.create_model(
        'small-clip', str(tmp_path / 'clip.pt'), force_image_size=48
    ).state_dict()
    key = 'visual.positional_embedding'
    assert torch.equal(larger.model.state_dict()[key], theirs[key])


@pytest.mark.parametrize('arch', ['roberta-ViT-B-32', 'nllb-clip-base-siglip'])
def test_a_text_tower_that_is_a_download_is_refused(arch):
    with pytest.raises(ValueError, match='a download of its own'):
        OpenCLIPPair(arch=arch)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(KeyError, match="no model 'hf-hub:a/b'"):
        OpenCLIPPair(arch='hf-hub:a/b')
