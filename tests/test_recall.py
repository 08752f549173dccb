"""What models remember, where it is known what they must know."""

import numpy as np
import pytest
import torch
from fixed_model import Fixed

import probseq as ps
from probseq.data.questions import Questions, ask
from probseq.diagnostics import recall


def bracket_hmm():
    """An exact model of brackets at most two deep: a state for every stack, so that it knows every answer."""
    stacks = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    states = [(stack, symbol) for stack in stacks for symbol in range(4) if follows(stack, symbol) is not None]
    transition = torch.zeros(len(states), len(states), dtype=torch.float64)
    for i, one in enumerate(states):
        after = [j for j, (stack, _) in enumerate(states) if stack == follows(*one)]
        transition[i, after] = 1 / len(after)
    emission = torch.tensor([[float(symbol == v) for v in range(4)] for _, symbol in states], dtype=torch.float64)
    begin = torch.tensor([float(stack == ()) for stack, _ in states], dtype=torch.float64)
    return ps.HMM.from_parameters(begin / begin.sum(), transition, ps.emissions.Categorical.from_parameters(emission))


def follows(stack, symbol):
    if symbol < 2:
        return (*stack, symbol) if len(stack) < 2 else None
    return stack[:-1] if stack and stack[-1] == symbol - 2 else None


def test_a_model_that_knows_the_stack_answers_everything():
    rng = np.random.default_rng(0)
    data = bracket_hmm().sample(40, 20, generator=torch.Generator().manual_seed(int(rng.integers(9))))
    found = recall(bracket_hmm(), ask("brackets", data))
    assert max(found.distances) > 5
    for distance in found.distances:
        accuracy, nats = found.at(distance)
        assert accuracy.tolist() == [1.0]
        assert nats == pytest.approx([0.0], abs=1e-9)


def test_what_remembers_one_bracket_answers_pairs_of_one_level_alone():
    data = bracket_hmm().sample(40, 20, generator=torch.Generator().manual_seed(1))
    questions = ask("brackets", data)
    bigram = ps.fit_counts(ps.NGram(4, max_order=2), data, data).model
    found, exact = recall(bigram, questions), recall(bracket_hmm(), questions)
    assert found.depths.tolist() == [1, 2]
    assert [found.at_depth(depth)[0] > 0.99 for depth in (1, 2)] == [True, False]
    assert [exact.at_depth(depth)[0] for depth in (1, 2)] == [1.0, 1.0]
    assert found.at_depth(2)[1] > 0.3


def test_without_memory_it_is_chance():
    data = ps.load_corpus("copy", num_sequences=200).test
    found = recall(ps.Uniform(6), ask("copy", data))
    accuracy, nats = found.at(found.distances[0])
    assert accuracy == pytest.approx([1 / 4])  # four letters are equally probable, and the right one is one of them
    assert nats == pytest.approx([np.log(4)])


def test_scores_are_those_of_the_answers_after_the_prompts():
    model = ps.Autoregressive.from_seed(lambda: ps.GRU(4, hidden_dim=5), 2).double()
    questions = ask("brackets", ps.load_corpus("brackets", num_sequences=60, length=8).test)
    found = recall(model, questions, max_tokens=40)
    for i, (prompt, answers) in enumerate(zip(questions.prompts, questions.answers, strict=True)):
        state = model.initial_state(1)
        for symbol in prompt:
            state = model.advance(state, torch.tensor([int(symbol)]))
        terms = model.next_log_prob(state)[:, 0, answers].log_softmax(dim=-1).detach().numpy()
        np.testing.assert_allclose(found.log_prob[:, i], terms[:, 0], atol=1e-10)
        assert (found.correct[:, i] == (terms.argmax(axis=1) == 0)).all()


def test_a_model_in_training_answers_without_dropout_and_stays_in_training():
    model = ps.Autoregressive.from_seed(lambda: ps.GRU(4, hidden_dim=5, dropout=0.5))
    questions = ask("brackets", ps.load_corpus("brackets", num_sequences=20, length=8).test)
    expected = recall(model.eval(), questions)
    assert np.array_equal(recall(model.train(), questions).log_prob, expected.log_prob)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("agreement", [0, 1, 17]),  # ends with a preposition
        ("copy", [0, 1]),
        ("copy", [4, 4, 4, 5, 4, 4, 4]),  # no letters
        ("copy", [0, 1, 2, 5, 0, 1, 3]),
        ("parity", [0, 1, 1]),
        ("parity", [5, 2, 3]),
    ],
)
def test_nothing_is_asked_about_other_data(task, row):
    with pytest.raises(ps.InputError, match=f"nothing can be asked about {task} in these sequences"):
        ask(task, ps.Sequences.from_list([row]))


def test_a_model_that_finds_nothing_possible_guesses():
    impossible = Fixed([[-np.inf, -np.inf]])
    questions = Questions(ps.Sequences.from_list([[0]]), np.array([[1, 0]]), np.array([1]), np.array([1]))
    found = recall(impossible, questions)
    assert found.correct.tolist() == [[0.5]]
    assert found.log_prob == pytest.approx(np.log(0.5))
