"""`python -m modelengine` is the `modelengine` command."""

from modelengine.cli.main import run

run()
