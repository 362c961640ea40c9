"""UFine6926 and captions longer than CLIP's 77 tokens."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import as_tokens
from toy_data import ROOT

from sen_toolbox.config import load_config
from sen_toolbox.datasets import UFine6926
from sen_toolbox.models.weights import resize_text_position_embedding
from sen_toolbox.registry import DATASETS, OPTIM_WRAPPER_CONSTRUCTORS, TEXT_ENCODERS

pytestmark = pytest.mark.numeric

UFINE = ROOT / 'configs/sen/sen_vitb_ufine.py'


def encoder(**kwargs):
    arch = dict(
        embed_dim=8,
        text_cfg=dict(layers=1, width=6, heads=1, context_length=7, vocab_size=20),
    )
    return TEXT_ENCODERS.build(dict(type='CLIPTextTransformer', arch=arch, **kwargs))


def slow_linear(values, length):
    """Linear interpolation between the centres of equal cells, row by row."""
    old = len(values)
    places = (np.arange(length) + 0.5) * old / length - 0.5
    return np.stack([np.interp(places, np.arange(old), column) for column in values.T], axis=1)


@pytest.mark.parametrize('length', [168, 77, 78, 40, 1])
def test_positions_are_interpolated_between_the_centres_of_cells(length):
    torch.manual_seed(0)
    embedding = torch.randn(77, 5, dtype=torch.float64)
    resized = resize_text_position_embedding(embedding, length)
    np.testing.assert_allclose(resized.numpy(), slow_linear(embedding.numpy(), length), atol=1e-12)


def test_twice_the_length_gives_quarter_steps():
    # Centres of the new cells lie at -0.25, 0.25, 0.75, 1.25 of the old ones; the ends are kept.
    resized = resize_text_position_embedding(torch.tensor([[0.0], [4.0]]), 4)
    assert resized.flatten().tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize('layout', ['', 'base_model.', 'backbone.text.'])
def test_pretrained_weights_are_fitted_to_the_context_of_the_encoder(tmp_path, layout):
    short = encoder()
    state = {f'{layout}{key}': value for key, value in short.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'short.pt')
    long = encoder(context_length=12, pretrained=str(tmp_path / 'short.pt'))
    long.load_weights()
    assert long.spec.context_length == 12
    expected = slow_linear(short.positional_embedding.detach().numpy(), 12)
    np.testing.assert_allclose(long.positional_embedding.detach().numpy(), expected, atol=1e-6)
    others = {key for key in long.state_dict() if key != 'positional_embedding'}
    assert len(others) > 10
    assert all(torch.equal(long.state_dict()[key], short.state_dict()[key]) for key in others)
    same = encoder(pretrained=str(tmp_path / 'short.pt'))
    same.load_weights()
    assert torch.equal(same.positional_embedding, short.positional_embedding)


def test_a_longer_context_reads_longer_captions():
    tokens = as_tokens(torch.arange(12)[None])
    assert encoder(context_length=12)(tokens).tokens.shape == (1, 12, 8)
    with pytest.raises(ValueError, match='captions of 12 tokens exceed the context of 7'):
        encoder()(tokens)


# UFine6926


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'images').mkdir()
    records = []
    # Ids from 1 on, two captions an image, no validation split.
    for number, (split, person) in enumerate(
        [('train', 1), ('train', 1), ('train', 3), ('test', 4)]
    ):
        path = f'images/{number + 1}.jpg'
        Image.new('RGB', (10, 20)).save(tmp_path / path)
        captions = [f'Caption {number}. ' + 'A man in a red coat. ' * 20, 'Short.']
        records.append(dict(split=split, id=person, file_path=path, captions=captions))
    (tmp_path / 'UFine6926_Annotations_1024.json').write_text(json.dumps(records))
    return tmp_path


def test_images_are_found_beside_the_annotations_and_ids_begin_with_0(root):
    dataset = UFine6926(data_root=root, split='train')
    assert dataset.metainfo['num_classes'] == 2
    assert dataset.metainfo['num_images'] == 3
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [record['label'] for record in records] == [0, 0, 0, 0, 1, 1]
    assert [record['person_id'] for record in records] == [1, 1, 1, 1, 3, 3]
    assert records[0]['img_path'] == str(root / 'images/1.jpg')


def test_the_annotations_may_have_the_plain_name(root):
    (root / 'UFine6926_Annotations_1024.json').rename(root / 'UFine6926_Annotations.json')
    assert len(UFine6926(data_root=root, split='test')) == 1


def test_without_a_validation_split_the_test_split_is_named(root):
    with pytest.raises(ValueError, match='no validation split of UFine6926 is known; use test'):
        UFine6926(data_root=root, split='val')


def test_a_missing_file_is_told_with_the_layout(tmp_path):
    names = r'UFine6926_Annotations_1024\.json or UFine6926_Annotations\.json and the images'
    with pytest.raises(FileNotFoundError, match=names):
        UFine6926(data_root=tmp_path, split='train')


def test_the_config_reads_168_tokens_in_every_split_and_raises_their_rate(root):
    config = load_config(UFINE, dict(data_root=str(root)))
    assert config.model.backbone.text.context_length == 168
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        steps = [step for step in config[name].dataset.pipeline if 'tokenizer' in step]
        assert {step.tokenizer.context_length for step in steps} == {168}
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=config.optim_wrapper.constructor,
            optim_wrapper_cfg=dict(config.optim_wrapper),
            paramwise_cfg=config.optim_wrapper.paramwise_cfg,
        )
    )
    # 5 x 1e-5, the rate that the ICL paper gives.
    assert constructor.factors('backbone.text.positional_embedding') == (5, 1)
    assert constructor.factors('backbone.image.positional_embedding') == (1, 1)
    assert constructor.factors('heads.identity.classifier.weight') == (5, 1)


def test_the_test_pipeline_keeps_long_captions(root):
    config = load_config(UFINE, dict(data_root=str(root), image_size=(32, 16)))
    sample = DATASETS.build(config.test_dataloader.dataset)[0]
    assert sample['tokens'].ids.shape == (2, 168)
    # 'caption 3 .' and 20 times 'a man in a red coat .', between start and end.
    assert sample['tokens'].end[0] == 1 + 3 + 20 * 7
