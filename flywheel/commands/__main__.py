"""`python -m flywheel.commands`, where the `flywheel` script is not on the path."""

from flywheel.commands.application import app

app()
