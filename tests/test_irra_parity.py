"""IRRA computes what the official code computes (tests/data/irra_tiny.npz, see tiny.golden)."""

import pytest
import torch
from parity import LOSS, after_backward, check_close, check_gradients, check_three_steps
from tiny import all_features, golden, golden_irra, golden_state, layout

from sen_toolbox.checkpoint.renaming import new_names
from sen_toolbox.config import load_config
from sen_toolbox.registry import MODELS

pytestmark = pytest.mark.numeric

CONFIG = 'configs/irra/irra_vitb_cuhk.py'
LAYOUT = layout('irra')


@pytest.fixture(scope='module')
def expected():
    return golden('expected', 'irra_tiny')


@pytest.fixture(scope='module')
def trained():
    return after_backward(*golden_irra())


def names_of_ours() -> dict[str, str]:
    return new_names(golden_state('irra_tiny'), LAYOUT.TABLE)


@pytest.mark.parametrize(
    ('ours', 'official'),
    [
        ('total', 'total_loss'),
        ('sdm.loss', 'ret/sdm_loss'),
        ('identity.loss', 'ret/id_loss'),
        ('mlm.loss', 'ret/mlm_loss'),
        ('mlm.acc', 'ret/mlm_acc'),
        ('identity.image_acc', 'ret/img_acc'),
        ('identity.text_acc', 'ret/txt_acc'),
    ],
)
def test_every_loss_and_accuracy_equals_the_official_one(trained, expected, ours, official):
    _, logged = trained
    assert logged[ours].item() == pytest.approx(expected[official].item(), **LOSS)


def test_features_and_the_encoded_words_equal_the_official_ones(expected):
    model, batch = golden_irra()
    with torch.no_grad():
        pair = all_features(model, batch)
        hidden = model.heads['mlm'].neck(pair.text.tokens, pair.image.tokens)
    check_close(
        expected,
        i_feats=pair.image.embedding,
        t_feats=pair.text.embedding,
        image_feats_first=pair.image.tokens[:1],
        text_feats_first=pair.text.tokens[:1],
        mlm_hidden_first=hidden[:1],
    )


def test_predictions_at_masked_words_equal_the_official_ones(expected):
    model, batch = golden_irra()
    head = model.heads['mlm']
    masked = batch['word_labels'].flatten().nonzero()[:, 0]
    assert masked.tolist() == expected['mlm_masked_index'].tolist()
    with torch.no_grad():
        pair = all_features(model, batch)
        hidden = head.neck(pair.text.tokens, pair.image.tokens).flatten(0, 1)
        scores = head.classifier(hidden[masked])
    at_label = scores[torch.arange(len(masked)), batch['word_labels'].flatten()[masked]]
    assert scores.argmax(dim=1).tolist() == expected['mlm_argmax'].tolist()
    check_close(expected, mlm_logit_at_label=at_label, mlm_logsumexp=scores.logsumexp(dim=1))


def test_every_gradient_equals_the_official_one(trained, expected):
    model, _ = trained
    check_gradients(model, names_of_ours(), expected)


def test_three_optimiser_steps_equal_the_official_ones():
    model, batch = golden_irra()
    check_three_steps(model, batch, CONFIG, names_of_ours(), golden('optim', 'irra_tiny'))


def test_official_names_survive_the_way_there_and_back():
    state = golden_state('irra_tiny')
    ours = LAYOUT.from_official({f'module.{k}': v for k, v in state.items()})
    back = LAYOUT.to_official(ours, golden_irra()[0])
    assert set(back) == set(state)
    for key, value in state.items():
        assert torch.equal(back[key], value.float()), key


def test_a_checkpoint_of_sen_is_refused_by_the_keys_of_its_decoder():
    with pytest.raises(ValueError, match='mask_token'):
        LAYOUT.from_official(golden_state('sen_tiny'))


def test_the_released_layout_fits_the_config():
    official = golden_state('irra_tiny')
    ours = set(new_names(official, LAYOUT.TABLE).values())
    with torch.device('meta'):
        model = MODELS.build(load_config(CONFIG).model)
    theirs = {name for name in model.state_dict() if '.resblocks.' not in name}
    assert theirs == {name for name in ours if '.resblocks.' not in name}
