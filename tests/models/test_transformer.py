"""Positions, the sliding window, weights that can be read, and the cache: all by a second way to the same numbers."""

import math

import pytest
import torch
import torch.nn.functional as F

import probseq as ps
from probseq.models.positions import POSITIONS, rotate, rotation, sinusoids


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def build(positions="rotary", **options):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "num_heads": 2, "embed_dim": 8, "context": 6, **options}
    net = ps.Transformer(5, positions=positions, **sizes).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():  # at the beginning attention is nearly even
            parameter.mul_(8.0 if parameter.ndim == 2 else 1.0)
    return net


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_full_window_moves_on_and_is_read_anew(positions, stride):
    """Position t is read in the window that holds it: the first, or the one that had to move for it."""
    net, inputs = build(positions, stride=stride), torch.randint(0, 5, (3, 17))
    outputs, _ = net(inputs)
    for t in range(17):
        begin = max(0, math.ceil((t - 5) / stride)) * stride
        alone, _ = net(torch.cat([inputs[:, :1], inputs[:, begin + 1 : t + 1]], dim=1))  # the first one stays
        assert t + 1 - begin <= 6
        assert t < 6 or t + 1 - begin >= 6 - stride + 1
        close(outputs[:, t], alone[:, -1])


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_stride_of_one_gives_every_token_the_longest_context(positions):
    net, inputs = build(positions), torch.randint(0, 5, (2, 14))
    outputs, _ = net(inputs)
    for t in range(14):
        window = torch.cat([inputs[:, :1], inputs[:, max(1, t - 4) : t + 1]], dim=1)
        close(outputs[:, t], net(window)[0][:, -1])


@pytest.mark.parametrize(
    ("positions", "stride"), [("rotary", 1), ("learned", 1), ("learned", 4), ("sinusoidal", 1), ("sinusoidal", 4)]
)
def test_the_cache_is_the_full_pass(positions, stride):
    net, inputs = build(positions, stride=stride), torch.randint(0, 5, (3, 20))
    whole, _ = net(inputs)
    for pieces in ([1] * 20, [7, 1, 12], [6, 6, 8], [19, 1]):
        state, parts = None, []
        for piece in inputs.split(pieces, dim=1):
            outputs, state = net(piece, state)
            parts.append(outputs)
        close(torch.cat(parts, dim=1), whole)


def test_keys_and_values_are_kept_for_the_context_alone():
    net = build()
    _, cache = net(torch.randint(0, 5, (3, 50)))
    assert {part.shape for layer in cache.layers for part in layer} == {(3, 2, 5, 4)}


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_weights_on_request_are_those_of_the_fused_kernel(positions):
    net = build(positions, context=20)
    values = torch.randint(0, 5, (3, 11))
    found = net.attention(values)
    inputs = torch.cat([net.begin(3), values], dim=1)
    x, turn = net._code(inputs, 0)
    for block, weights in zip(net.blocks, found, strict=True):
        assert weights.shape == (3, 2, 12, 12)
        close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        assert (weights.triu(1) == 0).all()
        value = block._project(x, turn)[2]
        mixed = (weights @ value).transpose(1, 2).reshape(3, 12, 8)
        close(block.attention_out(mixed), block._attend(x, turn, None)[0])
        x, _ = block(x, turn, None)


def test_the_weights_end_with_the_context():
    weights = build(context=4).attention(torch.randint(0, 5, (1, 9)))[0]
    seen = weights[0, 0] > 0
    at = torch.arange(10)
    assert torch.equal(seen, (at[:, None] >= at) & (at[:, None] - at < 4))


def test_weights_are_read_without_dropout_and_leave_the_network_as_it_was():
    net = build(dropout=0.5).train()
    values = torch.randint(0, 5, (1, 4))
    close(net.attention(values)[1], net.attention(values)[1])
    assert all(module.training for module in net.modules())


def test_sinusoids_are_the_formula():
    table = sinusoids(3, 4, 6, torch.zeros((), dtype=torch.float64))
    for row, t in enumerate(range(3, 7)):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert table[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_rotated_products_depend_on_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    products = [
        (rotate(query, rotation(t + 3, 1, 8, query)) * rotate(key, rotation(t, 1, 8, key))).sum() for t in (0, 4, 900)
    ]
    close(products[1], products[0])
    close(products[2], products[0])
    assert abs(products[0] - (query * key).sum()) > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_order_of_the_tokens_before_matters(positions):
    net = build(positions)
    one, other = net(torch.tensor([[0, 1, 2, 3]]))[0][0, -1], net(torch.tensor([[1, 0, 2, 3]]))[0][0, -1]
    assert (one - other).abs().max() > 1e-3


def test_output_weights_are_tied_or_not():
    tied, free = ps.Transformer(5, embed_dim=8), ps.Transformer(5, embed_dim=8, tied=False)
    count = [sum(p.numel() for p in net.parameters()) for net in (tied, free)]
    assert count[1] - count[0] == 5 * 8
    hidden = torch.randn(1, 1, 8)
    close(free._outputs(hidden), hidden @ free.head.weight.T, 1e-6)
    close(tied._outputs(hidden), hidden @ tied.embed.weight[:5].T, 1e-6)


def test_on_a_cpu_attention_has_no_dropout(monkeypatch):
    """torch's fused kernel for CPUs has none; other units are dropped."""
    fused, given = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *x, **how: given.append(how) or fused(*x, **how))
    net = build(dropout=0.5).train()
    inputs = torch.randint(0, 5, (1, 5))
    assert not torch.equal(net(inputs)[0], net(inputs)[0])
    assert {how["dropout_p"] for how in given} == {0.0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_attention_has_dropout():
    net = build(dropout=0.5).cuda().train()
    net.drop = torch.nn.Identity()
    for block in net.blocks:
        block.drop = torch.nn.Identity()
    inputs = torch.randint(0, 5, (1, 5), device="cuda")
    assert not torch.equal(net(inputs)[0], net(inputs)[0])


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: build("rotarry"), "unknown positions 'rotarry'; did you mean 'rotary'"),
        (lambda: build("learned", stride=6), "stride is 6 and context 6; expected a stride below the context"),
        (lambda: build("learned", stride=0), "stride is 0; expected 1 or more"),
        (lambda: build("rotary", stride=2), "stride is for learned or sinusoidal positions"),
        (lambda: build("learned").attention(torch.zeros(1, 6, dtype=torch.int64)), "a window holds 5 after the begin"),
    ],
)
def test_bad_settings_are_refused(ask, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ask()
