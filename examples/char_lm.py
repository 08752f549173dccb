"""A character language model: train it, stop it whenever you like, go on, and let it write.

    python examples/char_lm.py --folder lm                           # train; kill it, if you want to see what happens
    python examples/char_lm.py --folder lm --resume                  # go on, as if nothing had been
    python examples/char_lm.py --folder lm --sample "My fellow "     # let it write
    python examples/char_lm.py --folder lm --data my.txt             # on a text of your own

The folder holds checkpoints, a line for each step (metrics.jsonl), and at the end the model with its vocabulary.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import probseq as ps
from probseq.checkpoint import load_model


def read(data: Path | None, smoke: bool) -> ps.Corpus:
    """The State of the Union addresses, or a file."""
    limits = {"train_tokens": 5_000, "validation_tokens": 1_000, "test_tokens": 1_000} if smoke else {}
    if data is not None:
        return ps.read_corpus(data, level="char", window=128, **limits)
    return ps.load_corpus("sotu", level="char", window=128, **({"train_tokens": 2_000_000} | limits))


def train(corpus: ps.Corpus, folder: Path, num_steps: int, resume: bool, hidden_dim: int = 256) -> ps.Fit:
    """An LSTM that leaves checkpoints every hundred steps, and the model once it is done."""
    model = ps.Autoregressive.from_seed(
        lambda: ps.LSTM(corpus.num_symbols, hidden_dim=hidden_dim, embed_dim=64, dropout=0.1), num_restarts=1, seed=0
    )
    fit = ps.fit_gradient(
        model,
        corpus.train,
        corpus.validation,
        num_steps=num_steps,
        batch_size=32,
        learning_rate=3e-3,
        eval_every=100,
        checkpoint=folder / "checkpoints",
        resume=resume,
        vocabulary=corpus.vocabulary,
        metrics=folder / "metrics.jsonl",
    )
    ps.save(model, folder / "model", corpus.vocabulary, fit)
    return fit


def write(folder: Path, prefix: str, length: int = 400) -> str:
    """What the model says after the prefix, and how probable it finds that."""
    saved = load_model(folder / "model")
    if saved.vocabulary is None:
        raise ps.InputError(f"the model in {folder} has no vocabulary; train it again")
    drawn = ps.generate(
        saved.model,
        saved.vocabulary.encode(prefix),
        max_length=length,
        temperature=0.8,
        generator=torch.Generator().manual_seed(0),
    )
    return f"{saved.vocabulary.decode(drawn.sequences[0])}\n({drawn.log_prob[0]:.1f} nats)"


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Train or resume, or write."""
    if arguments.sample is not None:
        print(write(folder, arguments.sample))
        return
    corpus = read(arguments.data, arguments.smoke)
    fit = train(corpus, folder, arguments.steps, arguments.resume)
    nats = ps.evaluate(fit.model, corpus.test).nats_per_token[0]
    print(f"{len(fit.history)} steps, {fit.seconds:.0f} s, {fit.stop_reason[0]}: {nats:.4f} nats/token on test")


def main() -> None:
    """Read the command line; with --smoke train a little, go on, and write, in a folder that vanishes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("char-lm"))
    parser.add_argument("--data", type=Path, help="a text file; default: the State of the Union addresses")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--sample", metavar="PREFIX", help="write, instead of training")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if not arguments.smoke:
        run(arguments, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        for change in ({"steps": 2}, {"steps": 4, "resume": True}, {"sample": "The "}):
            run(argparse.Namespace(**(vars(arguments) | change)), Path(folder))


if __name__ == "__main__":
    main()
