"""Whether a host answers, without waiting longer than asked: a name's look-up alone keeps to no time limit."""

import threading
import urllib.error
import urllib.request

OUT_OF_ORDER = (502, 503, 504)  # said by what stands before a host that is not there


def why_silent(url: str, seconds: float) -> str:
    """Why the host does not answer within so many seconds; empty where it does, with whatever other status."""
    found: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):  # noqa: S310
                found.append("")
        except urllib.error.HTTPError as error:
            found.append(f"status {error.code}" if error.code in OUT_OF_ORDER else "")
        except (OSError, ValueError) as error:
            found.append(str(getattr(error, "reason", error)))

    asking = threading.Thread(target=ask, daemon=True, name="does-it-answer")
    asking.start()
    asking.join(seconds)
    return found[0] if found else f"no answer within {seconds:.0f} s"
