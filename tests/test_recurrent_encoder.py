"""RecurrentTextEncoder against captions read one by one, and against three releases.

tests/data/recurrent.npz holds three groups, in float32 and eval mode: 'gru' of
github.com/BrandonHanx/TextReID, commit 0d00d8e0844f; 'one_way', one of the two LSTMs of
github.com/labyrinth7x/Deep-Cross-Modal-Projection-Learning-for-Image-Text-Matching, commit
4651c1b53ef3; 'averaged', the LSTM behind BERT of github.com/ZhiyinShao-H/LGUR, commit c203cc7763ab.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_data import ROOT

from sen_toolbox.models.text_encoders import RecurrentBERT, RecurrentTextEncoder
from sen_toolbox.models.text_encoders.recurrence import packed_states, unpacked_states
from sen_toolbox.text.tokens import Tokens

# What it reads of a tokenizer.
TOKENIZER = SimpleNamespace(vocab_size=30, context_length=9)
SIZES = dict(tokenizer=TOKENIZER, word_dim=6, hidden_dim=5)
TOKENS = frozenset({'tokens'})


def build(**options) -> RecurrentTextEncoder:
    torch.manual_seed(0)
    return RecurrentTextEncoder(**{**SIZES, **options})


def captions(lengths, ids=None) -> Tokens:
    torch.manual_seed(1)
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    # Behind a caption stand ids that would change it if they were read.
    ids = torch.randint(1, 30, mask.shape) if ids is None else ids
    return Tokens(ids, mask, torch.tensor(lengths) - 1)


def slow_states(encoder, words):
    """States (L, W) of a caption (L, E), step by step, each direction alone."""
    cell = torch.nn.LSTMCell if isinstance(encoder.rnn, torch.nn.LSTM) else torch.nn.GRUCell
    directions = []
    for suffix in ('', '_reverse') if encoder.rnn.bidirectional else ('',):
        step = cell(6, 5, bias=encoder.rnn.bias)
        names = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')[: 4 if encoder.rnn.bias else 2]
        step.load_state_dict(
            {name: encoder.rnn.state_dict()[f'{name}_l0{suffix}'] for name in names}
        )
        state, states = None, []
        for word in words.flip(0) if suffix else words:
            state = step(word[None], state)
            states.append(state[0] if isinstance(state, tuple) else state)
        states = torch.cat(states)
        directions.append(states.flip(0) if suffix else states)
    return directions


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('kind', ['lstm', 'gru'])
@pytest.mark.parametrize(
    ('options', 'pool'),
    [
        (dict(pooling='max'), lambda both: torch.cat(both, 1).max(0).values),
        (dict(pooling='mean'), lambda both: torch.cat(both, 1).mean(0)),
        (dict(pooling='last'), lambda both: torch.cat([both[0][-1], both[1][0]])),
        (dict(average_directions=True), lambda both: ((both[0] + both[1]) / 2).max(0).values),
        (dict(bidirectional=False), lambda both: both[0].max(0).values),
        (dict(bidirectional=False, pooling='last'), lambda both: both[0][-1]),
    ],
)
def test_a_caption_is_read_word_by_word_and_nothing_behind_it(options, pool, kind, bias):
    encoder = build(kind=kind, bias=bias, **options).eval()
    tokens = captions([9, 1, 4, 6])
    with torch.no_grad():
        features = encoder(tokens, TOKENS)
        for row, length in enumerate(tokens.lengths.tolist()):
            words = encoder.word_embedding.weight[tokens.ids[row, :length]]
            both = slow_states(encoder, words)
            torch.testing.assert_close(features.embedding[row], pool(both))
            states = (both[0] + both[1]) / 2 if encoder.average_directions else torch.cat(both, 1)
            torch.testing.assert_close(features.tokens[row, :length], states)
            assert (features.tokens[row, length:] == 0).all()


@pytest.mark.parametrize(
    'options',
    [
        dict(average_directions=True, bias=False),
        dict(average_directions=False),
        dict(bidirectional=False),
    ],
)
def test_a_cpu_and_a_gpu_read_an_lstm_alike_in_two_ways(options):
    encoder, lengths = build(**options), torch.tensor([3, 7, 1])
    torch.manual_seed(2)
    words = torch.randn(3, 9, 6)
    found = []
    for read in (packed_states, unpacked_states):
        encoder.zero_grad()
        states = read(encoder.rnn, words, lengths, encoder.average_directions)
        states.square().sum().backward()
        found.append([states, *(parameter.grad for parameter in encoder.rnn.parameters())])
    for packed, unpacked in zip(*found, strict=True):
        torch.testing.assert_close(unpacked, packed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_an_lstm_computes_in_half_precision_on_a_cpu(dtype):
    encoder = build(average_directions=True)
    expected = encoder(captions((5, 2)), TOKENS).tokens
    with torch.autocast('cpu', dtype):
        found = encoder(captions((5, 2)), TOKENS).tokens
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.02)


@pytest.mark.slow
def test_an_lstm_computes_in_half_precision_on_a_cpu_without_avx512():
    there = f'{__file__}::test_an_lstm_computes_in_half_precision_on_a_cpu'
    environment = {**os.environ, 'DNNL_MAX_CPU_ISA': 'AVX2'}
    subprocess.run([sys.executable, '-m', 'pytest', there], check=True, env=environment)


def behind_bert(**options) -> RecurrentBERT:
    config = dict(hidden_size=6, intermediate_size=6, num_attention_heads=2, num_hidden_layers=1,
                  max_position_embeddings=9, vocab_size=30)  # fmt: skip
    torch.manual_seed(0)
    return RecurrentBERT(bert=dict(config=config, dropout=0.0), hidden_dim=5, **options)


@pytest.mark.parametrize('kind', ['lstm', 'gru'])
@pytest.mark.parametrize(
    ('options', 'pool', 'width'),
    [
        (dict(), lambda both: ((both[0] + both[1]) / 2).max(0).values, 5),
        (dict(bias=True, pooling='mean'), lambda both: ((both[0] + both[1]) / 2).mean(0), 5),
        (dict(average_directions=False), lambda both: torch.cat(both, 1).max(0).values, 10),
        (
            dict(average_directions=False, bias=True, pooling='last'),
            lambda both: torch.cat([both[0][-1], both[1][0]]),
            10,
        ),
    ],
)
@torch.no_grad()
def test_what_bert_makes_of_the_words_is_read_like_words(kind, options, pool, width):
    encoder = behind_bert(kind=kind, **options).eval()
    assert (encoder.spec.width, encoder.rnn.bias) == (width, options.get('bias', False))
    tokens = captions([9, 1, 4])
    found, words = encoder(tokens), encoder.bert(tokens, TOKENS).tokens
    for row, length in enumerate(tokens.lengths.tolist()):
        expected = pool(slow_states(encoder, words[row, :length]))
        torch.testing.assert_close(found.embedding[row], expected)


@pytest.mark.parametrize(('padding', 'width'), [(0, 5), (3, 8), (6, 9)])
def test_bert_reads_no_column_that_nothing_behind_it_reads(padding, width):
    encoder, seen = behind_bert(padding=padding), []
    encoder.bert.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].ids.shape))
    features = encoder(captions((5, 2)), TOKENS)
    assert seen == [(2, width)]
    assert features.tokens.shape[1] == 9
    assert not features.tokens[0, width:].any()
    assert features.mask.sum(dim=1).tolist() == [width, min(2 + padding, 9)]


def test_behind_bert_options_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"kind is one of \['lstm', 'gru'\], got 'rnn'"):
        behind_bert(kind='rnn')
    with pytest.raises(ValueError, match=r"pooling is one of \['max', 'mean', 'last'\], got 'cls'"):
        behind_bert(pooling='cls')
    with pytest.raises(ValueError, match='set average_directions=False'):
        behind_bert(pooling='last')


def test_a_caption_without_a_word_has_an_embedding():
    encoder = build().eval()
    embedding = encoder(captions([3, 0])).embedding
    assert embedding.isfinite().all()


def test_dropout_is_at_the_input_and_the_output_in_training_alone():
    tokens = captions([9, 4])
    assert (build(input_dropout=1.0, bias=False).train()(tokens, TOKENS).tokens == 0).all()
    encoder = build(output_dropout=0.5).train()
    states = encoder(tokens, TOKENS).tokens
    kept = states != 0
    assert 0.2 < kept[0].float().mean() < 0.8
    exact = encoder.eval()(tokens, TOKENS).tokens
    torch.testing.assert_close(states[kept], 2 * exact[kept])
    assert torch.equal(exact, encoder(tokens, TOKENS).tokens)


def test_words_begin_as_asked():
    bound = (6 / (30 + 6)) ** 0.5
    weight = build(word_init='xavier').word_embedding.weight
    assert 0.9 * bound < weight.abs().max() <= bound
    assert build(word_init='normal').word_embedding.weight.std() > 0.8


@pytest.mark.parametrize('name', ['words.npy', 'words.npz'])
def test_word_vectors_are_read_and_stay_as_they_are(name, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(30, 6))
    save = np.save if name.endswith('npy') else np.savez
    save(tmp_path / name, vectors)
    encoder = build(word_vectors=str(tmp_path / name))
    encoder.load_weights()
    np.testing.assert_allclose(encoder.word_embedding.weight.detach(), vectors, rtol=1e-6)
    encoder(captions([4])).embedding.sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert without == ['word_embedding.weight']
    # A checkpoint of a training holds them, so that the file need not be there any more.
    state = {f'backbone.text.{key}': value for key, value in encoder.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'epoch_1.pth')
    again = build(word_vectors='nowhere.npy', pretrained=str(tmp_path / 'epoch_1.pth'))
    again.load_weights()
    assert torch.equal(again.word_embedding.weight, encoder.word_embedding.weight)


def test_other_files_of_word_vectors_are_refused(tmp_path):
    path = tmp_path / 'words.npz'

    def load(path):
        build(word_vectors=str(path)).load_weights()

    with pytest.raises(
        FileNotFoundError, match=r'array \(30, 6\) .* model\.backbone\.text\.word_v'
    ):
        load(tmp_path / 'nowhere.npy')
    np.savez(path, a=np.zeros((30, 6)), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"is to hold one array, it holds \['a', 'b'\]"):
        load(path)
    np.savez(path, np.zeros((30, 5)))
    with pytest.raises(ValueError, match=r'of shape \(30, 5\), expected \(30, 6\)'):
        load(path)
    np.save(tmp_path / 'words.npy', np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r'not a readable \.npy or \.npz file: Object arrays'):
        load(tmp_path / 'words.npy')


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"kind is one of \['lstm', 'gru'\], got 'rnn'"):
        build(kind='rnn')
    with pytest.raises(
        ValueError, match=r"pooling is one of \['max', 'mean', 'last', 'padded_max'\], got 'cls'"
    ):
        build(pooling='cls')
    with pytest.raises(ValueError, match=r"word_init is one of \['normal', 'xavier'\], got 'zero'"):
        build(word_init='zero')
    for options in (dict(bidirectional=False), dict(pooling='last')):
        with pytest.raises(ValueError, match='average_directions is for the states of two'):
            build(average_directions=True, **options)


def release(group: str, tmp_path, words: np.ndarray | None = None, **options):
    """The encoder with the release's weights, its captions and what it computes."""
    data = np.load(ROOT / 'tests/data/recurrent.npz')
    arrays = {k.removeprefix(f'{group}/'): data[k] for k in data.files if k.startswith(group)}
    vectors = arrays['vectors'] if words is None else words(arrays)
    np.save(tmp_path / 'words.npy', vectors.astype(np.float32))
    rnn = {k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')}
    gates = 3 if options['kind'] == 'gru' else 4
    encoder = RecurrentTextEncoder(
        tokenizer=SimpleNamespace(vocab_size=len(vectors), context_length=100),
        word_dim=vectors.shape[1],
        hidden_dim=len(rnn['weight_hh_l0']) // gates,
        bias=False,
        word_vectors=str(tmp_path / 'words.npy'),
        **options,
    ).eval()
    encoder.load_weights()
    encoder.rnn.load_state_dict({k: torch.from_numpy(v).float() for k, v in rnn.items()})
    ids = np.arange(len(vectors)).reshape(arrays['words'].shape[:2]) if words else arrays['ids']
    lengths = torch.from_numpy(arrays['lengths'])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        return encoder(Tokens(torch.from_numpy(ids), mask, lengths - 1), TOKENS), arrays


def test_states_equal_those_of_cm_moco(tmp_path):
    features, data = release('gru', tmp_path, kind='gru')
    # The release pools the zeros behind a caption, too, up to the longest of the batch.
    longest = int(data['lengths'].max())
    maximum = features.tokens[:, :longest].max(dim=1).values
    np.testing.assert_allclose(maximum, data['maximum'], rtol=1e-5, atol=1e-5)


def test_states_equal_those_of_cmpm(tmp_path):
    features, data = release('one_way', tmp_path, kind='lstm', bidirectional=False)
    np.testing.assert_allclose(features.tokens, data['states'], rtol=1e-5, atol=1e-5)


def test_states_equal_those_of_lgur(tmp_path):
    # Its words are outputs of BERT: here each is a word of its own.
    features, data = release(
        'averaged',
        tmp_path,
        words=lambda arrays: arrays['words'].reshape(-1, arrays['words'].shape[2]),
        kind='lstm',
        average_directions=True,
    )
    np.testing.assert_allclose(features.tokens, data['states'], rtol=1e-5, atol=1e-5)
