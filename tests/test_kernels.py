"""Kernels: the fast arithmetic is PyTorch's to rounding, in place, silent on overflow, and runs on as many threads as it is told."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from hybridep.kernels import ACTIVATIONS, affine, flat, unflat, use_threads
from tests.oracle import ACTIVATIONS as REFERENCES

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def random(*shape, dtype=torch.float64, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@DTYPES
@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), a=st.integers(0, 40), b=st.integers(1, 40), wide=st.booleans(), seed=st.integers(0, 1000))
def test_affine_is_a_product_plus_a_drive_written_into_its_buffer(dtype, n, a, b, wide, seed):
    x, weight = random(n, a, dtype=dtype, seed=seed), random(a, b, dtype=dtype, seed=seed + 1)
    drive = random(n, b, dtype=dtype, seed=seed + 2) if wide else random(b, dtype=dtype, seed=seed + 2)
    out = torch.full((n, b), math.nan, dtype=dtype)
    result = affine(x, weight, drive, out=out)
    assert result.data_ptr() == out.data_ptr()
    expected = x.double() @ weight.double() + drive.double()
    size = x.double().abs() @ weight.double().abs() + drive.double().abs()
    # The classical bound of a sum of a + 1 terms.
    assert torch.all((result.double() - expected).abs() <= (a + 2) * torch.finfo(dtype).eps * size)


@pytest.fixture
def own_threads():
    before = torch.get_num_threads()
    yield
    use_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_affine_keeps_the_precision_of_its_type_at_the_size_of_a_hidden_layer(own_threads, threads):
    use_threads(threads)
    x, weight, drive = random(128, 256, seed=1), random(256, 256, seed=2, scale=1 / 16), random(128, 256, seed=3)
    single = affine(x.float(), weight.float(), drive.float(), out=torch.empty(128, 256))
    exact = x.float().double() @ weight.float().double() + drive.float().double()
    # Ten bits, as TF32 and bfloat16 keep at most, would leave 1e-3 and more.
    assert float((single.double() - exact).abs().max()) < 5e-6


@DTYPES
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_those_of_pytorch_in_place_and_within_their_bounds(name, dtype):
    assert set(ACTIVATIONS) == set(REFERENCES)
    activate, lowest, highest = ACTIVATIONS[name]
    x = torch.cat([torch.linspace(-40, 40, 4001, dtype=dtype), torch.linspace(-0.01, 0.01, 101, dtype=dtype)]).view(2, -1)
    expected = REFERENCES[name](x.double())
    values = x.clone()
    result = activate(values)
    assert result.data_ptr() == values.data_ptr()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
    assert (float(result.min()), float(result.max())) == (pytest.approx(lowest, abs=1e-6), pytest.approx(highest, abs=1e-6))
    assert lowest <= float(result.min())
    assert float(result.max()) <= highest
    # Near zero a value is as accurate as its own size, or nudged differences would drown.
    middle = x.abs() < 0.01
    if name == "tanh":
        torch.testing.assert_close(result[middle].double(), expected[middle], rtol=4 * torch.finfo(dtype).eps, atol=0)


@DTYPES
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_what_is_not_finite_goes_through_without_a_warning(name, dtype):
    activate, lowest, highest = ACTIVATIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extreme = activate(torch.tensor([math.inf, -math.inf, math.nan], dtype=dtype))
        huge = torch.full((3, 3), torch.finfo(dtype).max, dtype=dtype)
        product = affine(huge, huge, torch.zeros(3, dtype=dtype), out=torch.empty(3, 3, dtype=dtype))
        lost = affine(
            torch.full((3, 3), math.inf, dtype=dtype), torch.zeros(3, 3, dtype=dtype), product, out=torch.empty(3, 3, dtype=dtype)
        )
    assert extreme[:2].tolist() == [highest, lowest]
    assert extreme[2].isnan()
    assert product.isinf().all()
    assert lost.isnan().all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_unflat_undoes_flat_and_moves_nothing_of_a_channels_last_layer(n, channels, height, width):
    layer = random(n, channels, height, width).contiguous(memory_format=torch.channels_last)
    units = flat(layer)
    assert units.data_ptr() == layer.data_ptr()
    assert torch.equal(unflat(units, (channels, height, width)), layer)
    assert units[0].tolist() == layer[0].permute(1, 2, 0).reshape(-1).tolist()
    dense = random(n, channels)
    assert unflat(flat(dense), (channels,)) is dense


def test_a_process_uses_the_threads_it_is_told_and_one_for_products_of_numpy(own_threads):
    for count in (2, 1):
        use_threads(count)
        assert torch.get_num_threads() == count
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_cuda_convolutions_are_not_allowed_to_drop_bits():
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
