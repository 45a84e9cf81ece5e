"""The commands that a model's release is begun with, part by part; nothing of Prefect is imported to name them."""


def release_command(gate_decision: str, bento_tag: str) -> tuple[str, ...]:
    """Makes a model that passed its gate the champion."""
    return _run("release-classifier/release", gate_decision, bento_tag, "--watch")


def approve_command(gate_decision: str, bento_tag: str) -> tuple[str, ...]:
    """Asks a person first, in the Prefect UI."""
    return _run("approve-promotion/ask", gate_decision, bento_tag)


def _run(deployment: str, gate_decision: str, bento_tag: str, *options: str) -> tuple[str, ...]:
    run = f"prefect deployment run '{deployment}'"
    return (run, f"-p gate_decision={gate_decision}", f"-p bento_tag={bento_tag}", *options)
