"""What a page of HTML shows."""

from __future__ import annotations

from html.parser import HTMLParser


class Outline(HTMLParser):
    """Collects text; fails where tags are not closed in order."""

    VOID = frozenset({"meta", "html", "body"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attributes)
        assert "href" not in values
        assert values.get("src", "data:image/").startswith("data:image/")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
