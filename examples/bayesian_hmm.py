"""One hidden Markov model of few counts by EM, MAP, VB, SVI and NUTS: ``python examples/bayesian_hmm.py``.

The counts are drawn from a known model. Printed are what each method says of its parameters, with a standard deviation
where it has one, what NUTS says of its chains, and how well each predicts sequences that it has not seen.
"""

import argparse

import torch

import probseq as ps

CONCENTRATION = {"initial_concentration": 1.0, "transition_concentration": 1.0, "emission_concentration": 1.0}


def known_model() -> ps.HMM:
    """Quiet hours and busy hours."""
    rates = ps.emissions.Poisson.from_parameters([[2.0], [6.0]])
    return ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], rates)


def counts(num: int, seed: int) -> ps.Sequences:
    """So many days of 20 hours."""
    return known_model().sample(num, 20, generator=torch.Generator().manual_seed(seed))


def fit_all(train: ps.Sequences, smoke: bool) -> dict[str, ps.Fit]:
    """One fit by every method; restarts are judged by their objective, NUTS by its chains."""
    poisson, restarts = ps.emissions.Poisson(1), {"num_restarts": 2 if smoke else 10}
    prior = ps.emissions.Poisson(1, prior_shape=2.0, prior_rate=0.25)
    plain = {"EM": ps.HMM(2, poisson, **restarts), "MAP": ps.HMM(2, prior, transition_concentration=2.0, **restarts)}
    fits = {name: ps.em(model, train) for name, model in plain.items()}
    fits["VB"] = ps.em(ps.VariationalHMM(2, poisson, **CONCENTRATION, **restarts), train)
    fits["SVI"] = ps.svi(
        ps.BayesianHMM(2, poisson, **CONCENTRATION, **restarts), train, num_steps=20 if smoke else 1000
    )
    sampler = ps.nuts(
        ps.BayesianHMM(2, poisson, **CONCENTRATION, num_restarts=2),
        train,
        num_warmup=5 if smoke else 200,
        num_samples=10 if smoke else 300,
    )
    print(sampler, "\n")
    return {**fits, "NUTS": sampler.fit}


def predictive(fits: dict[str, ps.Fit]) -> dict[str, ps.Fit]:
    """Posteriors in place of models that have one: their score is an average over draws, and not that of one model."""
    for name in ("VB", "SVI"):
        fits[name].model = fits[name].model.posterior(400)
    return fits


def row(name: str, model: ps.HMM | ps.PosteriorHMM, reference: ps.HMM) -> str:
    """Rates and probabilities of staying, the states in the order of the known model."""
    if isinstance(model, ps.PosteriorHMM):
        draws = model.aligned(reference).parameter_draws()
    else:
        aligned = model.permute(ps.align(model, reference))
        draws = {"transition": aligned.transition[:, None], "rates": aligned.emission.rates[:, None]}
    cells = [draws["rates"][0, :, k, 0] for k in range(2)] + [draws["transition"][0, :, k, k] for k in range(2)]
    shown = [f"{cell.mean():.2f}" + (f" ± {cell.std():.2f}" if len(cell) > 1 else "") for cell in cells]
    return f"{name:6}" + "".join(f"{text:>16}" for text in shown)


def main() -> None:
    """Print what every method has found, and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a minute's work in seconds")
    smoke = parser.parse_args().smoke
    train, validation, test = counts(6, seed=0), counts(50, seed=1), counts(10 if smoke else 500, seed=2)
    fits, truth = predictive(fit_all(train, smoke)), known_model()
    table = ps.compare({**fits, "truth": truth}, validation=validation, test=test)
    print(f"{'':6}" + "".join(f"{name:>16}" for name in ("quiet rate", "busy rate", "stay quiet", "stay busy")))
    with torch.no_grad():
        for name, model in {"truth": truth, **{name: fit.model for name, fit in fits.items()}}.items():
            print(row(name, model.select(table.chosen[name]), truth))
    print("\n", table, sep="")


if __name__ == "__main__":
    main()
