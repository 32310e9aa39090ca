"""Texts as they are compared: normalized, word by word; and how two of them differ.

Two texts are the same only as far as their words say so. A number, a date, a negation, a name or a
sign that one of them has and the other has not speaks against it, however alike the rest is.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Scripts without spaces, of which each character counts as a word: Thai, Lao, Myanmar, Khmer, kana,
# Chinese characters.
WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"

# Marks of how the character before is drawn, which say nothing.
DRAWN = range(0xFE00, 0xFE10)

# Punctuation that means something, as signs do: percent, ampersand, at, number.
MEANING = "%‰&@#"

# Share of capitalized words from which capitals are no sign of names, as in titles.
TITLE = 0.6

# Words after a number or a negation that it is of: "not the red door", "5 large apples".
REACH = 2

CAMEL = re.compile(r"[a-z][A-Z]")

DASHES, APOSTROPHES = re.compile("[\u2010-\u2015\u2212]"), re.compile("[\u2018\u2019\u02bc]")
SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|[。！？\n]+")

# Words that turn what is said into its opposite, and small numbers that are written as words.
NEGATIONS = (
    "no not never none nor neither nobody nothing nowhere without cannot hardly "
    "nicht kein keine keinen keinem keiner keines nie niemals ohne weder "
    "ne pas jamais sans aucun aucune non nunca sin ningún ninguna senza mai não sem nenhum "
    "niet geen nooit zonder"
)
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million billion half twice once first second third fourth fifth sixth "
    "seventh eighth ninth tenth dozen double triple single "
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf hundert tausend "
    "deux trois quatre cinq sept huit neuf dix onze douze cent mille "
    "dos tres cuatro cinco seis siete ocho nueve diez"
)
CLAIMING = frozenset(f"{NEGATIONS} {NUMBERS}".split())


@dataclass(frozen=True)
class Words:
    """A text as it is compared.

    Attributes:
        written: the text as it is written
        sentences: its words in small letters, numbers and signs, sentence by sentence
        inner: words with a capital that stand within a sentence, and those that are written as only
            names are, in programs say: ``setUp``, ``__exit__``
        capitals: all words with a capital; none where capitals mean nothing
        small: words that are written in small letters
    """

    written: str
    sentences: tuple[tuple[str, ...], ...]
    inner: frozenset[str]
    capitals: frozenset[str]
    small: frozenset[str]

    @functools.cached_property
    def all(self) -> tuple[str, ...]:
        """All words in their order."""
        return tuple(word for sentence in self.sentences for word in sentence)

    @property
    def normalized(self) -> str:
        """The text without case, punctuation, and ways to write the same character."""
        return " ".join(self.all)

    @functools.cached_property
    def features(self) -> Counter[tuple[str, ...]]:
        """Words, and pairs of words that follow each other in a sentence, with their counts."""
        found: Counter[tuple[str, ...]] = Counter()
        for sentence in self.sentences:
            found.update(zip(sentence))
            found.update(pairwise(sentence))
        return found


def read_words(text: str) -> Words:
    """A text in words.

    Unicode NFKC and case folding; punctuation and spaces separate words and say nothing else. Signs
    (``€``, ``+``, emoji) are words; signs, points and dashes within a number, and apostrophes
    within a word, belong to it.

    Example:
        >>> read_words("The ﬁrst dog’s  BALL costs €5.50!").normalized
        "the first dog's ball costs € 5.50"
    """
    token, other_numbers = _patterns()
    shown = text
    if not text.isascii():
        # To NFKC 5² is 52.
        shown = unicodedata.normalize("NFKC", other_numbers.sub(r" ^\g<0>", text))
        shown = APOSTROPHES.sub("'", DASHES.sub("-", shown))
    sentences = [found for part in SENTENCE_END.split(shown) if (found := token.findall(part))]
    if not sentences and shown.strip():  # nothing but punctuation: that is all there is to compare
        sentences = [[shown.strip()]]
    written = [word for sentence in sentences for word in sentence]
    capitalized = [word for word in written if word[0].isupper()]
    cased = [word for word in written if word[0].isupper() or word[0].islower()]
    inner = [word for word in written if "_" in word or CAMEL.search(word)]
    if len(capitalized) < TITLE * len(cased):
        inner += [word for sentence in sentences for word in sentence[1:] if word[0].isupper()]
    if not any(map(str.islower, shown)):
        capitalized = []
    return Words(
        text,
        tuple(tuple(map(_folded, sentence)) for sentence in sentences),
        frozenset(map(_folded, inner)),
        frozenset(map(_folded, capitalized)),
        frozenset(_folded(word) for word in written if word.islower()),
    )


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", word.casefold())


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds words, and numbers that are no digits: superscripts, fractions."""
    separate = re.compile(f"[{WITHOUT_SPACES}]")
    of_words, signs, numbers = [], [], []
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        kind = unicodedata.category(character)
        if kind == "No":
            numbers.append(point)
        if kind[0] in "LMN" or kind == "Pc":
            if point not in DRAWN and not separate.match(character):
                of_words.append(point)
        elif (kind[0] == "S" and character != "`") or character in MEANING:
            signs.append(point)
    word, sign = _class_of(of_words), _class_of(signs)
    return re.compile(
        # The sign of a number; letters, apostrophes between them; the points within a number.
        rf"(?:(?<![{word}])[-+](?=\d))?[{word}]+(?:'[{word}]+|(?<=\d)[.,:/-](?=\d)[{word}]+)*"
        rf"(?:(?<=\d)[%‰]|#)?|[{WITHOUT_SPACES}]|[{sign}]"
    ), re.compile(f"[{_class_of(numbers)}]")


