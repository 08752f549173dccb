"""The commands that ask fitted models: score, sample, sensitivity and topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from probseq.cli.options import (
    ColumnOption,
    FileArgument,
    FormatOption,
    IdColumnOption,
    ModelOption,
    RestartOption,
    SourceArgument,
    SourceColumnOption,
    check_format,
    check_left_out,
    check_streaming,
    examples,
)
from probseq.errors import unknown

app = typer.Typer()


@app.command(
    epilog=examples(
        "probseq score runs/letters-seed0 my.txt",
        "probseq score runs/letters-seed0 my.txt --model hmm-16 --format json",
        "probseq score runs/g2p-symbol-seed0 pairs.tsv",
    )
)
def score(
    source: SourceArgument,
    file: FileArgument,
    model: ModelOption = None,
    restart: RestartOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    source_column: SourceColumnOption = None,
    window: Annotated[int | None, typer.Option("--window", help="Tokens scored in one go; default: the run's.")] = None,
    output: FormatOption = "table",
) -> None:
    """The log-probability of every document in a file, in nats and bits, each token given those before it.

    Of a model of pairs: of every target in a .tsv or .jsonl file, given its source.
    """
    from probseq.checkpoint import plain
    from probseq.scoring import open_fitted, score_file
    from probseq.tables import print_scores

    check_format(output)
    columns = {"column": column, "id_column": id_column, "source_column": source_column}
    result = score_file(open_fitted(source, model, restart), file, window, **columns)
    if output == "json":
        typer.echo(json.dumps(plain(result), indent=2))
    else:
        print_scores(result)


@app.command(
    epilog=examples(
        "probseq sample runs/letters-seed0",
        'probseq sample runs/letters-seed0 --model hmm-64 --prefix "the people" --length 200 --num 3',
        'probseq sample runs/letters-seed0 --prefix "my fellow " --stream --temperature 0.8 --top-p 0.95',
        "probseq sample runs/series-vector-seed0 --length 250 > drawn.csv",
    )
)
def sample(
    source: SourceArgument,
    model: ModelOption = None,
    restart: RestartOption = None,
    length: Annotated[int, typer.Option("--length", help="Tokens in each, the prefix included.")] = 300,
    num: Annotated[int, typer.Option("--num", help="How many texts or series.")] = 1,
    prefix: Annotated[str, typer.Option("--prefix", help="What each text begins with.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the draws.")] = 0,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1 bolder; 0 takes the most probable symbol.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Draw from this many most probable symbols.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", help="Draw from the fewest symbols of this probability.")
    ] = None,
    stop: Annotated[str | None, typer.Option("--stop", help="A symbol that ends a text.")] = None,
    streaming: Annotated[bool, typer.Option("--stream", help="Print one text as it is drawn.")] = False,
    sources: Annotated[
        Path | None, typer.Option("--input", help="Of a model of pairs: a file of sources, one a line.")
    ] = None,
    output: Annotated[str, typer.Option("--format", help="table, or json: with log-probabilities.")] = "table",
) -> None:
    """Draw texts from a model, each begun on a line of its own; or series of vectors, with a line for each step.

    Of a model of pairs: a target for each source in --input.
    """
    from probseq.sampling import prefix_notes, sample_text, sample_vectors, stream_text
    from probseq.scoring import open_fitted
    from probseq.transcribing import sample_file, source_notes

    check_format(output)
    fitted = open_fitted(source, model, restart)
    whole = {"--stop": stop is not None, "--stream": streaming}
    if not fitted.is_symbolic:
        changed = {"--temperature": temperature != 1, "--top-k": top_k is not None, "--top-p": top_p is not None}
        check_left_out("the model is of vectors", changed | whole | {"--format json": output != "table"})
        drawn = sample_vectors(fitted.model, fitted.columns, num=num, length=length, prefix=prefix, seed=seed)
        typer.echo("\n".join(drawn))
        return
    choice: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if fitted.is_conditional or sources is not None:
        check_left_out("a target is drawn from its beginning to its end", {"--prefix": prefix != ""} | whole)
        for note in [] if sources is None else source_notes(fitted, sources):
            typer.echo(note, err=True)
        rows = sample_file(fitted, sources, num=num, length=length, seed=seed, **choice)
        lines = "\n".join(f"{row['source']}\t{row['text']}" for row in rows)
        typer.echo(json.dumps(rows, indent=2) if output == "json" else lines)
        return
    options = choice | {"length": length, "prefix": prefix, "seed": seed, "stop": stop}
    for note in prefix_notes(prefix, fitted.vocabulary):
        typer.echo(note, err=True)
    if streaming:
        check_streaming(num, output)
        for piece in stream_text(fitted.model, fitted.vocabulary, **options):
            typer.echo(piece.text, nl=False)
        typer.echo()
        return
    texts = sample_text(fitted.model, fitted.vocabulary, num=num, **options)
    typer.echo(
        json.dumps([one.to_plain() for one in texts], indent=2)
        if output == "json"
        else "\n".join(one.text for one in texts)
    )


@app.command(
    epilog=examples(
        "probseq sensitivity runs/letters-seed0",
        "probseq sensitivity runs/letters-seed0 --model hmm-2 --data my.txt",
        "probseq sensitivity runs/letters-seed0 --out restarts",
    )
)
def sensitivity(
    source: SourceArgument,
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="The same as --model.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Which model of a run. Default: all with several restarts.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A file on which paths of states are compared.")] = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Nats per token within which a restart has found the best.")
    ] = 1e-3,
    output: FormatOption = "table",
    out: Annotated[Path | None, typer.Option("--out", help="A folder to make, for tables and figures.")] = None,
) -> None:
    """What the restarts of a run tell: their spread, how often the best was found, and how many optima there are."""
    from probseq.checkpoint import plain
    from probseq.errors import InputError
    from probseq.run_folder import check_free
    from probseq.sensitivities import open_sensitivities, to_plain, write_sensitivities
    from probseq.tables import print_sensitivities

    check_format(output)
    if name is not None and model is not None:
        raise InputError(f"received the models {name} and {model}; expected one of them, with --model or without")
    if out is not None:
        check_free(out)
    found = open_sensitivities(source, model or name, data, tolerance=tolerance, column=column, id_column=id_column)
    if output == "json":
        typer.echo(json.dumps(plain(to_plain(found)), indent=2))
    else:
        print_sensitivities(found)
    if out is not None:
        files = write_sensitivities(found, source, out)
        typer.echo(f"{out}: {', '.join(files)}", err=True)


@app.command(
    epilog=examples(
        "probseq topics runs/words-word-seed0",
        "probseq topics runs/words-word-seed0 --model lda-50 --num-words 15",
        "probseq topics runs/lda-speeches-word-seed0 --by frex --out topics",
        "probseq topics runs/words-word-seed0/models/lda-10 --data my-speeches",
    )
)
def topics(
    source: SourceArgument,
    model: Annotated[
        str | None, typer.Option("--model", help="Which model of a run. Default: the best one with topics.")
    ] = None,
    restart: RestartOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Documents to read the topics from. Default: the run's own data.")
    ] = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    by: Annotated[str, typer.Option("--by", help="Words shown: probability, relevance or frex.")] = "relevance",
    num_words: Annotated[int, typer.Option("--num-words", help="Words of each topic.")] = 10,
    output: FormatOption = "table",
    out: Annotated[Path | None, typer.Option("--out", help="A folder to make, for tables and figures.")] = None,
) -> None:
    """What the topics of an LDA are about, how coherent they are, and which of them other restarts find again."""
    from probseq.checkpoint import plain
    from probseq.run_folder import check_free
    from probseq.run_topics import open_topics, to_plain, write_topics
    from probseq.tables import print_topics
    from probseq.topics.words import MEASURES

    check_format(output)
    if by not in MEASURES:
        raise unknown("measure of words", by, MEASURES)
    if out is not None:
        check_free(out)
    name, reading = open_topics(source, model, restart, data, num_words=num_words, column=column, id_column=id_column)
    if output == "json":
        typer.echo(json.dumps(plain(to_plain(name, reading)), indent=2))
    else:
        print_topics(name, reading, by)
    if out is not None:
        typer.echo(f"{out}: {', '.join(write_topics(reading, out))}", err=True)
