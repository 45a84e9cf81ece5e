"""`python -m flywheel.commands`, where the `flywheel` script is not on the path."""

from flywheel.commands import app

app()
