"""The decoder that sums over hidden states, against sums over all components and paths written out."""

import gc
import itertools
import math

import pytest
import torch

import probseq as ps
from probseq.models.hmm_decoder import HMMDecoder
from probseq.models.hmm_decoder_chains import DecoderChains
from probseq.ops import chain_conditional

EXACT = {"atol": 1e-10, "rtol": 0}
END = 2
WALK = "states='alignment', order=1"
KINDS = {
    "latent": {"states": "latent", "num_states": 3},
    "latent-2": {"states": "latent", "num_states": 2, "num_components": 2, "emission": "state"},
    "latent-0": {"states": "latent", "num_states": 2, "order": 0, "emission": "previous"},
    "alignment-0": {"states": "alignment", "order": 0},
    "alignment-1": {"states": "alignment", "jumps": (-1, 2)},
    "alignment-previous": {"states": "alignment", "jumps": (-2, 3), "emission": "previous", "cell": "gru"},
    "alignment-state-2": {"states": "alignment", "emission": "state", "num_components": 2},
    "monotone": {"states": "alignment", "monotone": True},
    "strict": {"states": "alignment", "jumps": (1, 2), "end": END, "num_components": 2},
}


def network(kind, **options):
    """A network whose parameters are far from where they begin, in double precision."""
    torch.manual_seed(3)
    net = HMMDecoder(4, 3, hidden_dim=6, **{**KINDS[kind], **options}).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return net


def pairs(
    targets=((0, 1, END), (1, END), (0, 0, 1, END), (END,)), sources=((0, 1, 2, 3), (1, 3), (2, 2, 0, 0, 3), (3,))
):
    return ps.Sequences.from_list([list(y) for y in targets], source=ps.Sequences.from_list([list(x) for x in sources]))


@pytest.fixture(params=KINDS)
def net(request):
    return network(request.param)


def dense(chain, num_steps):
    """Initial probabilities (M, N, K) and the matrices (M, N, T, K, K) that lead to each step."""
    if isinstance(chain, chain_conditional.Memoryless):
        prior = chain.log_prior.exp().expand(-1, -1, num_steps, -1)
        return prior[:, :, 0], prior[:, :, :, None].expand(-1, -1, -1, prior.shape[-1], -1)
    matrices = chain_conditional.transition(chain)
    return chain.log_initial.exp(), matrices.expand(-1, -1, num_steps, -1, -1)


def joint(net, batch, i):
    """``p(m, path, y)`` of pair i, by component and path."""
    with torch.no_grad():
        log_weights, chain, log_emission = net.chains(batch)
    length = int(batch.lengths[i])
    initial, matrices = dense(chain, log_emission.shape[2])
    table = {}
    for m in range(net.num_components):
        for path in itertools.product(range(log_emission.shape[-1]), repeat=length):
            value = float(log_weights[m, i].exp() * initial[m, i, path[0]] * log_emission[m, i, 0, path[0]].exp())
            for t in range(1, length):
                value *= float(matrices[m, i, t, path[t - 1], path[t]] * log_emission[m, i, t, path[t]].exp())
            table[m, path] = value
    return table


# Laws


def test_the_likelihood_is_the_sum_over_components_and_paths(net):
    batch = pairs().batch()
    found = net.token_log_prob(batch)
    for i, length in enumerate(batch.lengths.tolist()):
        assert found[i].sum().item() == pytest.approx(math.log(sum(joint(net, batch, i).values())), abs=1e-10)
        assert (found[i, length:] == 0).all()


def test_emissions_sum_to_one_in_every_state(net):
    source = ps.Sequences.from_list([[0, 1, 3]] * 3)
    total = sum(
        net.chains(ps.Sequences.from_list([[0, v]] * 3, source=source).batch()).log_emission[:, 0, 1].exp()
        for v in range(3)
    )
    torch.testing.assert_close(total, torch.ones_like(total), **EXACT)


def test_posteriors_are_the_shares_of_the_paths(net):
    batch = pairs().batch()
    states, components = net.posterior_states(batch), net.posterior_components(batch)
    size = states.shape[-1] // (net.num_components if net.states == "latent" else 1)
    for i, length in enumerate(batch.lengths.tolist()):
        table = joint(net, batch, i)
        expected, total = torch.zeros_like(states[i]), sum(table.values())
        for (m, path), value in table.items():
            for t, k in enumerate(path):
                expected[t, k + (m * size if net.states == "latent" else 0)] += value / total
        torch.testing.assert_close(states[i], expected, **EXACT)
        for m in range(net.num_components):
            share = sum(value for (own, _), value in table.items() if own == m) / total
            assert components[i, m].item() == pytest.approx(share, abs=1e-10)
        assert (states[i, length:] == 0).all()


