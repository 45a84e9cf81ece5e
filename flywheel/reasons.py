"""An error as one clause of a sentence, for verdicts and marks that a person reads."""

import re

ERRNO = re.compile(r"\[Errno -?\d+\] ")


def reason_of(error: BaseException) -> str:
    """What was wrong, without the system's number and without a full stop: the caller's sentence goes on or ends."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return ERRNO.sub("", str(error)).strip().rstrip(".") or type(error).__name__
