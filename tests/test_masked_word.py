"""The head that predicts masked words, alone and on two processes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmcv.transforms import Compose
from ranks import run_ranks
from tiny import all_features, as_tokens, clip_arch, irra_config
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sen_toolbox.config import load_config
from sen_toolbox.models.gather import global_sum
from sen_toolbox.registry import FUNCTIONS, MODELS, TRANSFORMS

pytestmark = pytest.mark.numeric

# A small vocabulary; the end token has the highest id, as in CLIP's.
MASK, START, END, VOCABULARY = 97, 98, 99, 100


def small_irra() -> nn.Module:
    torch.manual_seed(0)
    arch = clip_arch()
    arch['text_cfg']['vocab_size'] = VOCABULARY
    sizes = dict(num_classes=4, image_size=(64, 32), clip_arch=arch)
    return MODELS.build(irra_config(**sizes)).double()


def make_batch(masked=((0, 2), (0, 3), (2, 1), (3, 4), (3, 5))) -> dict:
    """Four pairs; ``masked`` are (pair, position) of the words to predict."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, MASK, (4, 9), generator=generator)
    tokens[:, 0], tokens[:, -2], tokens[:, -1] = START, END, 0
    labels = torch.zeros_like(tokens)
    for place in masked:
        labels[place], tokens[place] = tokens[place].clone(), MASK
    images = torch.randn(4, 3, 64, 32, generator=generator, dtype=torch.float64)
    return dict(images=images, tokens=as_tokens(tokens), labels=torch.arange(4), word_labels=labels)


def slow_loss(model, batch):
    """Scores of the whole vocabulary at every position, the others ignored."""
    head = model.heads['mlm']
    pair = all_features(model, batch)
    scores = head.classifier(head.neck(pair.text.tokens, pair.image.tokens))
    loss = F.cross_entropy(scores.flatten(0, 1), batch['word_labels'].flatten(), ignore_index=0)
    right = (scores.argmax(dim=2) == batch['word_labels'])[batch['word_labels'] > 0]
    return loss, right.double().mean()


def gradients(module) -> dict[str, torch.Tensor]:
    return {name.removeprefix('module.'): p.grad for name, p in module.named_parameters()}


def test_scores_at_masked_words_alone_give_the_loss_and_gradients_of_all_positions():
    fast, slow = small_irra(), small_irra()
    batch = make_batch()
    # One of the five words is told beforehand, so that the accuracy is not 0.
    label = batch['word_labels'][2, 1]
    for model in (fast, slow):
        with torch.no_grad():
            model.heads['mlm'].classifier.words.bias[label] = 20.0
    logged = fast(**batch, mode='loss')
    logged['mlm.loss'].backward()
    loss, accuracy = slow_loss(slow, batch)
    loss.backward()
    torch.testing.assert_close(logged['mlm.loss'], loss, rtol=1e-12, atol=0)
    assert logged['mlm.acc'] == accuracy == 0.2
    expected = gradients(slow)
    for name, gradient in gradients(fast).items():
        if expected[name] is None:  # the classifier of identities
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_every_parameter_receives_a_gradient():
    model = small_irra()
    total, _ = model.parse_losses(model(**make_batch(), mode='loss'))
    total.backward()
    without = [name for name, g in gradients(model).items() if g is None or not g.abs().sum()]
    assert without == []


def test_a_batch_without_masked_words_gives_zero_and_gradients_of_zero():
    model = small_irra()
    logged = model(**make_batch(masked=()), mode='loss')
    assert logged['mlm.loss'] == logged['mlm.acc'] == 0
    logged['mlm.loss'].backward()
    for name, parameter in model.heads['mlm'].named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() == 0, name


def test_words_see_the_image():
    model, batch = small_irra(), make_batch()
    before = model(**batch, mode='loss')['mlm.loss']
    after = model(**{**batch, 'images': batch['images'].flip(0)}, mode='loss')['mlm.loss']
    assert (before - after).abs() > 1e-6


def test_a_batch_without_labels_is_told_where_they_come_from():
    batch = make_batch()
    del batch['word_labels']
    with pytest.raises(KeyError, match=r'MaskWords and PackPair\(per_caption='):
        small_irra()(**batch, mode='loss')


def test_a_width_that_heads_of_64_do_not_fill_is_refused():
    config = irra_config(clip_arch=clip_arch() | dict(embed_dim=96))
    with pytest.raises(ValueError, match='embed_dim must be a multiple of 64, got 96'):
        MODELS.build(config)


def test_the_pipeline_of_the_config_labels_the_words_that_it_masks():
    config = load_config('configs/irra/irra_vitb_cuhk.py', {'image_size': (64, 32)})
    _, *steps = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline]
    samples = []
    for person, caption in enumerate(['a man in a red shirt', 'a tall woman who carries a bag']):
        image = np.zeros((80, 40, 3), dtype=np.uint8)
        samples.append(Compose(steps)(dict(img=image, captions=[caption] * 50, person_id=person)))
    batch = FUNCTIONS.get('collate_pairs')(samples)
    assert batch['word_labels'].shape == batch['tokens'].ids.shape == (100, 77)
    assert (batch['word_labels'] > 0).any(dim=1).all()
    assert (batch['word_labels'][batch['tokens'].ids == 49405] > 0).all()
    assert (batch['word_labels'] == 49405).sum() == 0


class Objective(nn.Module):
    """IRRA; its forward pass is the loss of masked words and their accuracy."""

    def __init__(self):
        super().__init__()
        self.model = small_irra()

    def forward(self, batch):
        logged = self.model(mode='loss', **batch)
        # The classifier of identities takes part, or DistributedDataParallel waits for it.
        return logged['mlm.loss'] + 0 * logged['identity.loss'], logged['mlm.acc']


# Three words on the first process and two on the second; then three and none.
UNEQUAL = (
    ((0, 2), (0, 3), (1, 1), (2, 4), (3, 5)),
    ((0, 2), (0, 3), (1, 1)),
)


def train_on_half(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    results = []
    for masked in UNEQUAL:
        module = DistributedDataParallel(Objective())
        loss, accuracy = module({key: value[half] for key, value in make_batch(masked).items()})
        loss.backward()
        results.append(dict(loss=loss.detach(), acc=accuracy, gradients=gradients(module)))
    total = global_sum(torch.tensor([1.0, 10.0]) * (rank + 1))
    torch.save(dict(results=results, total=total), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_numbers_of_words_give_the_mean_over_all_words(tmp_path):
    run_ranks(train_on_half, str(tmp_path), ranks=2)
    ranks = [torch.load(tmp_path / f'rank{rank}.pt') for rank in (0, 1)]
    for index, masked in enumerate(UNEQUAL):
        module = Objective()
        loss, accuracy = module(make_batch(masked))
        loss.backward()
        for rank in ranks:
            result = rank['results'][index]
            torch.testing.assert_close(result['loss'], loss.detach(), rtol=0, atol=1e-9)
            assert result['acc'] == accuracy
            for name, gradient in gradients(module).items():
                torch.testing.assert_close(
                    result['gradients'][name], gradient, rtol=1e-6, atol=1e-9, msg=name
                )
    assert [rank['total'].tolist() for rank in ranks] == [[3.0, 30.0]] * 2


def test_the_sum_over_one_process_is_the_tensor_itself():
    assert global_sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
