"""Texts that users see keep to the words of the glossary in CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["analysis", "checks", "demo", "embedding", "operators", "panels", "pictures"]
ROOMS += ["report", "storage"]
BANNED = re.compile(
    r"\b(?:pictures?|photos?|vectors?|maps?|things?|judg\w*|told|tells|anew|shall|vouch|witness\w*"
    r"|strange\w*|proved?|by hand|half-way|could go|(?:is|are) gone|tak(?:e|en) back|left out"
    r"|ways out|could not be had|one color|blurred|colours?|neighbours?|grey|labell(?:ed|ing)"
    r"|behaviours?)\b",
    re.IGNORECASE,
)
# CLIP's own prompt, and the names of what word vectors and vector databases are.
ALLOWED = re.compile(r"a photo of a|word vectors|within a vector|vector database", re.IGNORECASE)


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            yield id(node.body[0].value)


def sentences(source):
    """String literals that are no keys, with their lines, but no docstrings."""
    tree = ast.parse(source)
    skipped = set(docstrings(tree))
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (
            is_text
            and id(node) not in skipped
            and (" " in node.value.strip() or node.value[:1].isupper())
        ):
            yield node.lineno, node.value


def banned(text):
    return BANNED.findall(ALLOWED.sub("", text))


@pytest.mark.parametrize("room", ROOMS)
def test_no_text_has_a_banned_word(room):
    paths = sorted((ROOT / room).glob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in paths
        for line, text in sentences(path.read_text())
        if banned(text)
    ]
    assert paths and not found, "\n".join(found)


def test_the_manifest_has_none_either():
    text = (ROOT / "fiftyone.yml").read_text()
    assert "label issues" in text and not banned(text)


def test_the_report_has_none_either():
    page = (ROOT / "report" / "template.html").read_text()
    text = re.sub(r"<script>.*?</script>|\{[{%#].*?[}%#]\}|<[^>]*>", " ", page, flags=re.DOTALL)
    assert len(text.split()) > 300 and not banned(text)


def test_such_words_are_found():
    assert banned("The vectors propose pairs") and banned("Pictures of one color")
    assert banned("neighbours") and banned("labelled") and not banned("neighbors, labeled color")
    assert not banned("holds no word vectors of GloVe, from a vector database")
    assert not list(sentences('def look():\n    """A photo of things."""\n    return "told"\n'))
