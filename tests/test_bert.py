"""BERT against transformers, and against the word features of TIPCB's and CFine's releases.

tests/data/bert.npz holds two groups, in float32 and eval mode: 'tipcb', BERT in small as
github.com/OrangeYHChen/TIPCB, commit 93aa7c53bf6f, runs it, and 'cfine', which also has the
attention of [CLS] in the last block, of github.com/shuanglinyan/CFine, commit ab330e3f712f.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toy_data import ROOT
from transformers import BertConfig, BertForPreTraining, BertModel

from sen_toolbox.models.text_encoders import BERT
from sen_toolbox.text.tokens import Tokens

SIZES = dict(
    vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20,
    max_position_embeddings=12,
)  # fmt: skip
HIDDEN = frozenset(f'extra.hidden_{number}' for number in range(4))


def captions() -> Tokens:
    torch.manual_seed(1)
    mask = torch.arange(12) < torch.tensor([12, 5, 9])[:, None]
    return Tokens(torch.randint(1, 40, (3, 12)) * mask, mask, torch.zeros(3).long())


def same(reference: BertModel, **options) -> BERT:
    """Ours with the weights of the model of transformers."""
    encoder = BERT(config=SIZES, dropout=0.0, **options)
    encoder.load_state_dict({k: reference.state_dict()[k] for k in encoder.state_dict()})
    return encoder.train(reference.training)


def reference(**options) -> BertModel:
    torch.manual_seed(0)
    dropouts = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # Only so does it tell its attention.
    config = BertConfig(**SIZES, **dropouts, attn_implementation='eager')
    model = BertModel(config).eval()
    for parameter in model.parameters():
        # Norms and biases begin at 1 and 0, where some faults cannot be seen.
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def test_it_computes_what_transformers_does():
    model, tokens = reference(), captions()
    expected = model(
        tokens.ids,
        attention_mask=tokens.mask.long(),
        output_hidden_states=True,
        output_attentions=True,
    )
    features = same(model)(tokens, HIDDEN | {'tokens', 'attention', 'extra.head_attention'})
    torch.testing.assert_close(features.tokens, expected.last_hidden_state)
    torch.testing.assert_close(features.embedding, expected.last_hidden_state[:, 0])
    for number, hidden in enumerate(expected.hidden_states):
        torch.testing.assert_close(features.extra[f'hidden_{number}'], hidden)
    attention = expected.attentions[-1].mean(1)[:, 0]
    torch.testing.assert_close(features.attention, attention)
    of_heads = expected.attentions[-1][:, :, 0].transpose(1, 2)
    torch.testing.assert_close(features.extra['head_attention'], of_heads)
    assert not features.attention.requires_grad
    assert (features.attention[~tokens.mask] == 0).all()
    pooled = same(model, pooled='pooler')(tokens).embedding
    torch.testing.assert_close(pooled, expected.pooler_output)


def test_its_gradients_are_those_of_transformers():
    model, tokens = reference().train(), captions()
    encoder = same(model)
    encoder(tokens).embedding.square().sum().backward()
    expected = model(tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
    expected[:, 0].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        theirs = model.get_parameter(name).grad
        assert (parameter.grad - theirs).norm() <= 1e-4 * theirs.norm() + 1e-5, name


def test_a_frozen_bert_gets_no_gradient_and_drops_what_it_is_told_to():
    tokens = captions()
    encoder = BERT(config=SIZES, frozen=True, dropout=0.1).train()
    first = encoder(tokens, frozenset({'tokens'}))
    assert not first.tokens.requires_grad
    assert not first.embedding.requires_grad
    assert [name for name, p in encoder.named_parameters() if p.requires_grad] == []
    assert not torch.equal(encoder(tokens).embedding, first.embedding)
    quiet = BERT(config=SIZES, frozen=True, dropout=0.0).train()
    assert torch.equal(quiet(tokens).embedding, quiet(tokens).embedding)
    assert torch.equal(encoder.eval()(tokens).embedding, encoder(tokens).embedding)


def test_every_dropout_has_the_rate():
    encoder = BERT(config=SIZES, dropout=0.3)
    rates = [m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)]
    # Of the embeddings, and of attention, its output and the MLP's in each of three blocks.
    assert rates == [0.3] * 10


def test_what_is_missing_in_its_config_is_that_of_bert_base():
    with torch.device('meta'):
        encoder = BERT(context_length=64, cuts_padding=False)
    spec = encoder.spec
    assert (spec.width, spec.vocab_size, spec.context_length) == (768, 30522, 64)
    assert not spec.cuts_padding
    # 109,482,240 with the pooler, as its authors' BERT-Base has.
    assert sum(p.numel() for p in encoder.parameters()) == 109_482_240 - 768 * 769


def release(group: str) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    data = np.load(ROOT / 'tests/data/bert.npz')
    arrays = {k.removeprefix(f'{group}/'): data[k] for k in data.files if k.startswith(group)}
    state = {k: torch.from_numpy(v).float() for k, v in arrays.items() if k.startswith('state/')}
    return {k.removeprefix('state/'): v for k, v in state.items()}, arrays


@pytest.mark.parametrize(
    ('group', 'sizes'),
    [
        (
            'tipcb',
            dict(vocab_size=120, hidden_size=32, intermediate_size=48, max_position_embeddings=64),
        ),
        (
            'cfine',
            dict(vocab_size=70, hidden_size=48, intermediate_size=96, max_position_embeddings=24),
        ),
    ],
)
def test_tokens_and_attention_equal_those_of_the_releases(group, sizes):
    state, data = release(group)
    sizes = {**sizes, 'num_hidden_layers': 2, 'num_attention_heads': 2}
    encoder = BERT(config=sizes).eval()
    encoder.load_state_dict(state)
    ids = torch.from_numpy(data['ids'])
    mask = ids != 0
    assert not mask.all()
    with torch.no_grad():
        features = encoder(Tokens(ids, mask, torch.zeros(len(ids)).long()), encoder.provides)
    # TIPCB reads the states of padding, too.
    np.testing.assert_allclose(features.tokens, data['tokens'], rtol=1e-5, atol=1e-5)
    if 'attention' in data:
        np.testing.assert_allclose(features.attention, data['attention'], rtol=1e-5, atol=1e-6)


def hub_state() -> dict[str, torch.Tensor]:
    """Tensors under the names of the published file, which was converted from TensorFlow."""
    torch.manual_seed(0)
    state = BertForPreTraining(BertConfig(**SIZES)).state_dict()
    state = {
        key.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
            'LayerNorm.bias', 'LayerNorm.beta'
        ): value.clone()
        for key, value in state.items()
    }
    return {**state, 'bert.embeddings.position_ids': torch.arange(12)[None]}


@pytest.mark.parametrize('pooled', ['cls', 'pooler'])
@pytest.mark.parametrize('prefix', ['bert.', ''])
@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_published_files_are_read_under_either_name(name, prefix, pooled, tmp_path):
    state = {prefix + k.removeprefix('bert.'): v for k, v in hub_state().items()}
    save = save_file if name.endswith('safetensors') else torch.save
    save(state, tmp_path / name)
    encoder = BERT(config=SIZES, pooled=pooled, pretrained=str(tmp_path / name))
    encoder.load_weights()
    for key, value in encoder.state_dict().items():
        old = key.replace('LayerNorm.weight', 'LayerNorm.gamma')
        old = old.replace('LayerNorm.bias', 'LayerNorm.beta')
        assert torch.equal(value, state[prefix + old]), key


def test_other_files_are_refused_by_key(tmp_path):
    state = hub_state()
    del state['bert.pooler.dense.bias']
    state['bert.encoder.layer.3.output.dense.bias'] = torch.zeros(16)
    torch.save(state, tmp_path / 'pytorch_model.bin')
    encoder = BERT(config=SIZES, pooled='pooler', pretrained=str(tmp_path / 'pytorch_model.bin'))
    with pytest.raises(
        ValueError, match=r'missing pooler\.dense\.bias; unexpected encoder\.layer\.3\.output'
    ):
        encoder.load_weights()
    encoder = BERT(config=SIZES, pretrained=str(tmp_path / 'none.bin'))
    with pytest.raises(FileNotFoundError, match='pytorch_model.bin of google-bert/bert-base-unc'):
        encoder.load_weights()


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"pooled is one of \['cls', 'pooler'\], got 'mean'"):
        BERT(config=SIZES, pooled='mean')
    with pytest.raises(ValueError, match='context_length 13 exceeds the 12 positions'):
        BERT(config=SIZES, context_length=13)


def test_transformers_is_imported_when_one_is_built_and_not_before():
    # Users of other encoders need not wait the seconds that it takes.
    from sen_toolbox.models.text_encoders import bert

    origins = {getattr(value, '__module__', None) or '' for value in vars(bert).values()}
    assert not [name for name in origins if name.startswith('transformers')]
    assert 'transformers' not in vars(bert)


def test_it_is_built_without_a_network(monkeypatch):
    import socket

    monkeypatch.setattr(socket, 'socket', None)
    assert BERT(config=SIZES)(captions()).embedding.shape == (3, 16)
