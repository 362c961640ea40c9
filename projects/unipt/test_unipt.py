"""UniPT's pretraining computes what the official code computes, its fine-tuning what LGUR's does.

data/*.npz: github.com/ZhiyinShao-H/UniPT, commit e90159bd329f, in float32 on a CPU: both losses of
the paper from given tokens and given scores of words on.
"""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import LOSS, check_array, relative_error
from tiny import build_optimizer
from tiny_methods import replace_vocabularies

from projects.unipt.transforms import MaskWholeWords
from sen_toolbox.checkpoint.layouts import load_layout
from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.heads.masked_word import masked_word_terms
from sen_toolbox.registry import HEADS, MODELS, NECKS
from sen_toolbox.text.tokenizers.wordpiece import WordPieceTokenizer
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

HERE = Path(__file__).parent
PRETRAINING = HERE / 'configs/unipt_vitb_pretrain.py'
CONFIG = HERE / 'configs/unipt_vitb_cuhk.py'
LAYOUT = load_layout(HERE / 'official.py')
SPEC = PairSpec(None, ImageSpec(24, (64, 32)), TextSpec(24, 40, 9, cuts_padding=False))


def arrays(name):
    with np.load(HERE / 'data' / f'{name}.npz') as content:
        return {key: torch.from_numpy(value) for key, value in content.items()}


EXPECTED, BATCH = arrays('expected'), arrays('batch')


def contrast():
    """The shipped head with the official weights, and the official tokens."""
    sizes = {'model.heads.contrast.neck.width': 16}
    head = HEADS.build({**load_config(PRETRAINING, sizes).model.heads.contrast, 'spec': SPEC})
    prefix = 'heads.contrast.'
    state = LAYOUT.from_official(arrays('state'))
    head.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    image, text = (BATCH[f'{name}_tokens'].float().requires_grad_() for name in ('image', 'text'))
    pair = PairFeatures(
        ImageFeatures(image[:, 0], tokens=image), TextFeatures(text[:, 0], tokens=text)
    )
    return head, pair


def check(found, name):
    check_array(found, EXPECTED[name].numpy(), name=name)


@torch.no_grad()
def test_maxima_and_their_cosines_equal_the_official_ones():
    head, pair = contrast()
    image, text = head.embed_image(pair), head.embed_text(pair)
    check(image, 'image_feature')
    check(text, 'text_feature')
    unit = torch.nn.functional.normalize
    check(unit(image) @ unit(text).t(), 'similarity')


def test_the_contrast_and_its_gradients_equal_the_official_ones():
    head, pair = contrast()
    # One person for all: pairs count, not identities.
    loss = head(pair, dict(labels=torch.zeros(6, dtype=torch.int64)), None)['loss']
    assert loss.item() == pytest.approx(EXPECTED['cl_loss'].item(), **LOSS)
    loss.backward()
    found = dict(
        image_tokens=pair.image.tokens.grad,
        text_tokens=pair.text.tokens.grad,
        img_proj=head.neck.image.weight.grad,
        txt_proj=head.neck.text.weight.grad,
    )
    for name, gradient in found.items():
        assert relative_error(gradient, EXPECTED[f'grad_{name}'].numpy()) < 1e-4, name


def test_the_loss_of_masked_words_equals_the_official_one():
    masked = BATCH['mlm_labels'] != -100
    terms = masked_word_terms(BATCH['mlm_logits'].float()[masked], BATCH['mlm_labels'][masked])
    assert terms['loss'].item() == pytest.approx(EXPECTED['mlm_loss'].item(), **LOSS)


def test_masked_words_are_predicted_from_the_masked_caption_alone():
    torch.manual_seed(0)
    head = HEADS.build(dict(type='MaskedCaptionHead', spec=SPEC))
    states, labels = torch.randn(2, 5, 24), torch.tensor([[0, 7, 0, 0, 0], [0, 0, 9, 3, 0]])
    tokens = Tokens(labels, labels > -1, labels[:, 0])

    def encode_text(given, reads):
        assert given is tokens
        return TextFeatures(states[:, 0], tokens=states)

    backbone = SimpleNamespace(encode_text=encode_text)
    found = head(None, dict(masked_tokens=tokens, word_labels=labels), backbone)
    logits = head.classifier(states)
    wanted = [logits[row, place].log_softmax(0)[word] for row, place, word in
              ((0, 1, 7), (1, 2, 9), (1, 3, 3))]  # fmt: skip
    assert found['loss'].item() == pytest.approx(-sum(wanted).item() / 3, rel=1e-5)
    with pytest.raises(KeyError, match='end the training pipeline with MaskWholeWords'):
        head(None, {}, backbone)


