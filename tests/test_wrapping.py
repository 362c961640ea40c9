"""The model within its wrapper."""

from torch import nn

from sen_toolbox.models.wrapping import unwrapped


def test_the_model_is_taken_out_of_its_wrapper():
    model = nn.Linear(2, 3)
    assert unwrapped(nn.DataParallel(model)) is model


def test_a_model_without_wrapper_is_itself_whatever_its_parts_are_called():
    model = nn.ModuleDict(dict(module=nn.Linear(2, 3)))
    assert unwrapped(model) is model
