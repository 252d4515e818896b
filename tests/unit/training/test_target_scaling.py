import numpy as np
import pytest
import torch

from lora_tune.training.target_scaling import fit_scaling

VALUES = np.array([120_000.0, 95_000.0, 310_000.0, 150_000.0])


def test_standardized_numbers_have_mean_0_and_variance_1():
    standardized = fit_scaling(VALUES, has_bias=True).standardize(VALUES)
    assert standardized.mean() == pytest.approx(0)
    assert standardized.std() == pytest.approx(1)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_folded_layer_inverts_the_standardization(has_bias):
    scaling = fit_scaling(VALUES, has_bias=has_bias)
    layer, states = torch.nn.Linear(8, 1, bias=has_bias), torch.randn(5, 8)
    standardized = layer(states).detach().numpy()
    scaling.fold(layer)
    expected = standardized * scaling.scale + scaling.mean
    assert layer(states).detach().numpy() == pytest.approx(expected, rel=1e-5)
    assert scaling.standardize(expected) == pytest.approx(standardized, rel=1e-5)


def test_a_folded_layer_is_put_back_bit_for_bit():
    layer = torch.nn.Linear(8, 1)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    with fit_scaling(VALUES, has_bias=True).folded(layer):
        assert layer.bias.item() != before[1].item()
    for parameter, values in zip(layer.parameters(), before, strict=True):
        assert torch.equal(parameter, values)


def test_numbers_that_are_all_the_same():
    scaling = fit_scaling(np.full(3, 7.0), has_bias=True)
    assert (scaling.mean, scaling.scale) == (7.0, 1.0)
