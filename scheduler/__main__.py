"""`python -m scheduler`: run the sidecar, or do one of its jobs by hand."""

from scheduler.cli.app import app

app(prog_name="python -m scheduler")
