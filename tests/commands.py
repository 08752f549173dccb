"""The command line inside a test."""

from typer.testing import CliRunner

from probseq.cli import app


def probseq_cli(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def succeeds(*arguments):
    result = probseq_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*arguments):
    """The one sentence on stderr."""
    result = probseq_cli(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
