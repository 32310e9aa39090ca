r"""Text of the user's as text, wherever it is shown: in Markdown and in Plotly's figures.

Labels, paths, names and reasons may hold anything. In FiftyOne's App, which renders Markdown as
GitHub does, a class called ``![x](http://…)`` would load an image, and Plotly takes ``<a href>``
for a link. Pages of HTML are escaped by Jinja2, tables of CSV by ``report.tables``.

>>> print(markdown("![x](data:y) *star* a|b"))
!\[x\](data:y) \*star\* a\|b
>>> print(code("a`b"))
``a`b``
>>> print(plotly("<b>R&D</b>"))
&lt;b&gt;R&amp;D&lt;/b&gt;
"""

import html
import re

# What means something anywhere in a line, and what does at its beginning only: headings, lists,
# underlines of headings, numbered lists.
_ANYWHERE = re.compile(r"[\\`*_\[\]<>&~|$]")
_AT_START = re.compile(r"^(\d{0,9})([#+\-=:.)])")

# What becomes a link although each of its characters is escaped: GitHub's Markdown looks for
# addresses in the finished text. A character without width in between keeps it from that.
_ADDRESS = re.compile(r"(?<=https:)(?=//)|(?<=http:)(?=//)|(?<=www)(?=\.)|(?<=.)(?=@)", re.I)
_NO_WIDTH = "\N{ZERO WIDTH SPACE}"

_LINE_BREAKS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def markdown(text: object) -> str:
    r"""Text that Markdown shows as it is, within a line or at its beginning, and in tables.

    Line breaks become spaces. Spaces at the ends, which Markdown drops, are kept: " a" is another
    class than "a".

    >>> print(markdown("# head"), markdown("1. one"), markdown("- a"), markdown("snake_case"))
    \# head 1\. one \- a snake\_case
    >>> print(markdown(" cat"))
    &nbsp;cat
    """
    text = _LINE_BREAKS.sub(" ", str(text))
    core = text.strip(" \t")
    before, _, after = text.partition(core) if core else (text, "", "")
    core = _ADDRESS.sub(_NO_WIDTH, core)
    core = _AT_START.sub(r"\1\\\2", _ANYWHERE.sub(r"\\\g<0>", core))
    return "&nbsp;" * len(before) + core + "&nbsp;" * len(after)


def code(text: object) -> str:
    r"""A span of code with the text in it, for names of fields, views, runs and files.

    >>> print(code("duplicates: groups"), code("`tick`"), code("a|b"))
    `duplicates: groups` `` `tick` `` `a`\|`b`
    """
    text = _LINE_BREAKS.sub(" ", str(text))
    # In a table a bar would end the cell, and outside of tables nothing escapes it within code.
    return r"\|".join(_span(part) if part else "" for part in text.split("|"))


def plotly(text: object) -> str:
    """Text for names, hover texts and axes of Plotly, which reads some HTML and TeX in them.

    >>> from_plotly(plotly("<a href='x'>&lt; $x$")) == "<a href='x'>&lt; $x$"
    True
    """
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("$", "&#36;")


def from_plotly(text: str) -> str:
    """The text that was given to ``plotly``: a click brings what the figure was given."""
    return html.unescape(text)


def _span(text: str) -> str:
    runs = re.findall("`+", text)
    fence = "`" * next(size for size in range(1, len(text) + 2) if "`" * size not in runs)
    # One space at both ends belongs to the fence, if there is more than spaces between.
    padded = text.startswith("`") or text.endswith("`") or (text[0] == text[-1] == " ")
    pad = " " if padded and text.strip(" ") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
