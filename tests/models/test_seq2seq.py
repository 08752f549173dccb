"""Encoders, attention and transformer against formulas written out, and against torch's own modules."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import probseq as ps
from probseq.models import seq2seq
from probseq.models.encoder import Encoder
from probseq.models.positions import rotation
from probseq.models.transformer_seq2seq import _Attention

SOURCES = ps.Sequences.from_list([[1, 0, 2, 3], [3], [0, 0, 1, 2, 2, 1, 3]])
TARGETS = ps.Sequences.from_list([[0, 1, 2], [2], [0, 1, 1, 0, 2]], source=SOURCES)
KINDS = {
    "dot": lambda **options: ps.Seq2Seq(4, 3, attention="dot", hidden_dim=8, **options),
    "additive": lambda **options: ps.Seq2Seq(4, 3, attention="additive", hidden_dim=8, **options),
    "transformer": lambda **options: ps.TransformerSeq2Seq(4, 3, num_layers=3, num_heads=2, embed_dim=8, **options),
}


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 1), ("gru", 2)])
def test_the_encoder_is_the_bidirectional_layer_of_torch_on_packed_sequences(cell, layers):
    encoder, batch = Encoder(4, 5, 6, cell, num_layers=layers).double(), SOURCES.batch()
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 3, layers, batch_first=True, bidirectional=True).double()
    for layer, suffix in itertools.product(range(layers), ("", "_reverse")):
        mine = (encoder.backwards if suffix else encoder.forwards)[layer]
        for name, parameter in mine.named_parameters():
            getattr(theirs, name.replace("_l0", f"_l{layer}{suffix}")).data.copy_(parameter.data)
    packed = pack_padded_sequence(encoder.embed(batch.values), batch.lengths, batch_first=True, enforce_sorted=False)
    outputs, last = theirs(packed)
    outputs, last = pad_packed_sequence(outputs, batch_first=True)[0], last[0] if cell == "lstm" else last
    encoded = encoder(batch)
    close(encoded.outputs, outputs)
    close(encoded.summary, torch.cat([last[-2], last[-1]], dim=-1))
    assert torch.equal(encoded.mask, batch.mask)


def test_the_encoder_of_one_direction_sums_up_in_its_last_step():
    encoder, batch = Encoder(4, 5, 6, bidirectional=False).double(), SOURCES.batch()
    encoded = encoder(batch)
    for i, length in enumerate(batch.lengths):
        _, (last, _) = encoder.forwards[0](encoder.embed(batch.values[i : i + 1, :length]))
        close(encoded.summary[i], last[0, 0])


def by_hand(net, x, y):
    """log p(y_t | y_<t, x) of a `Seq2Seq` of one LSTM layer, step by step, one pair at a time."""
    encoded = net.encoder(ps.Sequences.from_list([x]).batch())
    h, summary = encoded.outputs[0], encoded.summary[0]
    d, c = (net.begins.weight @ summary + net.begins.bias).tanh(), torch.zeros(8, dtype=h.dtype)
    weights = [getattr(net.cells, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    terms, attention = [], []
    for before, now in zip([3, *y[:-1]], y, strict=True):
        gates = weights[0] @ net.embed.weight[before] + weights[1] @ d + weights[2] + weights[3]
        include, forget, candidate, output = gates.view(4, 8)
        c = forget.sigmoid() * c + include.sigmoid() * candidate.tanh()
        d = output.sigmoid() * c.tanh()
        context = summary
        if net.attention == "dot":
            score = torch.stack([one @ (net.score.query.weight @ d) for one in h]) / math.sqrt(8)
        if net.attention == "additive":
            keys = h @ net.score.key.weight.T + net.score.key.bias
            score = torch.stack([net.score.weight.weight[0] @ (k + net.score.query.weight @ d).tanh() for k in keys])
        if net.attention:
            attention.append(score.exp() / score.exp().sum())
            context = sum(a * one for a, one in zip(attention[-1], h, strict=True))
        mixed = (net.mix.weight @ torch.cat([d, context]) + net.mix.bias).tanh()
        terms.append((net.head.weight @ mixed + net.head.bias).log_softmax(0)[now])
    return torch.stack(terms), attention


@pytest.mark.parametrize("attention", [None, "additive", "dot"])
def test_the_decoder_is_its_formula(attention):
    net = ps.Seq2Seq(4, 3, attention=attention, hidden_dim=8).double()
    batch = TARGETS.batch()
    terms = net.token_log_prob(batch)
    weights = net.attention_weights(batch) if attention else None
    for i, (x, y) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        expected, attended = by_hand(net, x, y.tolist())
        close(terms[i, : len(y)], expected)
        if attention:
            close(weights[i, : len(y), : len(x)], torch.stack(attended).detach())


def test_additive_scores_in_pieces_are_those_of_one_piece(monkeypatch):
    net, batch = KINDS["additive"]().double(), TARGETS.batch()

    def value_and_gradient():
        net.zero_grad()
        log_prob = net.token_log_prob(batch)
        log_prob.sum().backward()
        return [log_prob.detach(), *(p.grad.clone() for p in net.parameters())]

    whole = value_and_gradient()
    monkeypatch.setattr(seq2seq, "_NUMBERS", 2 * 3 * 7 * 8)
    for part, one in zip(value_and_gradient(), whole, strict=True):
        close(part, one)


@pytest.mark.parametrize("kind", [*KINDS, "bottleneck"])
def test_gradients_are_right(kind):
    """Along a random direction, against a difference; and every parameter has one."""
    torch.manual_seed(0)
    net = (KINDS[kind]() if kind in KINDS else ps.Seq2Seq(4, 3, attention=None, hidden_dim=8)).double()
    batch, parameters, step = TARGETS.batch(), list(net.parameters()), 1e-5
    direction = [torch.randn_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(net.token_log_prob(batch).sum(), parameters)
    values = []
    with torch.no_grad():
        for shift in (step, -2 * step):
            for parameter, part in zip(parameters, direction, strict=True):
                parameter.add_(shift * part)
            values.append(net.token_log_prob(batch).sum())
    slope = sum((one * other).sum() for one, other in zip(found, direction, strict=True))
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * step), atol=1e-6, rtol=1e-6)
    assert all(part.abs().max() > 0 for part in found)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_a_distribution_over_the_source(kind):
    net, batch = KINDS[kind](dropout=0.5).double(), TARGETS.batch()
    weights = net.attention_weights(batch)
    assert net.training
    assert (weights >= 0).all()
    close(weights.sum(-1), batch.mask.double())
    assert (weights.masked_select(~batch.source.mask[:, None]) == 0).all()
    assert torch.equal(weights, net.attention_weights(batch))  # no dropout


def test_attention_by_head_and_by_layer():
    net, batch = KINDS["transformer"]().double(), TARGETS.batch()
    by_head = net.attention_weights(batch, by_head=True)
    assert by_head.shape == (3, 2, 5, 7)
    close(by_head.mean(1), net.attention_weights(batch, layer=2))
    first = net.attention_weights(batch, layer=0)
    assert not torch.allclose(first, net.attention_weights(batch))
    for layer in (3, -4):
        with pytest.raises(ps.InputError, match=f"layer is {layer}; expected 0 to 2"):
            net.attention_weights(batch, layer=layer)


def test_transformer_attention_is_that_of_torch_where_positions_are_alike():
    mine, theirs = _Attention(8, 2).double(), nn.MultiheadAttention(8, 2, bias=False, batch_first=True).double()
    theirs.in_proj_weight.data.copy_(torch.cat([mine.query.weight, mine.pair.weight]))
    theirs.out_proj.weight.data.copy_(mine.out.weight)
    x, h, mask = torch.randn(3, 5, 8).double(), torch.randn(3, 7, 8).double(), SOURCES.batch().mask
    still = [(torch.ones(n, 4).double(), torch.zeros(n, 4).double()) for n in (5, 7)]
    expected, weights = theirs(x, h, h, key_padding_mask=~mask, average_attn_weights=False)
    pair = mine.keys_and_values(h, still[1])
    close(mine(x, pair, still[0], mask[:, None, None]), expected)
    close(mine.weights(x, pair, still[0], mask[:, None, None]), weights)


def test_transformer_attention_sees_distances_alone():
    attention, x, h = _Attention(8, 2).double(), torch.randn(1, 5, 8).double(), torch.randn(1, 7, 8).double()
    seen = torch.ones(1, 1, 1, 7, dtype=torch.bool)
    near, far = (
        attention(x, attention.keys_and_values(h, rotation(past, 7, 4, h)), rotation(past, 5, 4, h), seen)
        for past in (0, 1000)
    )
    close(near, far, 1e-9)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: ps.Seq2Seq(4, 3, attention="dott"), "unknown attention 'dott'; did you mean 'dot'"),
        (lambda: ps.Seq2Seq(4, 3, cell="ltsm"), "unknown cell 'ltsm'; did you mean 'lstm'"),
        (lambda: ps.Seq2Seq(4, 3, hidden_dim=7), "hidden_dim is 7; expected an even number, for two directions"),
        (lambda: ps.Seq2Seq(0, 3), "num_source_symbols is 0; expected 1 or more"),
        (lambda: ps.Seq2Seq(4, 3, num_layers=0), "num_layers is 0; expected 1 or more"),
        (lambda: ps.Seq2Seq(4, 3, embed_dim=0), "embed_dim is 0; expected 1 or more"),
        (lambda: ps.Seq2Seq(4, 3, dropout=1.0), "dropout is 1.0; expected 0 or more and less than 1"),
        (lambda: ps.TransformerSeq2Seq(4, 3, embed_dim=6, num_heads=2), "embed_dim is 6; expected a multiple of 2"),
        (lambda: ps.TransformerSeq2Seq(4, 0), "num_symbols is 0; expected 1 or more"),
    ],
)
def test_settings_outside_their_range_are_refused(build, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        build()


@pytest.mark.parametrize("attention", [None, "none"])
def test_the_bottleneck_has_no_attention_to_show(attention):
    with pytest.raises(ps.InputError, match="the bottleneck does not attend to positions"):
        ps.Seq2Seq(4, 3, attention=attention, hidden_dim=8).attention_weights(TARGETS.batch())