def test_viterbi_is_the_most_probable_path_and_no_draw_is_better(net, generator):
    batch = pairs().batch()
    paths, log_prob = net.viterbi(batch)
    draws = net.sample_paths(batch, 20, generator)
    for i, length in enumerate(batch.lengths.tolist()):
        table = {}
        for (m, path), value in joint(net, batch, i).items():  # positions are those of every component
            name = tuple(k + m * net.num_states for k in path) if net.states == "latent" else path
            table[name] = max(table.get(name, 0.0), value)
        best = tuple(paths[i, :length].tolist())
        assert log_prob[i].item() == pytest.approx(math.log(max(table.values())), abs=1e-10)
        assert table[best] == pytest.approx(math.exp(log_prob[i]))
        for draw in draws[:, i]:
            assert 0 < table[tuple(draw[:length].tolist())] <= table[best] * (1 + 1e-12)
            assert (draw[length:] == -1).all()
        assert (paths[i, length:] == -1).all()


def test_draws_have_the_posterior_s_shares(net, generator):
    batch, many = pairs().batch(), 2000
    draws, expected = net.sample_paths(batch, many, generator), net.posterior_states(batch)
    for i, length in enumerate(batch.lengths.tolist()):
        for t, k in itertools.product(range(length), range(expected.shape[-1])):
            share, exact = (draws[:, i, t] == k).double().mean().item(), expected[i, t, k].item()
            assert abs(share - exact) < 4 * math.sqrt(max(exact * (1 - exact), 1 / many) / many)


def test_step_by_step_equals_all_at_once(net):
    batch = pairs().batch()
    assert batch.source is not None
    expected, state = net.token_log_prob(batch), net.initial_state(batch.source)
    for t in range(batch.values.shape[1]):
        running = batch.lengths > t
        following = net.next_log_prob(state)
        total = following.logsumexp(dim=-1)[running]
        torch.testing.assert_close(total, torch.zeros_like(total), **EXACT)
        found = following.gather(1, batch.values[:, t, None])[:, 0]
        torch.testing.assert_close(found[running], expected[running, t], **EXACT)
        state = net.advance(state, batch.values[:, t])


def test_padding_and_neighbors_change_nothing(net):
    """Of the target and of the source; positions beyond a source's end are never visited."""
    together = pairs()
    found = net.token_log_prob(together.batch())
    for i in range(len(together)):
        alone = net.token_log_prob(together[[i]].batch())
        torch.testing.assert_close(found[i, : alone.shape[1]], alone[0], **EXACT)
    if net.states == "alignment":
        batch = together.batch()
        assert net.posterior_states(batch)[1, :, 2:].abs().max() == 0


def test_the_probabilities_of_targets_that_end_tend_to_one(net):
    """What they lack is the probability of going on."""
    source, total = [0, 1, 3], 0.0
    for length in range(1, 6):
        bodies = list(itertools.product(range(2), repeat=length))
        ended = [[*body[1:], END] for body in bodies if body[0] == 0]
        going, stopped = (
            net.token_log_prob(pairs(rows, [source] * len(rows)).batch()).sum(-1).exp().sum().item()
            for rows in (bodies, ended)
        )
        total += stopped
        assert total + going == pytest.approx(1, abs=1e-10)
    if net.hidden.only_end:  # no target is longer than the source
        assert going == 0


def test_gradients_are_right(net):
    """Along a random direction, against a difference; and every parameter has one."""
    batch, parameters = pairs().batch(), list(net.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(net.token_log_prob(batch).sum(), parameters)
    values, step = [], 1e-5
    with torch.no_grad():
        for shift in (step, -2 * step):
            for parameter, part in zip(parameters, direction, strict=True):
                parameter.add_(shift * part)
            values.append(net.token_log_prob(batch).sum())
    slope = sum((one * other).sum() for one, other in zip(found, direction, strict=True))
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * step), atol=1e-5, rtol=1e-6)
    assert all(part.isfinite().all() for part in found)


@pytest.mark.parametrize("kind", ["latent", "alignment-1"])
def test_single_precision_is_close(kind):
    net, batch = network(kind), pairs().batch()
    torch.testing.assert_close(
        net.float().token_log_prob(batch).double(), net.double().token_log_prob(batch), atol=2e-4, rtol=0
    )


# Cases


