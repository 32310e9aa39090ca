"""Text of the user's: Markdown and Plotly show it as it is, whatever it holds."""

import html
import re

import pytest
from fiftyone_embedding_quality import markup

NASTY = (
    "![x](http://127.0.0.1:9/x.png)", "<b>bold</b><img src=x onerror=alert(1)>", "a|b", "*star*",
    "`tick`", "# head", "1. one", "2) two", "- item", "+ item", "> quote", "$x$", "名前",
    "New York, NY", " leading space", "trailing ", "🙂", "x" * 200, "[a](javascript:alert(1))",
    "__init__", "~~gone~~", "a\nb\n\n# c", "&lt;", "back\\slash", "\\", "http://a.example/x",
    "HTTPS://A.example", "www.a.example", "me@a.example", "***", "===", "---", "``", "a`b``c",
    "| a | b |", "[^1]", "[ ] task", "", " ", "-0.5", ":-|", "<!-- no -->", "a  b", "@me",
)  # fmt: skip


def _shown(source: str) -> str:
    """The text that Markdown makes of a line, if all that is special in it is escaped."""
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", source)
    assert not re.search(r"[\\`*_\[\]<>~|$]|&(?!nbsp;)", bare)
    assert not re.match(r"\s|[#+=-]|\d+[.)]|>", source)
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", source.replace("&nbsp;", " "))


@pytest.mark.parametrize("text", NASTY)
def test_markdown_is_text_in_one_line(text):
    source = markup.markdown(text)
    assert "\n" not in source
    # What GitHub's Markdown takes for an address in a finished text.
    shown = html.unescape(source.replace("\\", ""))
    assert not re.search(r"(https?://|www(?=\.))[-.\w]|[-.\w+]+@[-\w]+\.[-\w]", shown, re.I)
    kept = _shown(source).replace("\N{ZERO WIDTH SPACE}", "")
    assert kept == re.sub(r"\n+", " ", text)


@pytest.mark.parametrize("text", NASTY)
def test_code_cannot_be_left(text):
    source = markup.code(text)
    assert "\n" not in source
    spans = re.findall(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)|(\\\|)", source)
    parts = ["|" if bar else _trimmed(inner) for _, inner, bar in spans]
    assert "".join(parts) == re.sub(r"\n+", " ", text)
    assert re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)|(\\\|)", "", source) == ""


def _trimmed(inner: str) -> str:
    """What CommonMark shows of the inside of a code span."""
    both = inner.startswith(" ") and inner.endswith(" ") and inner.strip(" ")
    return inner[1:-1] if both else inner


@pytest.mark.parametrize("text", NASTY)
def test_plotly_brings_it_back(text):
    source = markup.plotly(text)
    assert not re.search(r"[<>$]|&(?!(amp|lt|gt|#36);)", source)
    assert markup.from_plotly(source) == text
