"""Forms as clients write them, and as they should not."""

import httpx
import pytest

from bentos.classifier.forms import FormError, Part, TooManyFilesError, parts_of

KIND = "multipart/form-data; boundary=b"


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--b\r\n%s\r\n\r\n%s\r\n" % (head.encode(), content) for head, content in parts) + b"--b--\r\n"


def test_what_a_real_client_sends_is_read() -> None:
    sent = [("images", ("a.jpg", b"one\r\n--not-b", "image/jpeg")), ("images", ("b.jpg", b"", "image/png"))]
    request = httpx.Request("POST", "http://x", files=sent, data={"note": "ähm"})
    found = parts_of(request.read(), request.headers["content-type"], 9, 9)
    assert found == [
        Part("note", False, "ähm".encode()),
        Part("images", True, b"one\r\n--not-b"),
        Part("images", True, b""),
    ]


def test_a_part_that_does_not_end_is_none() -> None:
    whole = form(('Content-Disposition: form-data; name="image"; filename="a"', b"x" * 100))
    assert parts_of(whole, KIND, 1, 1)[0].content == b"x" * 100
    assert parts_of(whole[:90], KIND, 1, 1) == []
    assert parts_of(whole[:20], KIND, 1, 1) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"x", KIND),
        (form(("Content-Type: image/jpeg", b"x")), KIND),
        (form(("Content-Disposition: form-data", b"x")), KIND),
        (form(("bad header", b"x")), KIND),
        (form(('Content-Disposition: form-data; name="a"', b"x")) * 1, "multipart/form-data; boundary=c"),
        (form(*[('Content-Disposition: form-data; name="a"', b"x")] * 3), KIND),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(FormError, match=r"\w"):
        parts_of(body, kind, 2, 2)


def test_files_and_texts_are_counted() -> None:
    file, text = (
        ('Content-Disposition: form-data; name="a"; filename="f"', b""),
        ("Content-Disposition: form-data; name=a", b""),
    )
    assert len(parts_of(form(file, file, text), KIND, 2, 1)) == 3
    with pytest.raises(TooManyFilesError):
        parts_of(form(file, file), KIND, 1, 1)
    with pytest.raises(FormError, match="Too many fields"):
        parts_of(form(text, text), KIND, 1, 1)