def test_a_target_longer_than_its_source_is_impossible_where_every_step_goes_on():
    net, data = network("strict"), pairs([[0, 1, END]], [[1, 3]])
    terms = net.token_log_prob(data.batch())[0]
    assert terms[0].isfinite()
    assert terms[2] == -math.inf
    assert (net.viterbi(data.batch())[0] == -1).all()
    possible, sentence = pairs([[0, END]] * 4, [[1, 3]] * 4), "has a target of 3 symbols and a source of 2"
    model = ps.Conditional([net])
    for part, train, validation in (("data", data, possible), ("validation", possible, data)):
        with pytest.raises(ps.InputError, match=f"^sequence 0 of {part} {sentence}"):
            ps.fit_gradient(model, train, validation, num_steps=1)


@pytest.mark.parametrize("kind", ["alignment-1", "latent-2"])
def test_what_is_not_a_number_is_not_called_impossible(kind):
    net = network(kind)
    with torch.no_grad():
        next(net.encoder.parameters()).fill_(math.nan)
    batch = pairs().batch()
    assert net.token_log_prob(batch)[:, 0].isnan().all()
    assert net.posterior_states(batch)[:, 0].isnan().all()
    assert net.posterior_components(batch).isnan().all()


@pytest.mark.parametrize("num_components", [1, 2])
def test_states_and_components_of_what_is_impossible_are_nowhere(num_components):
    net = network("strict", num_components=num_components)
    mixed, alone = pairs([[0, 1, END], [0, END]], [[1, 3]] * 2).batch(), pairs([[0, END]], [[1, 3]]).batch()
    states, components = net.posterior_states(mixed), net.posterior_components(mixed)
    assert (states[0] == 0).all()
    assert (components[0] == 0).all()
    torch.testing.assert_close(states[1:, :2], net.posterior_states(alone), **EXACT)
    torch.testing.assert_close(components[1:], net.posterior_components(alone), **EXACT)
    assert (net.sample_paths(mixed, 3)[:, 0] == -1).all()


def test_components_of_a_long_target_are_told_apart_in_single_precision(monkeypatch, generator):
    """Their shares are differences of sums of thousands of terms."""
    net, batch = network("latent-0"), pairs([[0] * 5000], [[0, 1, 3]]).batch()
    emission = -3 - torch.rand(2, 1, 5000, 1, generator=generator) / 50
    prior = chain_conditional.Memoryless(torch.zeros(2, 1, 1, 1))
    monkeypatch.setattr(net, "chains", lambda batch: DecoderChains(torch.full((2, 1), 0.5).log(), prior, emission))
    found, exact = net.posterior_components(batch), emission.double().sum(dim=(2, 3)).softmax(dim=0).T
    assert exact.min() > 0.01
    torch.testing.assert_close(found, exact.float(), atol=1e-6, rtol=0)


def test_the_last_position_writes_the_end_symbol_alone():
    """An empty source is nothing but its end symbol."""
    net = network("strict")
    state = net.initial_state(ps.Sequences.from_list([[3]]).batch())
    torch.testing.assert_close(net.next_log_prob(state).exp(), torch.eye(3, dtype=torch.float64)[END:], **EXACT)
    after = net.next_log_prob(net.advance(state, torch.tensor([END])))
    torch.testing.assert_close(after.exp(), torch.eye(3, dtype=torch.float64)[END:], **EXACT)


def test_what_is_impossible_stays_impossible_step_by_step():
    net = network("strict")
    state = net.initial_state(ps.Sequences.from_list([[3]]).batch())
    state = net.advance(state, torch.tensor([0]))
    assert (net.next_log_prob(state) == -math.inf).all()


@pytest.mark.parametrize(("kind", "smallest"), [("monotone", 0), ("strict", 1)])
def test_a_monotone_walk_begins_near_the_beginning_and_never_goes_back(kind, smallest, generator):
    net, batch = network(kind), pairs([[0, 1, 0, 1, END]], [[0, 1, 2, 0, 1, 3]]).batch()
    paths = torch.cat([net.viterbi(batch)[0], *net.sample_paths(batch, 200, generator)])
    assert (paths[:, 0] < net.jumps.highest).all()
    jumps = paths.diff(dim=1)
    assert ((jumps >= smallest) & (jumps <= net.jumps.highest))[paths[:, 1:] < 5].all()
    assert net.posterior_states(batch)[0, 0, net.jumps.highest :].abs().max() == 0


def test_before_training_a_walk_tends_to_go_on_by_one_position():
    torch.manual_seed(0)
    net = HMMDecoder(4, 3, states="alignment", num_components=2, hidden_dim=16)
    with torch.no_grad():
        initial, matrices = dense(net.chains(pairs([[0, END]], [[0, 1, 2, 0, 1, 2, 3]]).batch()).chain, 2)
    assert (initial.argmax(dim=-1) == 0).all()
    assert (matrices[:, 0, 1].argmax(dim=-1) == torch.tensor([1, 2, 3, 4, 5, 6, 6])).all()


