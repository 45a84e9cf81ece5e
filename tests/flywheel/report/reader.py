"""Reads a page as a browser would: its tags, what they point to, and its text."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects tags, what they point to and the words, and whether each tag that opens also closes."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr", "line", "circle", "polyline"})
    LOADS = frozenset({"src", "srcset", "action", "data", "poster", "xlink:href"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.loaded += [value for name, value in attrs if name in self.LOADS or (tag == "link" and name == "href")]
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "title"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
