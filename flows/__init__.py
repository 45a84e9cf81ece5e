"""What runs. Importing any flow keeps every tool's files in the project, before Prefect reads where its home is."""

from flywheel.settings import Settings, keep_tools_at_home

keep_tools_at_home(Settings())
