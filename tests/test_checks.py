"""Ranges of numbers."""

import math

import pytest

from sen_toolbox.checks import checked_at_least, checked_positive, checked_share


@pytest.mark.parametrize('value', [0, 0.3, 1])
def test_a_share_in_its_range_is_returned(value):
    assert checked_share('prob', value) == value


@pytest.mark.parametrize('value', [-0.1, 1.001, math.nan, None])
def test_a_share_out_of_its_range_is_named(value):
    with pytest.raises(ValueError, match=rf'^prob must be in 0\.\.1, got {value}$'):
        checked_share('prob', value)


def test_a_number_above_0_is_returned():
    assert checked_positive('scale', 1e-9) == 1e-9


@pytest.mark.parametrize('value', [0, -1.5, math.nan, None])
def test_a_number_that_is_not_above_0_is_named(value):
    with pytest.raises(ValueError, match=rf'^scale must be above 0, got {value}$'):
        checked_positive('scale', value)


def test_a_number_from_the_least_up_is_returned():
    assert checked_at_least('k', 3, 3) == 3


@pytest.mark.parametrize('value', [2, math.nan, None])
def test_a_number_below_the_least_is_named(value):
    with pytest.raises(ValueError, match=rf'^k must be at least 3, got {value}$'):
        checked_at_least('k', value, 3)
