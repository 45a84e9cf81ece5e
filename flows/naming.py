"""A run's name from its parameters, short enough to be read in a list."""

from collections.abc import Callable

from flywheel.settings import DataParameters


def with_short_source(template: str) -> Callable[[], str]:
    """What Prefect asks for a run's name: the template with its parameters, of a source's path the last part."""

    def name() -> str:
        from prefect.runtime import flow_run

        given = dict(flow_run.parameters)
        source = DataParameters(source=given["source"]).source_name
        return template.format(**{**given, "source": source})

    return name
