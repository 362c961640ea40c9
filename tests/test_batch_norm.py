"""Batch norms whose running statistics stay as they are for some of the pictures."""

import pytest
import torch

from sen_toolbox.models.batch_norm import GlobalBatchNorm, statistics_kept


def test_running_statistics_are_kept_within_and_learnt_without():
    torch.manual_seed(0)
    norm, x = GlobalBatchNorm(3, momentum=0.2), torch.randn(8, 3)
    model = torch.nn.Sequential(norm).train()
    expected = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt()
    with statistics_kept(model):
        torch.testing.assert_close(model(x), expected)
    assert not norm.running_mean.any() and (norm.running_var == 1).all()
    with pytest.raises(RuntimeError, match='within'), statistics_kept(model):
        raise RuntimeError('within')
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(norm.running_mean, 0.2 * x.mean(0))


def test_a_batch_of_one_pair_is_refused_with_the_repair():
    norm = GlobalBatchNorm(3)
    with pytest.raises(ValueError, match=r'got \(1, 3\): take a larger batch, or .*drop_last=True'):
        norm(torch.ones(1, 3))
    norm.eval()(torch.ones(1, 3))
