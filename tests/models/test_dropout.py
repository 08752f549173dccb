"""Dropout of the networks of pairs: every place acts in training, and none elsewhere."""

import pytest
import torch
from torch import nn

import probseq as ps
from probseq.models.positions import rotation
from probseq.models.transformer_seq2seq import _DecoderLayer, _EncoderLayer

SOURCES = ps.Sequences.from_list([[1, 0, 2, 3], [3], [0, 0, 1, 2, 2, 1, 3]])
BATCH = ps.Sequences.from_list([[0, 1, 2], [2], [0, 1, 1, 0, 2]], source=SOURCES).batch()
SIZES = {"hidden_dim": 8, "num_layers": 2}
FAMILIES = {
    "bottleneck": (lambda p: ps.Seq2Seq(4, 3, attention=None, dropout=p, **SIZES), {"encoder.drop", "drop", "cells"}),
    "attention": (lambda p: ps.Seq2Seq(4, 3, dropout=p, **SIZES), {"encoder.drop", "drop", "cells"}),
    "transformer": (
        lambda p: ps.TransformerSeq2Seq(4, 3, num_layers=1, num_heads=2, embed_dim=8, dropout=p),
        {"drop", "encoder.0.drop", "decoder.0.drop"},
    ),
    "latent": (
        lambda p: ps.HMMDecoder(4, 3, states="latent", num_states=3, dropout=p, **SIZES),
        {"encoder.drop", "past.drop", "drop"},
    ),
    "alignment": (
        lambda p: ps.HMMDecoder(4, 3, dropout=p, **SIZES),
        {"encoder.drop", "past.drop", "drop", "hidden.drop"},
    ),
}


def places(net):
    """What drops units, by name: modules of their own, and torch's recurrent layers between theirs."""
    found = {}
    for name, part in net.named_modules():
        if isinstance(part, nn.Dropout):
            found[name] = part, "p"
        elif isinstance(part, nn.RNNBase) and part.num_layers > 1:
            found[name] = part, "dropout"
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_place_acts_in_training_and_none_in_evaluation(family):
    build, names = FAMILIES[family]
    net, plain = build(0.5).double(), build(0.0).double()
    plain.load_state_dict(net.state_dict())
    expected, found = plain.token_log_prob(BATCH), places(net)
    assert torch.equal(net.eval().token_log_prob(BATCH), expected)
    net.train()
    assert found.keys() == names
    for part, share in found.values():
        assert getattr(part, share) == 0.5
        setattr(part, share, 0.0)
    assert torch.equal(net.token_log_prob(BATCH), expected)
    for part, share in found.values():
        setattr(part, share, 0.5)
        assert not torch.allclose(net.token_log_prob(BATCH), expected)
        setattr(part, share, 0.0)


def test_a_decoder_of_which_all_is_dropped_knows_neither_its_past_nor_its_state():
    net = ps.Seq2Seq(4, 3, hidden_dim=8).double()
    net.drop.p = 1.0
    hidden = net._run(net._begin(net.encoder(SOURCES.batch())), BATCH.values)[0]
    torch.testing.assert_close(hidden, net._run(net._begin(net.encoder(SOURCES.batch())), 0 * BATCH.values)[0])
    expected = net.head.bias.log_softmax(0)[BATCH.values] * BATCH.mask
    torch.testing.assert_close(net.token_log_prob(BATCH), expected)


def test_a_transformer_layer_of_which_all_is_dropped_adds_nothing():
    x, mask = torch.randn(1, 5, 8), torch.ones(1, 1, 1, 5, dtype=torch.bool)
    turn = rotation(0, 5, 4, x)
    assert torch.equal(_EncoderLayer(8, 2, 1.0)(x, turn, mask), x)
    layer = _DecoderLayer(8, 2, 1.0)
    assert torch.equal(layer(x, turn, None, layer.cross.keys_and_values(x, turn), mask)[0], x)