def _class_of(points: Sequence[int]) -> str:
    """Code points as the inside of a regular expression's character class."""
    parts = np.split(points, np.flatnonzero(np.diff(points) > 1) + 1)
    return "".join(f"\\U{part[0]:08x}-\\U{part[-1]:08x}" for part in parts)


@dataclass(frozen=True)
class TextSet:
    """What a set of texts says about its words.

    Attributes:
        weights: how much a word counts: rare ones more than frequent ones, at least 1
        small: words that some text writes in small letters, which are no names at its beginning
    """

    weights: Mapping[str, float]
    small: frozenset[str]

    @classmethod
    def from_texts(cls, texts: Iterable[Words]) -> TextSet:
        """Weights are inverse document frequencies, smoothed (as scikit-learn's), of the different
        texts.
        """
        different = {words.normalized: words for words in texts}.values()
        counts = Counter(word for words in different for word in set(words.all))
        weights = {
            word: float(np.log((1 + len(different)) / (1 + count)) + 1)
            for word, count in counts.items()
        }
        return cls(weights, frozenset(word for words in different for word in words.small))

    def agreement(self, one: Words, other: Words) -> float:
        """How far two texts say the same in the same words, from 0 to 1 (nothing differs).

        The weighted Dice coefficient of their words and of pairs of words that follow each other in
        a sentence, so that the order of sentences does not count and that of words does.
        """
        mine, theirs = one.features, other.features
        common = sum(self._weight(part) * count for part, count in (mine & theirs).items())
        total = sum(
            self._weight(part) * count
            for features in (mine, theirs)
            for part, count in features.items()
        )
        return 2 * common / total if total else 1.0

    def _weight(self, part: tuple[str, ...]) -> float:
        return sum(self.weights.get(word, 1.0) for word in part) / len(part)

    def contradict(self, one: Words, other: Words) -> bool:
        """Whether a number, date, negation, sign or name stands in one of two texts only, or in
        another place.
        """
        return Counter(self._claims(one)) != Counter(self._claims(other))

    def _claims(self, words: Words) -> Iterator[tuple[str, ...]]:
        """Numbers, negations and signs with what they are of, and the names of each sentence."""
        for sentence in words.sentences:
            for place, word in enumerate(sentence):
                if _counts_or_negates(word):
                    yield sentence[place : place + 1 + REACH]
            names = [word for word in sentence if self._is_name(word, words)]
            if names:
                yield tuple(names)

    def _is_name(self, word: str, words: Words) -> bool:
        return word in words.inner or (word in words.capitals and word not in self.small)


@functools.lru_cache(1 << 16)
def _counts_or_negates(word: str) -> bool:
    signed = len(word) == 1 and not word.isalnum()
    return signed or word in CLAIMING or word.endswith("n't") or any(map(str.isnumeric, word))


def change_of(one: Words, other: Words) -> str:
    """How a text differs from another one, in a few words."""
    if one.written == other.written:
        return "same text"
    if one.all == other.all:
        return "case and punctuation"
    if Counter(one.sentences) == Counter(other.sentences):
        return "sentence order"
    mine, theirs = Counter(one.all), Counter(other.all)
    differing = max((mine - theirs).total(), (theirs - mine).total())
    if not differing:
        return "word order"
    return f"words: {differing:,} of {max(len(one.all), len(other.all)):,}"
