"""A trained model ranks files by sentences, and the boards show what it saw."""

import numpy as np
import pytest
import torch
from closeness import assert_same
from PIL import Image
from tiny import as_tokens, sen_config

from sen_toolbox.config import load_config
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.models.heads.restoration import HIDDEN_LEVEL
from sen_toolbox.registry import MODELS
from sen_toolbox.visualization.results import illustrated_rows, ranked_queries

pytestmark = pytest.mark.numeric

CONFIG = 'configs/sen/sen_tiny_synthetic.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('crops')
    for number, colour in enumerate([(200, 30, 30), (30, 30, 200), (30, 160, 30)]):
        Image.new('RGB', (50 + number, 120), colour).save(root / f'{number}.jpg')
    return root


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model)
    path = tmp_path_factory.mktemp('model') / 'sen.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return Encoder.from_config(load_config(CONFIG), path)


def test_embeddings_are_those_of_the_evaluation(encoder, folder):
    paths, captions = sorted(folder.glob('*.jpg')), ['a red coat', 'a blue coat', 'a green coat']
    prepared = np.stack([encoder.prepare(np.array(Image.open(path))) for path in paths])
    batch = dict(
        images=encoder.normalised(prepared),
        tokens=encoder.tokens(captions),
        person_ids=torch.tensor([1, 2, 3]),
    )
    with torch.no_grad():
        records = encoder.model.predict(batch)
    images, text = encoder.embed_files(paths, batch_size=2), encoder.embed_text(captions)
    assert_same(
        torch.from_numpy(images), torch.stack([record['image_embedding'] for record in records])
    )
    assert_same(
        torch.from_numpy(text), torch.cat([record['text_embeddings'] for record in records])
    )


def test_a_checkpoint_of_another_model_is_refused(encoder, tmp_path):
    torch.save(dict(state_dict={'weight': torch.zeros(1)}), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth does not fit the model: missing backbone'):
        Encoder.from_config(load_config(CONFIG), tmp_path / 'other.pth')


def test_ranked_queries_put_the_best_first_and_know_who_is_right():
    gallery = [dict(img_path=str(i), person_id=person) for i, person in enumerate([5, 6, 5])]
    scores = torch.tensor([[0.1, 0.9, 0.5]])
    (row,) = ranked_queries(['a man'], [5], scores, gallery, topk=2)
    assert row['image_paths'] == ['1', '2']
    assert row['correct'] == [False, True]
    assert row['scores'] == pytest.approx([0.9, 0.5])


def test_a_restoration_hides_what_it_paints_and_keeps_what_it_saw():
    torch.manual_seed(0)
    model = MODELS.build(sen_config(image_size=(64, 48)))
    tokens = as_tokens(torch.tensor([[49406, 320, 49407]] * 2))
    batch = dict(images=torch.randn(2, 3, 64, 48), tokens=tokens)
    rows = [row['columns'] for row in illustrated_rows(model, batch, ['a', 'b'])]
    head = model.heads['restoration']
    for row in rows:
        masked = torch.from_numpy(row['masked input']).permute(2, 0, 1)[None].float()
        hidden = (head.to_patches(masked) == HIDDEN_LEVEL).all(dim=2)[0]
        assert hidden.sum() == 12 - (head.num_kept - 1)
        original, restored = (
            head.to_patches(torch.from_numpy(row[name]).permute(2, 0, 1)[None].float())[0]
            for name in ('original', 'restored')
        )
        assert torch.equal(original[~hidden], restored[~hidden])
        assert not torch.equal(original[hidden], restored[hidden])


def test_pixels_come_back_from_the_normalisation():
    model = MODELS.build(sen_config(image_size=(64, 48)))
    image = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8)
    normalised = model.data_preprocessor(dict(images=image))['images']
    back = model.data_preprocessor.to_pixels(normalised)
    np.testing.assert_allclose(back.numpy(), image.numpy(), atol=1e-3)


def test_a_model_that_illustrates_nothing_says_so():
    config = sen_config(image_size=(64, 48))
    del config['heads']['restoration'], config['loss_weights']['restoration']
    with pytest.raises(KeyError, match=r"draws a board; its heads are \['identity', 'sdm'"):
        illustrated_rows(MODELS.build(config), {}, [])
