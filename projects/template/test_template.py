"""The template's head against the distance it stands for."""

import pytest
import torch
from closeness import assert_same
from mmengine.config import ConfigDict

from projects.template import alignment  # registers the head
from sen_toolbox.models.features import ImageFeatures, PairFeatures, TextFeatures
from sen_toolbox.registry import HEADS

pytestmark = pytest.mark.numeric


def test_the_loss_is_the_squared_distance_of_unit_embeddings():
    torch.manual_seed(0)
    image, text = torch.randn(3, 5), torch.randn(3, 5)
    head = HEADS.build(ConfigDict(type='AlignmentHead', spec=None))
    assert isinstance(head, alignment.AlignmentHead)
    logged = head(PairFeatures(ImageFeatures(image), TextFeatures(text)), {}, None)
    distances = [
        (i / i.norm() - t / t.norm()).square().sum() for i, t in zip(image, text, strict=True)
    ]
    assert_same(logged['loss'], sum(distances) / 3)
