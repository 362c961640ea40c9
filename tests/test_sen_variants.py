"""The variants of SEN that switch one thing."""

import pytest
import torch
from test_retriever import make_batch
from tiny import as_tokens, sen_config

from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS, NECKS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric


def restoration_of(name: str) -> dict | None:
    return load_config(f'configs/sen/{name}.py').model.heads.get('restoration')


def test_each_variant_differs_from_sen_in_the_named_thing_alone():
    sen = restoration_of('sen_vitb_cuhk')
    assert restoration_of('sen_vitb_cuhk_mask50') == {**sen, 'mask_ratio': 0.5}
    assert restoration_of('sen_vitb_cuhk_mask90') == {**sen, 'mask_ratio': 0.9}
    neck = {**sen['neck'], 'guide': 'image'}
    assert restoration_of('sen_vitb_cuhk_textfree') == {**sen, 'neck': neck}
    model = load_config('configs/sen/sen_vitb_cuhk_norestore.py').model
    assert list(model.heads) == list(model.loss_weights) == ['sdm', 'identity', 'triplet']
    # Taking a head out of the base does not reach other readers of that file.
    assert restoration_of('sen_vitb_cuhk') == sen


@pytest.mark.parametrize('name', ['nam', 'ham'])
def test_sen_from_person_towers_differs_in_the_file_alone_and_names_it_where_it_is_missing(
    name, tmp_path, monkeypatch
):
    config = load_config(f'configs/sen/sen_vitb_cuhk_{name}.py')
    file = f'weights/{name}.pth'
    same = load_config('configs/sen/sen_vitb_cuhk.py', {'pretrained': file}).to_dict()
    assert config.to_dict() == same
    monkeypatch.chdir(tmp_path)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    with pytest.raises(FileNotFoundError, match=f'there are no CLIP weights at {file}; put'):
        model.load_weights()


def guided_sen(guide: str) -> dict:
    return sen_config(**{'image_size': (64, 32), 'model.heads.restoration.neck.guide': guide})


def restored(guide: str, tokens: Tokens) -> torch.Tensor:
    """Pixels that a small SEN predicts for the images of a batch and given words."""
    torch.manual_seed(0)
    model = MODELS.build(guided_sen(guide))
    images = make_batch(3, (1, 1, 1))['images']
    order = torch.arange(8).expand(3, 8)
    with torch.no_grad():
        words = model.backbone.encode_text(tokens, frozenset({'text.tokens'})).tokens
        return model.heads['restoration'].restore(images, words, order, model.backbone)


def test_only_the_guided_restoration_depends_on_the_words():
    words = make_batch(3, (1, 1, 1))['tokens']
    ids = words.ids.clone()
    ids[:, 1:3] = 320
    other = as_tokens(ids)
    assert torch.equal(restored('image', words), restored('image', other))
    assert not torch.allclose(restored('text', words), restored('text', other))


def test_every_parameter_of_the_text_free_restoration_receives_a_gradient():
    model = MODELS.build(guided_sen('image'))
    total, _ = model.parse_losses(model(mode='loss', **make_batch(4, (1, 1, 1, 1))))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_an_unknown_guide_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"guide is one of \('text', 'image'\), got 'words'"):
        NECKS.build(dict(type='TextGuidedDecoder', depth=1, guide='words', spec=None))
