"""A tokenizer that makes what the text encoder does not take is refused beforehand."""

import logging
from types import SimpleNamespace

import pytest
import torch
from tiny import clip_config

from sen_toolbox.hooks import DatasetReportHook
from sen_toolbox.inference.encoder import Encoder
from sen_toolbox.inference.processor import Processor
from sen_toolbox.registry import BACKBONES
from sen_toolbox.text.tokenizers import CLIPTokenizer, VocabularyTokenizer
from sen_toolbox.text.tokens import check_fit


def test_a_tokenizer_may_have_fewer_ids_and_shorter_rows():
    tokenizer = VocabularyTokenizer(vocabulary=['red', 'coat'], context_length=5)
    assert tokenizer.vocab_size == 3
    check_fit(tokenizer, 3, 5)
    check_fit(tokenizer, 100, 77)


@pytest.mark.parametrize(('vocab_size', 'context_length'), [(2, 5), (3, 4)])
def test_one_id_or_one_token_too_many_is_refused_with_all_four_numbers(vocab_size, context_length):
    tokenizer = VocabularyTokenizer(vocabulary=['red', 'coat'], context_length=5)
    message = (
        r'\(VocabularyTokenizer\) has 3 ids and rows of 5 tokens, the text encoder takes '
        f'{vocab_size} ids and {context_length} tokens'
    )
    with pytest.raises(ValueError, match=message):
        check_fit(tokenizer, vocab_size, context_length)


@pytest.fixture(scope='module')
def model():
    """CLIP's towers for captions of 20 tokens."""
    model = torch.nn.Module()
    model.backbone = BACKBONES.build(
        clip_config(image_size=(32, 32), layers=1, text=dict(context_length=20))
    )
    model.heads = torch.nn.ModuleDict()
    return model


def dataset(tokenizer):
    steps = [SimpleNamespace(), SimpleNamespace(tokenizer=tokenizer)]
    return SimpleNamespace(metainfo=dict(num_classes=7), pipeline=SimpleNamespace(transforms=steps))


@pytest.mark.parametrize(
    ('train', 'val', 'fits'), [(20, 20, True), (21, 20, False), (20, 21, False)]
)
def test_training_starts_only_with_tokenizers_that_fit(model, monkeypatch, train, val, fits):
    monkeypatch.setattr('sen_toolbox.hooks.dataset_report.dataset_table', lambda datasets: '')
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset(CLIPTokenizer(train))),
        val_dataloader=SimpleNamespace(dataset=dataset(CLIPTokenizer(val))),
        val_loop=True,
        model=model,
        logger=logging.getLogger(),
    )
    hook = DatasetReportHook(num_classes=7)
    if fits:
        hook.before_train(runner)
        return
    with pytest.raises(ValueError, match='rows of 21 tokens, the text encoder takes 49408 ids and'):
        hook.before_train(runner)


def test_an_encoder_is_not_made_of_a_tokenizer_that_does_not_fit(model):
    steps = [
        dict(type='LoadImage'),
        dict(type='ResizeImage', size=(32, 32)),
        dict(type='Tokenize', tokenizer=dict(type='CLIPTokenizer', context_length=21)),
    ]
    with pytest.raises(ValueError, match='rows of 21 tokens, the text encoder .* 20 tokens at mo'):
        Encoder(model, Processor(steps), name='long')