def test_what_latent_states_keep_for_the_way_back_is_no_matrix_of_a_sequence_or_of_a_step():
    """With K states, what two more sequences, or twenty more steps, add is less than one matrix of K x K numbers."""
    num_states = 512
    torch.manual_seed(0)
    net = HMMDecoder(4, 3, states="latent", num_states=num_states, emission="previous", hidden_dim=6)

    def tensors():
        held = [one.untyped_storage() for one in gc.get_objects() if type(one) is torch.Tensor]
        return {one.data_ptr(): one.nbytes() for one in held}

    def kept(num, steps):
        batch = pairs([[0] * steps] * num, [[0, 1, 3]] * num).batch()
        before = tensors()
        with torch.autograd.graph.saved_tensors_hooks(lambda part: part, lambda part: part):
            terms = net.token_log_prob(batch)
            sizes = {name: size for name, size in tensors().items() if name not in before}
        return sum(sizes.values()) / terms.element_size()

    few = kept(2, 20)
    assert few > num_states**2  # the shared one is seen
    assert kept(4, 20) < few + num_states**2
    assert kept(2, 40) < few + num_states**2


def test_a_long_source_is_walked_through():
    net = network("alignment-1").float()
    source, target = torch.arange(2000) % 4, torch.arange(1500) % 3
    batch = pairs([target.tolist()], [source.tolist()]).batch()
    with torch.no_grad():
        assert net.token_log_prob(batch).isfinite().all()
    assert (net.viterbi(batch)[0] >= 0).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"states": "hidden"}, "unknown states 'hidden'"),
        ({"order": 2}, "order is 2; expected 0 or 1"),
        ({"emission": "past"}, "unknown emission 'past'"),
        ({"cell": "rnn"}, "unknown cell 'rnn'"),
        ({"states": "latent", "num_states": 0}, "num_states is 0; expected 1 or more"),
        ({"embed_dim": 0}, "embed_dim is 0; expected 1 or more"),
        (
            {"num_states": 32},
            "num_states is a setting of states='latent', not of states='alignment', order=1; leave it",
        ),
        ({"order": 0, "monotone": True}, f"monotone is a setting of {WALK}, not of states='alignment', order=0; leave"),
        ({"order": 0, "jumps": (-2, 3)}, f"jumps is a setting of {WALK}, not of states='alignment', order=0; leave"),
        ({"states": "latent", "monotone": True}, f"monotone is a setting of {WALK}, not of states='latent', order=1"),
        ({"states": "latent", "jumps": (1, 1)}, f"jumps is a setting of {WALK}, not of states='latent', order=1"),
        ({"num_components": 0}, "num_components is 0; expected 1 or more"),
        ({"states": "alignment", "jumps": (2, 3)}, r"jumps are \(2, 3\); expected the furthest ones"),
        ({"states": "alignment", "jumps": (1, 2, 3)}, r"jumps is \(1, 2, 3\); expected two whole numbers"),
        ({"states": "alignment", "jumps": (-2, 0)}, r"jumps are \(-2, 0\); expected the furthest ones"),
        ({"states": "alignment", "jumps": (1, 3), "end": 3}, "end is 3; expected the id of a target symbol, 0 to 2"),
        ({"states": "alignment", "jumps": (1, 3)}, "the last position emits the end symbol alone; give its id as end"),
    ],
)
def test_settings_that_make_no_sense_are_named(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        HMMDecoder(4, 3, hidden_dim=6, **options)


def test_a_saved_network_is_built_again(net):
    model = ps.Conditional([net])
    again = ps.Conditional.from_config(model.config()).double()
    again.load_state_dict(model.state_dict())
    batch = pairs().batch()
    assert again.eval().token_log_prob(batch).equal(model.token_log_prob(batch))


def test_fitting_finds_an_alignment():
    """Of sources that are copied: the posterior stands where the symbol stands."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(3, (int(n),), generator=generator).tolist()
        for n in torch.randint(2, 7, (200,), generator=generator)
    ]
    data = pairs([[*row, 3] for row in rows], [[*row, 3] for row in rows])
    model = ps.Conditional.from_seed(
        lambda: HMMDecoder(4, 4, states="alignment", emission="state", jumps=(-1, 2), hidden_dim=16), seed=0
    )
    fit = ps.fit_gradient(model, data, num_steps=150, batch_size=32, learning_rate=0.02)
    net, batch = fit.model.nets[0], data.batch()
    assert net.token_log_prob(batch).sum() / batch.num_tokens > -0.1
    paths, _ = net.viterbi(batch)
    assert (paths == torch.where(batch.mask, torch.arange(paths.shape[1]), -1)).double().mean() > 0.9
