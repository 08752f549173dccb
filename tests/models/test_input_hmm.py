"""Transitions driven by inputs: against enumeration, and against what they were drawn from."""

import itertools

import numpy as np
import pytest
import torch

import probseq as ps


def model_and_data(restarts=2):
    rng = np.random.default_rng(0)
    source = ps.Sequences.from_list([rng.normal(size=(n, 2)) for n in (4, 1, 3)])
    data = ps.Sequences.from_list([[0, 1, 2, 1], [2], [1, 1, 0]], source=source)
    model = ps.InputHMM(2, ps.emissions.Categorical(3), num_inputs=2, num_restarts=restarts)
    with torch.no_grad():
        for weights in (model.initial_weights, model.transition_weights):
            weights.copy_(torch.from_numpy(rng.normal(size=weights.shape)))
    return model, data


def test_likelihood_is_the_sum_over_all_paths():
    model, data = model_and_data()
    total = model.token_log_prob(data.batch()).sum(-1)
    for r, (i, x) in itertools.product(range(2), enumerate(data)):
        u = torch.from_numpy(data.source[i])
        initial = (model.log_initial[r] + model.initial_weights[r] @ u[0]).softmax(-1)
        steps = [(model.log_transition[r] + model.transition_weights[r] @ one).softmax(-1) for one in u]
        paths = []
        for path in itertools.product(range(2), repeat=len(x)):
            p = initial[path[0]]
            for t in range(1, len(x)):
                p = p * steps[t][path[t - 1], path[t]]
            paths.append(p * model.emission.probs[r, list(path), x.tolist()].prod())
        torch.testing.assert_close(total[r, i], torch.stack(paths).sum().log(), atol=1e-10, rtol=0)


def test_without_weights_it_is_a_plain_hmm():
    model, data = model_and_data()
    plain = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2)
    fresh = ps.InputHMM(2, ps.emissions.Categorical(3), num_inputs=2, num_restarts=2)
    torch.testing.assert_close(
        fresh.token_log_prob(data.batch()), plain.token_log_prob(data.batch()), atol=1e-12, rtol=0
    )
    assert not torch.allclose(model.token_log_prob(data.batch()), plain.token_log_prob(data.batch()))


def test_probabilities_of_all_sequences_sum_to_one():
    model, data = model_and_data()
    everything = list(itertools.product(range(3), repeat=4))
    source = ps.Sequences.from_list([data.source[0]] * len(everything))
    total = model.token_log_prob(ps.Sequences.from_list(everything, source=source).batch()).sum(-1).logsumexp(-1)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-10, rtol=0)


def test_batches_and_padding_do_not_matter():
    model, data = model_and_data()
    together = model.token_log_prob(data.batch())
    for i, x in enumerate(data):
        alone = model.token_log_prob(data[[i]].batch())
        torch.testing.assert_close(alone[:, 0], together[:, i, : len(x)], atol=1e-12, rtol=0)
        assert (together[:, i, len(x) :] == 0).all()


def test_later_inputs_and_tokens_change_no_earlier_term():
    model, data = model_and_data()
    first = data[[0]]
    inputs, tokens = first.source[0].copy(), first[0].copy()
    inputs[2:] += 1.0
    tokens[2:] = 0
    changed = ps.Sequences.from_list([tokens], source=ps.Sequences.from_list([inputs]))
    terms, other = (model.token_log_prob(part.batch())[:, 0] for part in (first, changed))
    torch.testing.assert_close(terms[:, :2], other[:, :2], atol=1e-12, rtol=0)
    assert (terms[:, 2:] != other[:, 2:]).all()


def test_restarts_fitted_together_equal_lone_fits():
    _, data = model_and_data()
    model = ps.InputHMM(2, ps.emissions.Categorical(3), num_inputs=2, num_restarts=2)
    lone = model.select(1)
    ps.fit_gradient(model, data, num_steps=20, batch_size=2)
    ps.fit_gradient(lone, data, num_steps=20, batch_size=2)
    for name, value in lone.named_parameters():
        torch.testing.assert_close(dict(model.named_parameters())[name][1:], value, atol=1e-10, rtol=0)


def test_gradients_reach_the_weights():
    model, data = model_and_data()
    model.token_log_prob(data.batch()).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_switch_that_inputs_throw_is_learned():
    """The input says whether the state changes; without it nothing can be foreseen."""
    rng = np.random.default_rng(1)
    flips = rng.integers(0, 2, size=(60, 30))
    states = np.cumsum(flips, axis=1) % 2
    source = ps.Sequences.from_list([row[:, None].astype(float) for row in flips])
    data = ps.Sequences.from_list(states, source=source)
    model = ps.InputHMM(2, ps.emissions.Categorical(2), num_inputs=1, num_restarts=4)
    fit = ps.fit_gradient(model, data, num_steps=300, learning_rate=0.1, warmup_steps=5)
    nats = ps.evaluate(model, data).nats_per_token
    assert nats.min() < 0.1  # a plain chain cannot do better than log 2 = 0.69
    assert np.isfinite(fit.history).all()


def test_drawing_follows_the_inputs(generator):
    model, _ = model_and_data(restarts=1)
    long = ps.Sequences.from_list([np.tile([[1.0, -1.0]], (2000, 1))])
    drawn = model.simulate_given(long, generator)
    path = drawn.states
    driven = (model.log_transition[0] + model.transition_weights[0] @ torch.tensor([1.0, -1.0]).double()).softmax(-1)
    for j in range(2):
        after = path[1:][path[:-1] == j]
        p = driven[j, 1].item()
        assert abs(after.mean() - p) < 5 * (p * (1 - p) / len(after)) ** 0.5


def test_what_is_drawn_has_the_lengths_of_the_inputs(generator):
    model, data = model_and_data(restarts=1)
    drawn = model.simulate_given(data.source, generator)
    assert drawn.lengths.tolist() == [4, 1, 3]
    assert set(drawn.states.tolist()) <= {0, 1}
    assert model.token_log_prob(drawn.batch()).isfinite().all()


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda m, d: m.token_log_prob(ps.Sequences.from_list([[0, 1]]).batch()), "received none"),
        (lambda m, d: ps.em(m, d), "fit_gradient"),
        (lambda m, d: m.select(0).sample(1, 3), "simulate_given"),
        (lambda m, d: m.forecast(d.batch(), 2), "without inputs"),
        (lambda m, d: m.symbols_ahead(d.batch(), 2), "without inputs"),
        (lambda m, d: m.program(d.batch()), "no Pyro program with inputs"),
        (
            lambda m, d: m.select(0).simulate_given(ps.Sequences.from_list([np.zeros((3, 5))])),
            r"inputs of 2 dimensions and received \(5,\)",
        ),
        (lambda m, d: m.select(0).simulate_given(ps.Sequences.from_list([[0, 1]])), "received symbols"),
        (
            lambda m, d: m.select(0).simulate_given(ps.Sequences.from_list([np.full((3, 2), np.nan)])),
            "every token of source is missing",
        ),
        (
            lambda m, d: m.token_log_prob(
                ps.Sequences.from_list([[0, 1]], source=ps.Sequences.from_list([np.zeros((3, 2))])).batch()
            ),
            "differ in length",
        ),
    ],
)
def test_what_cannot_be_done_is_said(action, sentence):
    model, data = model_and_data()
    with pytest.raises(ps.InputError, match=sentence):
        action(model, data)


def test_saved_and_loaded(tmp_path):
    model, data = model_and_data()
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert torch.equal(loaded.token_log_prob(data.batch()), model.token_log_prob(data.batch()))
