"""Plain text out of HTML: what a mail says to those who see no HTML."""

import re
from html.parser import HTMLParser

# What no reader sees; where it does not end it swallows the rest, as in a browser. Outlook's conditions are among it.
UNSEEN = re.compile(r"<!(?=--).*?(?:-->|\Z)|<(script|style|title)\b.*?(?:</\1\s*>|\Z)|<[!?][^<>]*>", re.DOTALL | re.I)
NO_TAG = re.compile(r"<(?!/?[a-z][^<>]*>)", re.I)  # as in "3 < 4"
PREFORMATTED = re.compile(r"<pre\b.*?(?:</pre\s*>|\Z)", re.DOTALL | re.I)
SPACES = re.compile(r"[ \t\n\r\f]+")

HIDEABLE = ("div", "span", "table")  # whose end cannot be left out: what is hidden ends somewhere
LINES = ("address", "article", "caption", "center", "dd", "div", "dt", "footer", "header", "li", "nav", "section", "tr")
PARAGRAPHS = ("blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "p", "pre", "table")
NEWLINES = dict.fromkeys((*LINES, "ol", "ul"), 1) | dict.fromkeys(PARAGRAPHS, 2)
MAX_DEPTH = 8  # of lists and quotes: every line in them grows with the depth


def html_to_text(html: str) -> str:
    """Say in plain text what the HTML says: paragraphs, lists, a line per table row, and links as `text (url)`."""
    writer = _Writer(convert_charrefs=True)
    html = PREFORMATTED.sub(_keep_spaces, NO_TAG.sub("&lt;", UNSEEN.sub("", html))) + "</a>"
    # Tag by tag: the parser would take quadratic time over many whose quotes do not end.
    for piece in re.split("(?=<)", html):
        writer.feed(piece)
        writer.close()
    lines = "".join(writer.pieces).replace("\N{NO-BREAK SPACE}", " ").split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


class _Writer(HTMLParser):
    """Writes text where it is, and owes newlines, gaps and bullets until there is text to put them before."""

    def reset(self) -> None:
        super().reset()
        self.pieces: list[str] = []
        self.newlines, self.gap, self.bullet = 0, "", ""
        self.nests: list[tuple[str, str]] = []  # the open lists, items and quotes, each with its indent
        self.items = [0] * (MAX_DEPTH + 1)  # so far, at each depth
        self.hidden, self.hidden_depth = "", 0
        self.url, self.link_text = "", list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        is_hidden = "hidden" in given or "display:none" in given.get("style", "").replace(" ", "").lower()
        if self.hidden_depth or (is_hidden and tag in HIDEABLE):
            self.hidden = self.hidden if self.hidden_depth else tag
            self.hidden_depth += tag == self.hidden
            return
        self.newlines = max(self.newlines, NEWLINES.get(tag, 0)) + (tag == "br")
        match tag:
            case "a":
                self._end_link()
                self.url = _url(given.get("href", "").strip())
            case "blockquote" | "li" | "ol" | "ul" if len(self.nests) < MAX_DEPTH:
                self._open(tag)
            case "img":
                self.handle_data(given.get("alt", ""))
            case "td" | "th":
                self.gap = " | "

    def handle_endtag(self, tag: str) -> None:
        if self.hidden_depth:
            self.hidden_depth -= tag == self.hidden
            return
        if tag == "a":
            self._end_link()
        self._close(tag)
        self.newlines = max(self.newlines, NEWLINES.get(tag, 0))

    def handle_data(self, data: str) -> None:
        text = SPACES.sub(" ", data)
        self.gap = self.gap or " " * text.startswith(" ")
        self._write(text.strip(" "))
        self.gap = self.gap or " " * text.endswith(" ")

    def _write(self, text: str) -> None:
        if self.hidden_depth or not text:
            return
        indent = "".join(indent for _, indent in self.nests)
        lead = "\n" * self.newlines + indent[: len(indent) - len(self.bullet)] + self.bullet
        self.pieces += [lead if self.newlines or not self.pieces else self.gap, text]
        self.newlines, self.gap, self.bullet = 0, "", ""
        self.link_text += [text] if self.url else []

    def _end_link(self) -> None:
        url, text = self.url, " ".join(self.link_text)
        self.url, self.link_text = "", []
        if url and not text:
            self._write(url)
        elif text.rstrip("/") != url.rstrip("/"):
            self.pieces.append(f" ({url})")

    def _open(self, tag: str) -> None:
        if tag == "li" and self.nests and self.nests[-1][0] == "li":
            self._close("li")
        depth = len(self.nests)
        self.items[depth : depth + 2] = [self.items[depth] + 1, 0]
        if tag == "li":
            self.bullet = f"{self.items[depth]}. " if depth and self.nests[-1][0] == "ol" else "- "
        self.nests.append((tag, {"blockquote": "> ", "li": " " * len(self.bullet)}.get(tag, "")))

    def _close(self, tag: str) -> None:
        tags = [nest for nest, _ in self.nests]
        if tag in tags:
            del self.nests[len(tags) - 1 - tags[::-1].index(tag) :]
            self.bullet = ""


def _keep_spaces(found: re.Match[str]) -> str:
    return found[0].replace("\n ", "<br>&nbsp;").replace("\n", "<br>").replace("  ", "&nbsp;" * 2)


def _url(href: str) -> str:
    """Return what a reader can use of a link's target: the address of a mailto, and nothing of a script."""
    scheme, _, rest = href.partition(":")
    if scheme.lower() in ("mailto", "tel"):
        return rest.partition("?")[0]
    return "" if href.startswith("#") or scheme.lower() in ("data", "javascript") else "".join(href.splitlines())