PIECES = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'man', 'rain', '##coat', '##s', 'red']


def masked(caption, share=0.15):
    tokenizer = WordPieceTokenizer(context_length=16, vocabulary=PIECES)
    tokens = tokenizer([caption])
    results = MaskWholeWords(tokenizer=tokenizer, share=share)(dict(tokens=tokens))
    assert (results['tokens'].ids == tokens.ids).all()
    return tokens.ids[0], results['masked_tokens'].ids[0], results['word_labels'][0]


def test_all_pieces_of_a_word_are_masked_together_and_no_special_token():
    random.seed(0)
    kinds = []
    for _ in range(400):
        ids, found, labels = masked('a red raincoats man a red man a')
        chosen = labels != 0
        assert (labels[chosen] == ids[chosen]).all() and (found[~chosen] == ids[~chosen]).all()
        assert chosen.sum() in (2, 3, 4)
        assert not chosen[ids < 5].any()
        assert chosen[3] == chosen[4] == chosen[5]
        kinds += ['mask' if f == 4 else 'same' if f == i else 'other'
                  for f, i in zip(found[chosen], ids[chosen], strict=True)]  # fmt: skip
    share = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert share['mask'] == pytest.approx(0.8, abs=0.04)
    assert share['other'] == pytest.approx(0.1 * 5 / 6, abs=0.03)


def test_a_caption_without_words_has_none_masked():
    ids, found, labels = masked('')
    assert (found == ids).all() and not labels.any()


def test_queries_see_neither_class_tokens_nor_padding():
    torch.manual_seed(0)
    cfg = dict(
        type='MaximaAndParts', width=12, parts=3, part_width=8,
        decoder=dict(depth=2, heads=2, head_width=5, mlp_width=7),
    )  # fmt: skip
    neck = NECKS.build({**cfg, 'spec': SPEC})
    tokens = torch.randn(2, 9, 24)
    mask = torch.arange(9) < torch.tensor([[9], [4]])

    def levels(tokens):
        text = TextFeatures(tokens[:, 0], tokens=tokens, mask=mask)
        pair = PairFeatures(ImageFeatures(tokens[:, 0], tokens=tokens), text)
        return neck.embed_image(pair), neck.embed_text(pair)

    image, text = levels(tokens)
    other = tokens.clone()
    other[:, 0] += 100
    other[1, 4:] += 100
    changed_image, changed_text = levels(other)
    torch.testing.assert_close(changed_text['parts'], text['parts'])
    torch.testing.assert_close(changed_image['parts'][0], image['parts'][0])
    assert not torch.allclose(changed_text['whole'], text['whole'])


def test_rates_of_the_fine_tuning_are_those_of_the_paper():
    config = load_config(CONFIG)
    replace_vocabularies(dict(config))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    config.optim_wrapper.optimizer.pop('fused')
    optimizer = build_optimizer(config.optim_wrapper, model)
    found = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    expected = {
        'backbone.image.': 1e-4,
        'backbone.text.': 1e-5,
        'heads.parts.neck.': 1e-4,
        'heads.parts.classifiers.': 1e-3,
    }
    for name, parameter in model.named_parameters():
        [rate] = [rate for prefix, rate in expected.items() if name.startswith(prefix)]
        assert found[id(parameter)] == pytest.approx(rate), name
    assert config.model.heads.parts.ranking.margin == 0.2


def test_official_names_survive_the_way_there_and_back():
    state = arrays('state')
    words = dict.fromkeys(
        ['mlm_score.bias', 'mlm_score.decoder.weight', 'transformer.norm.bias'], torch.ones(2)
    )
    given = {**state, **words, 'clip.positional': torch.zeros(1)}
    back = LAYOUT.to_official(LAYOUT.from_official(given), None)
    assert set(back) == set(given) - {'clip.positional'}
    for key, value in back.items():
        assert torch.equal(value, given[key].float()), key
    with pytest.raises(ValueError, match=r"layout, the first are \['more.weight'\]"):
        LAYOUT.from_official({**state, 'more.weight': torch.zeros(1)})


def test_a_text_encoder_that_lets_padding_be_cut_is_refused():
    spec = PairSpec(None, SPEC.image, TextSpec(24, 40, 9))
    with pytest.raises(ValueError, match='set cuts_padding=False of the text encoder'):
        NECKS.build(dict(type='ProjectedMaxima', width=16, spec=spec))
