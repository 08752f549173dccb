"""The commands that ask what is behind or after a text: decode and forecast."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from probseq.cli.options import (
    ColumnOption,
    FileArgument,
    FileOption,
    FormatOption,
    IdColumnOption,
    InputOption,
    MaybeFileArgument,
    ModelOption,
    RestartOption,
    SourceArgument,
    check_format,
    check_left_out,
    examples,
    one_file,
)

app = typer.Typer()


@app.command(
    epilog=examples(
        "probseq decode runs/letters-seed0 my.txt --model hmm-2",
        "probseq decode runs/letters-seed0/models/hmm-2 my.txt --posterior --format json",
        "probseq decode runs/hmm-sp500-vector-seed0 series.csv --posterior --out states.csv",
        "probseq decode runs/g2p-symbol-seed0 --input words.txt --n-best 5",
    )
)
def decode(
    source: SourceArgument,
    file: MaybeFileArgument = None,
    sources: InputOption = None,
    model: ModelOption = None,
    restart: RestartOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    posterior: Annotated[bool, typer.Option("--posterior", help="Add each state's probability at each step.")] = False,
    num_best: Annotated[
        int, typer.Option("--num-best", "--n-best", help="So many paths (of pairs: targets), the most probable first.")
    ] = 1,
    num_beams: Annotated[
        int | None, typer.Option("--num-beams", help="Of pairs: prefixes in the beam. Default: 8, or --n-best.")
    ] = None,
    length_penalty: Annotated[
        float, typer.Option("--length-penalty", help="Of pairs: 0 ranks targets by probability, 1 by its mean.")
    ] = 0.0,
    output: FormatOption = "table",
    out: FileOption = None,
) -> None:
    """The hidden states of an HMM, a line for each token of the most probable path; of pairs, the targets of sources.

    Of draws from a posterior (vb-hmm, svi-hmm, nuts-hmm): at each step the state that is most probable there, averaged
    over the draws.

    Of a model of pairs (seq2seq, hmm-decoder, ...): the most probable targets of each source in a text file, with
    their exact log-probabilities, and where states are positions, the source symbol that each symbol came from, and
    last the one that the end of the target came from.
    """
    from probseq.decoding import decode_file, decoded_rows, write_table
    from probseq.errors import InputError
    from probseq.scoring import open_fitted
    from probseq.tables import print_states
    from probseq.transcribing import source_notes, transcribe_file, transcribed_rows

    check_format(output)
    path = one_file(file, sources)
    fitted = open_fitted(source, model, restart)
    if fitted.is_conditional:
        columns = {"--column": column is not None, "--id-column": id_column is not None}
        check_left_out("sources are lines of text", columns)
        if posterior and (output != "json" if out is None else out.suffix.lower() == ".csv"):
            raise InputError("--posterior is a table for each target; expected --format json, or a .json file as --out")
        for note in source_notes(fitted, path):
            typer.echo(note, err=True)
        beam: dict[str, Any] = {"num_beams": num_beams, "length_penalty": length_penalty}
        found = list(transcribe_file(fitted, path, num_best=num_best, posterior=posterior, **beam))
        rows, shown = transcribed_rows(found), transcribed_rows(found)
    else:
        beams = {"--num-beams": num_beams is not None, "--length-penalty": length_penalty != 0}
        check_left_out("the model is not of pairs", beams)
        options = {"column": column, "id_column": id_column}
        found = list(decode_file(fitted, path, posterior=posterior, num_best=num_best, **options))
        rows, shown = decoded_rows(fitted, found), decoded_rows(fitted, found, quoted=True)
    if out is not None:
        write_table(out, found, rows)
    elif output == "json":
        typer.echo(json.dumps(found))
    else:
        print_states(shown)


@app.command(
    epilog=examples(
        "probseq forecast runs/hmm-sp500-vector-seed0 series.csv --steps 20",
        "probseq forecast runs/letters-seed0 my.txt --model hmm-16 --steps 3 --format json",
    )
)
def forecast(
    source: SourceArgument,
    file: FileArgument,
    steps: Annotated[int, typer.Option("--steps", help="How many steps ahead.")] = 10,
    level: Annotated[float, typer.Option("--level", help="The probability that an interval holds.")] = 0.9,
    model: ModelOption = None,
    restart: RestartOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    output: FormatOption = "table",
    out: FileOption = None,
) -> None:
    """What an HMM expects after the end of every document: of vectors means and intervals, of symbols probabilities."""
    from probseq.decoding import forecast_file, forecast_rows, write_table
    from probseq.scoring import open_fitted
    from probseq.tables import print_rows

    check_format(output)
    fitted = open_fitted(source, model, restart)
    found = list(forecast_file(fitted, file, steps=steps, level=level, column=column, id_column=id_column))
    if out is not None:
        write_table(out, found, forecast_rows(fitted, found))
    elif output == "json":
        typer.echo(json.dumps(found))
    else:
        print_rows(forecast_rows(fitted, found))
