"""A form's files out of a body that is whole and limited already: python-multipart's parser, called at once.

Starlette's own way to it waits between the parts for what might have to go to a disk, and takes twice as long.
"""

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header


class FormError(ValueError):
    """A body that is no form."""


class TooManyFilesError(FormError):
    """More files than are taken."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form."""

    name: str
    is_file: bool
    content: bytes


def parts_of(body: bytes, content_type: str, most_files: int, most_texts: int) -> list[Part]:
    """Every part that is whole, in order. Raises FormError."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise FormError("Missing boundary in multipart.")
    reader = _Reader(most_files, most_texts)
    try:
        parser = MultipartParser(boundary, reader.callbacks)  # type: ignore[arg-type] # some of its events are enough
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise FormError(str(error)) from error
    return reader.parts


class _Reader:
    """Gathers what the parser calls out; it gives places in the body."""

    def __init__(self, most_files: int, most_texts: int) -> None:
        self.parts: list[Part] = []
        self._left = {True: most_files, False: most_texts}
        self._begin()

    @property
    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
        }

    def _begin(self) -> None:
        self._field = self._value = self._disposition = b""
        self._name, self._is_file = "", False
        self._data: list[bytes] = []

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise FormError("The Content-Disposition header field 'name' must be provided.")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = b"filename" in options
        self._left[self._is_file] -= 1
        if self._left[self._is_file] < 0:
            raise TooManyFilesError("Too many files.") if self._is_file else FormError("Too many fields.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _on_end(self) -> None:
        self.parts.append(Part(self._name, self._is_file, b"".join(self._data)))
