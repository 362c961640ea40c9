"""CMPM/C against the numbers of two codes, in float32 on the CPU.

- ``data/authors_*.npz``: github.com/YingZhangDUT/Cross-Modal-Projection-Learning, commit
  447d6427528b, TensorFlow; text encoder, projections and losses. Features of images are given.
- ``data/port_*.npz``: github.com/labyrinth7x/Deep-Cross-Modal-Projection-Learning-for-Image-Text-
  Matching, commit 4651c1b53ef3, PyTorch; the whole model with a small ResNet and a small MobileNet.

All in small widths. ``*_input.npz`` has weights and batch, ``*_expected.npz`` what came out.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import (
    LOSS,
    after_backward,
    check_close,
    check_full_gradients,
    check_norms,
    load_arrays,
    relative_error,
    under,
)
from tiny import build_optimizer
from torch import nn

from projects.cmpm import official
from sen_toolbox.config import load_config
from sen_toolbox.models.features import (
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.heads import CMPCHead
from sen_toolbox.models.losses import ProjectionMatchingLoss
from sen_toolbox.registry import IMAGE_ENCODERS, LOSSES, MODELS
from sen_toolbox.text.tokens import Tokens

pytestmark = pytest.mark.numeric

CONFIGS, DATA = Path(__file__).parent / 'configs', Path(__file__).parent / 'data'
# Config, its sizes, and the number of words beside unknown ones.
PORTS = {
    'port_r50': dict(
        config='cmpm_port_r50_cuhk.py',
        words=59,
        num_classes=9,
        image_size=(64, 64),
        context_length=20,
        **{
            'model.backbone.embed_dim': 28,
            'model.backbone.image.depth': dict(
                block='bottleneck', blocks=[1, 1, 1, 1], widths=[4, 8, 16, 32]
            ),
            'model.backbone.text.hidden_dim': 20,
            'model.backbone.text.word_dim': 24,
        },
    ),
    'port_mobilenet': dict(
        config='cmpm_port_mobilenet_cuhk.py',
        words=44,
        num_classes=7,
        context_length=14,
        **{
            'model.backbone.embed_dim': 24,
            'model.backbone.image.shrink': 16,
            'model.backbone.image.dropout': 0.0,
            'model.backbone.text.hidden_dim': 16,
            'model.backbone.text.word_dim': 20,
        },
    ),
}


def arrays(name: str) -> dict[str, np.ndarray]:
    return load_arrays(DATA / f'{name}.npz')


def group(case: str, prefix: str) -> dict[str, torch.Tensor]:
    """Weights ('state') or batch of a case, numbers in float32."""
    found = {
        key.removeprefix(f'{prefix}/'): torch.from_numpy(value)
        for key, value in arrays(f'{case}_input').items()
        if key.startswith(f'{prefix}/')
    }
    return {k: v.float() if v.is_floating_point() else v for k, v in found.items()}


def shipped(config: str, words: int, **overrides):
    """A config of the project in small widths, with a vocabulary of so many words."""
    given = {'tokenizer.vocab_file': None, 'tokenizer.vocabulary': [f'w{n}' for n in range(words)]}
    starts = {'model.backbone.image.pretrained': None, 'model.backbone.text.dropout': 0.0}
    return load_config(CONFIGS / config, {**given, **starts, **overrides})


def as_tokens(ids: torch.Tensor, lengths: torch.Tensor) -> Tokens:
    return Tokens(ids, torch.arange(ids.shape[1]) < lengths[:, None], lengths - 1)


@pytest.fixture(params=PORTS)
def port(request):
    """The model of the port with its weights, its batch and what it made of it."""
    case = request.param
    config = shipped(**PORTS[case])
    model = MODELS.build(config.model)
    model.load_state_dict(official.from_official(group(case, 'state')))
    given = group(case, 'batch')
    batch = dict(
        images=given['images_uint8'].float() / 64 - 2,
        tokens=as_tokens(given['tokens'], given['lengths']),
        labels=given['pids'],
    )
    return config, model, batch, arrays(f'{case}_expected')


@torch.no_grad()
def test_encoders_and_projections_of_the_port_in_evaluation(port):
    _, model, batch, expected = port
    backbone = model.eval().backbone
    features = backbone.image(batch['images'])
    text = backbone.text(batch['tokens'], frozenset({'tokens'}))
    size = backbone.text.first.hidden_size
    # The port takes the maximum over padding in evaluation, too.
    padded = text.tokens.max(dim=1).values
    longest = batch['tokens'].lengths == batch['tokens'].lengths.max()
    assert torch.equal(text.embedding[longest], padded[longest])
    image, caption = backbone.image_projection(features.embedding), backbone.text_projection(padded)
    check_close(
        expected,
        **{
            'eval/image_features': features.embedding[:, :, None, None],
            'eval/lstm_first': text.tokens[:, :, :size],
            'eval/lstm_second_own_order': text.tokens[:, :, size:],
            'eval/text_features': padded[:, :, None, None],
            'eval/image': image,
            'eval/text': caption,
            'eval/similarity': F.normalize(image) @ F.normalize(caption).t(),
        },
    )


def test_embeddings_losses_and_gradients_of_the_port(port):
    _, model, batch, expected = port
    pair = model.train().backbone(batch['images'], batch['tokens'])
    check_close(
        expected, **{'train/image': pair.image.embedding, 'train/text': pair.text.embedding}
    )
    check_similarities(pair, batch['labels'], expected, 'sim')
    pair.image.embedding.retain_grad()
    pair.text.embedding.retain_grad()
    logged = {name: head(pair, batch, None) for name, head in model.heads.items()}
    total = logged['cmpm']['loss'] + logged['cmpc']['loss']
    total.backward()
    for name, value in (
        ('cmpm', logged['cmpm']['loss']),
        ('cmpc', logged['cmpc']['loss']),
        ('total', total),
        ('image_precision', logged['cmpc']['image_acc']),
        ('text_precision', logged['cmpc']['text_acc']),
    ):
        assert value.item() == pytest.approx(expected[f'loss/{name}'].item(), **LOSS), name
    for modality in ('image', 'text'):
        found = getattr(pair, modality).embedding.grad
        assert relative_error(found, expected[f'grad_embedding/{modality}']) < 1e-4
    found = official_gradients(model)
    norms = dict(zip(expected['gradnorm/names'], expected['gradnorm/values'], strict=True))
    assert set(found) == set(norms)
    check_norms(found, norms, norms.values())
    check_full_gradients(found, under('grad/', expected), 8)
    assert not model.backbone.word_embedding.weight.grad[0].any()


def check_similarities(pair, labels, expected, name):
    """Means over pairs of one identity and of two; the authors log 1 minus the cosine."""
    cosines = F.normalize(pair.image.embedding) @ F.normalize(pair.text.embedding).t()
    values = cosines if name == 'sim' else 1 - cosines
    same = labels[:, None] == labels[None, :]
    for kind, rows in (('pos', same), ('neg', ~same)):
        found = values[rows].mean().item()
        assert found == pytest.approx(expected[f'loss/{kind}_avg_{name}'].item(), **LOSS)


def official_gradients(model) -> dict[str, torch.Tensor]:
    """Gradients under the names and in the shapes of the port."""
    return official.to_official({name: p.grad for name, p in model.named_parameters()}, model)


def test_statistics_and_steps_of_the_port(port):
    # In double precision: where a gradient is zero but for rounding, Adam makes a whole step of it,
    # in a direction that the machine decides. The official third loss has that error too.
    config, model, batch, expected = port
    batch = {**batch, 'images': batch['images'].double()}
    optimizer = build_optimizer(config.optim_wrapper, model.train().double())
    for step, total in enumerate(expected['optim/losses']):
        _, logged = after_backward(model, batch)
        bounds = LOSS if step < 2 else dict(rel=2e-5)
        assert logged['total'].item() == pytest.approx(total, **bounds)
        if step == 0:
            state = official.to_official(model.state_dict(), model)
            statistics = [key for key in expected if key.startswith('after/')]
            assert len(statistics) == 4
            check_close(expected, **{k: state[k.removeprefix('after/')] for k in statistics})
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            state = official.to_official(model.state_dict(), model)
            moved = [key for key in expected if key.startswith('step1/')]
            assert len(moved) == 4
            check_close(expected, **{k: state[k.removeprefix('step1/')] for k in moved})


def test_the_schedule_of_the_port_falls_three_times():
    config = load_config(CONFIGS / 'cmpm_port_r50_cuhk.py')
    [schedule] = config.param_scheduler
    assert (schedule.milestones, schedule.gamma, config.max_epochs) == ([80, 150, 200], 0.1, 300)


def test_weights_of_the_port_go_there_and_back_to_the_bit(port, request):
    _, model, _, _ = port
    state = group(request.node.callspec.params['port'], 'state')
    back = official.to_official(official.from_official(state), model)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key
    with pytest.raises(ValueError, match=r"no place in the layout, the first are \['visual\.x'\]"):
        official.from_official({**state, 'visual.x': torch.zeros(1)})


def free_pairs(case: str, labels: str):
    given = group(case, 'batch')
    embeddings = [given[f'fn/{name}'].requires_grad_() for name in ('image', 'text')]
    return embeddings, given[f'fn/{labels}']


def cmpc_on(image, text, labels, weight) -> tuple[CMPCHead, dict]:
    sizes = PairSpec(image.shape[1], ImageSpec(1, (1, 1)), TextSpec(1, 1, 1))
    head = CMPCHead(num_classes=weight.shape[1], spec=sizes)
    head.weight.data.copy_(weight.t())
    pair = PairFeatures(ImageFeatures(image), TextFeatures(text))
    return head, head(pair, dict(labels=labels), None)


@pytest.mark.parametrize(
    ('case', 'loss', 'labels', 'weight', 'terms'),
    [
        ('port_r50', 'CMPMLoss', 'pids', 'W', ['loss']),
        ('port_mobilenet', 'CMPMLoss', 'pids', 'W', ['loss']),
        ('authors', 'ProjectionMatchingLoss', 'labels', 'Wfc', ['i2t', 't2i']),
    ],
)
def test_the_losses_of_free_embeddings(case, loss, labels, weight, terms):
    expected = arrays(f'{case}_expected')
    (image, text), labels = free_pairs(case, labels)
    found = LOSSES.build(dict(type=loss))(image, text, labels)
    check_free(found, expected, 'cmpm', terms, image=image, text=text)
    image.grad, text.grad = None, None
    head, logged = cmpc_on(image, text, labels, group(case, 'state')[weight])
    terms = terms if terms == ['loss'] else ['ipt', 'tpi']
    check_free(logged['loss'], expected, 'cmpc', terms, image=image, text=text)
    assert relative_error(head.weight.grad.t(), expected['fn/cmpc/grad_W']) < 1e-4


def check_free(loss, expected, name, terms, **embeddings):
    total = sum(expected[f'fn/{name}/{term}'].item() for term in terms)
    assert loss.item() == pytest.approx(total, **LOSS)
    loss.backward()
    for modality, embedding in embeddings.items():
        assert relative_error(embedding.grad, expected[f'fn/{name}/grad_{modality}']) < 1e-4


@IMAGE_ENCODERS.register_module()
class GivenFeatures(nn.Module):
    """Stands for a trunk: its images are features."""

    provides: frozenset[str] = frozenset()

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.spec = ImageSpec(width, (1, 1))

    def forward(self, images, reads=frozenset(), keep=None):
        return ImageFeatures(images)


JOINT, TWO_WAYS = 'joint_embedding', 'BiLSTM/bidirectional_lstm'
# TensorFlow keeps input and state in one matrix, its gates as input, candidate, forget, output.
GATES = [0, 2, 1, 3]
FROM_TENSORFLOW = {
    f'backbone.{modality}_projection.{ours}': f'{JOINT}/{modality}_joint_embedding/{theirs}'
    for modality in ('image', 'text')
    for ours, theirs in (
        ('linear.weight', 'weights'),
        ('norm.weight', 'BatchNorm/gamma'),
        ('norm.bias', 'BatchNorm/beta'),
        ('norm.running_mean', 'BatchNorm/moving_mean'),
        ('norm.running_var', 'BatchNorm/moving_variance'),
    )
}


def in_our_names(theirs: dict[str, torch.Tensor], *, forget: float) -> dict[str, torch.Tensor]:
    """Tensors of the authors' variables by our names; ``forget`` is added to the gate's bias."""
    ours = {name: theirs[key] for name, key in FROM_TENSORFLOW.items() if key in theirs}
    for name in [name for name in ours if name.endswith('linear.weight')]:
        ours[name] = ours[name].flatten(0, 2).t()
    ours['backbone.text.word_embedding.weight'] = theirs['BiLSTM/token_embedding_weights']
    ours['heads.cmpc.weight'] = theirs['Wfc'].t()
    starts = []
    for lstm, way, long_way in (('first', 'fw', 'forward'), ('second', 'bw', 'backward')):
        cell = f'{TWO_WAYS}/bidirectional_rnn/{way}/basic_lstm_cell'
        kernel, bias = (
            theirs[f'{cell}/{name}'].t().unflatten(0, (4, -1))[GATES] for name in ('kernel', 'bias')
        )
        bias = bias.clone()
        bias[1] += forget
        kernel = kernel.flatten(0, 1)
        width = theirs['BiLSTM/token_embedding_weights'].shape[1]
        ours |= {
            f'backbone.text.{lstm}.weight_ih_l0': kernel[:, :width],
            f'backbone.text.{lstm}.weight_hh_l0': kernel[:, width:],
            f'backbone.text.{lstm}.bias_ih_l0': bias.flatten(),
        }
        # State 1 is the hidden state, 0 the cell.
        names = [f'{TWO_WAYS}/{long_way}/init_state_{number}' for number in (1, 0)]
        starts.append(torch.stack([theirs[name] for name in names]))
    ours['backbone.text.starts'] = torch.stack(starts)
    return ours


@pytest.fixture
def authors():
    sizes = {'embed_dim': 20, 'text.hidden_dim': 12, 'text.word_dim': 16}
    config = shipped(
        'cmpm_mobilenet_cuhk.py',
        words=48,
        num_classes=9,
        context_length=12,
        **{f'model.backbone.{name}': value for name, value in sizes.items()},
    )
    config.model.backbone.image = dict(type='GivenFeatures', width=40)
    model = MODELS.build(config.model)
    state = in_our_names(group('authors', 'state'), forget=1.0)
    for lstm in ('first', 'second'):
        state[f'backbone.text.{lstm}.bias_hh_l0'] = torch.zeros(48)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (unexpected, [k for k in missing if not k.endswith('num_batches_tracked')]) == ([], [])
    given = group('authors', 'batch')
    tokens = as_tokens(given['input_seqs'], given['input_mask'].sum(dim=1))
    batch = dict(images=given['image_features'].flatten(1), tokens=tokens, labels=given['labels'])
    return config, model, batch, arrays('authors_expected')


@torch.no_grad()
def test_the_authors_embeddings_in_evaluation(authors):
    _, model, batch, expected = authors
    backbone = model.eval().backbone
    # Here a batch is padded, as in the numbers; the authors' test has one caption in a batch.
    padded = backbone.text(batch['tokens'], frozenset({'tokens'})).tokens.max(dim=1).values
    check_close(
        expected,
        **{
            'eval/text_features': padded[:, None, None],
            'eval/image': backbone.image_projection(batch['images']),
            'eval/text': backbone.text_projection(padded),
        },
    )


def test_a_caption_alone_is_embedded_as_in_its_batch_in_evaluation(authors):
    _, model, batch, _ = authors
    model.eval()
    together = model.embed_tokens(batch['tokens'])
    for row, length in enumerate(batch['tokens'].lengths.tolist()):
        alone = model.embed_tokens(batch['tokens'][row : row + 1].cut(length))
        torch.testing.assert_close(alone[0], together[row])


def test_the_authors_losses_gradients_and_statistics(authors):
    config, model, batch, expected = authors
    pair = model.train().backbone(batch['images'], batch['tokens'])
    padded = model.backbone.text(batch['tokens']).embedding
    check_close(
        expected,
        **{
            'train/text_features': padded[:, None, None],
            'train/image': pair.image.embedding,
            'train/text': pair.text.embedding,
        },
    )
    state = model.state_dict()
    statistics = {n: k for n, k in FROM_TENSORFLOW.items() if f'after/{k}' in expected}
    assert len(statistics) == 4
    check_close(expected, **{f'after/{key}': state[name] for name, key in statistics.items()})
    check_similarities(pair, batch['labels'], expected, 'dist')
    image, text = pair.image.embedding, pair.text.embedding
    for name, source, target in (('ipt', image, text), ('tpi', text, image)):
        one_way = cmpc_one_way(source, target, batch['labels'], model.heads['cmpc'].weight)
        assert one_way.item() == pytest.approx(expected[f'loss/cmpc_{name}'].item(), **LOSS)
    logged = {name: head(pair, batch, None) for name, head in model.heads.items()}
    cmpm = expected['loss/cmpm_i2t'] + expected['loss/cmpm_t2i']
    assert logged['cmpm']['loss'].item() == pytest.approx(cmpm.item(), **LOSS)
    for name in ('image', 'text'):
        accuracy = logged['cmpc'][f'{name}_acc'].item()
        assert accuracy == pytest.approx(expected[f'loss/{name}_precision'].item())
    raw = logged['cmpm']['loss'] + logged['cmpc']['loss']
    assert raw.item() == pytest.approx(expected['loss/raw'].item(), **LOSS)
    raw.backward()
    # The optimiser adds the gradient of the regularisation, by the rules of the config.
    rules = config.optim_wrapper.paramwise_cfg.rules
    config.optim_wrapper.paramwise_cfg.rules = [r for r in rules if 'image' not in r.pattern]
    decays = {
        id(p): g['weight_decay']
        for g in build_optimizer(config.optim_wrapper, model).param_groups
        for p in g['params']
    }
    penalty = sum(decays[id(p)] / 2 * p.square().sum().item() for p in model.parameters())
    assert penalty == pytest.approx(expected['loss/regularization'].item(), rel=1e-4)
    total = expected['loss/total'].item()
    assert raw.item() + penalty == pytest.approx(total, **LOSS)
    theirs = {
        k.removeprefix('grad/'): torch.from_numpy(v)
        for k, v in expected.items()
        if k.startswith('grad/')
    }
    for name, gradient in in_our_names(theirs, forget=0.0).items():
        parameter = model.get_parameter(name)
        found = parameter.grad + decays[id(parameter)] * parameter.detach()
        assert relative_error(found, gradient.numpy()) < 1e-4, name


def cmpc_one_way(source, target, labels, weight):
    unit = F.normalize(target)
    projected = (source * unit).sum(dim=1, keepdim=True) * unit
    return F.cross_entropy(projected @ F.normalize(weight).t(), labels)


def test_only_the_authors_text_is_read_with_states_that_are_learnt():
    port, authors = (load_config(CONFIGS / f'cmpm_{n}_cuhk.py').model for n in ('port_r50', 'r50'))
    assert authors.backbone.text.get('learns_start', True)
    assert not port.backbone.text.learns_start
    assert isinstance(LOSSES.build(authors.heads.cmpm.loss), ProjectionMatchingLoss)
