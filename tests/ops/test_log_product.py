"""A matrix product of probabilities from their logarithms."""

import math

import pytest
import torch

from probseq.ops.log_product import log_product


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 2000.0])
def test_it_is_the_sum_in_log_space(dtype, scale):
    noise = torch.Generator().manual_seed(0)
    log_a, log_b = (-scale * torch.rand(shape, generator=noise).to(dtype) for shape in ((2, 5, 3), (2, 3, 4)))
    log_a[0, 1], log_a[1, 0, 2], log_b[0, :2, 1], log_b[1, :, 3] = (-math.inf,) * 4
    expected = (log_a.double()[..., None] + log_b.double()[:, None]).logsumexp(dim=2)
    torch.testing.assert_close(log_product(log_a, log_b).double(), expected, rtol=1e-6, atol=1e-6)


def test_it_has_the_gradient_of_the_sum():
    log_a = torch.tensor([[0.0, -2000.0]]).double().requires_grad_()
    log_b = torch.tensor([[-3000.0, 0.0], [-1.0, -1.0]]).double().requires_grad_()
    assert torch.autograd.gradcheck(log_product, (log_a, log_b))
