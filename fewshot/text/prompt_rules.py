"""What class texts must keep to, so that a sentence tells its class from every other.

A label space is a set of classes that one classifier chooses among: each file by itself, and the
contest's, which several files share. A name occurs in a sentence where its words stand there in
their order: case, hyphens, a possessive and a plural of the last word make no difference.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from statistics import median

from fewshot.text.negatives import plain_name
from fewshot.text.prompt_files import ClassText, TextFile
from jclip.tokenizer import CONTEXT_LENGTH, encode

OPENING_WORDS = 5
OPENING_SHARE = 0.15  # of a file's sentences may begin with the same words
WORD_SHARE = 0.6  # below it: the words that a file's median pair of classes has in common
ALIKE = 0.9  # difflib's ratio from which on two words count as spellings of one
NAME = "{}"  # what stands for a class's own name where sentences are compared

Name = tuple[str, ...]  # words as they are compared


def text_problems(files: Sequence[TextFile], templates: dict[str, list[str]]) -> list[str]:
    """All that is wrong with these files, one line each, with the file and the class."""
    problems = [line for file in files for line in _file_problems(file, templates)]
    contest = [(file, entry) for file in files if file.domain for entry in _contest(file)]
    spaces = [[(file, entry) for entry in file.classes] for file in files] + [contest]
    for space in spaces:
        problems += _space_problems(space)
    problems += [
        f"templates: {name}: {problem}"
        for name, sentences in templates.items()
        for sentence in sentences
        for problem in _foreign(sentence)
    ]
    return list(dict.fromkeys(problems))  # a file's classes may be in the contest's space too


def negative_problems(negatives: dict[str, list[str]], files: Sequence[TextFile]) -> list[str]:
    """The words among the negatives that name a class of the contest, or nearly do."""
    known = {
        plain_name(name): entry.key
        for file in files
        if file.domain
        for entry in _contest(file)
        for name in _names(entry)
    }
    problems = []
    for kind, words in negatives.items():
        for word in words:
            plain = plain_name(word)
            tails = [plain.split(" ", n)[-1] for n in range(plain.count(" ") + 1)]
            named = next((tail for tail in tails if tail in known), None)
            alike = difflib.get_close_matches(plain, known, n=1, cutoff=ALIKE)
            if named:
                problems.append(f"negatives: {kind}: {word!r} names the class {known[named]}")
            elif alike:
                problems.append(f"negatives: {kind}: {word!r} is close to {known[alike[0]]}")
    return problems


def common_opening(file: TextFile) -> tuple[str, float]:
    """(the commonest first words of a file's sentences, their share), class names left out."""
    openings = Counter(
        " ".join([word for word in words if word != NAME][:OPENING_WORDS])
        for entry in file.classes
        for words in blanked(entry)
    )
    words, count = max(openings.items(), key=lambda pair: pair[1], default=("", 0))
    return words, count / openings.total() if count > 1 else 0.0


def median_word_share(file: TextFile) -> float:
    """The share of the smaller vocabulary that two classes have in common: median over pairs."""
    vocabularies = [
        {word for words in blanked(entry) for word in words} - {NAME} for entry in file.classes
    ]
    shares = [
        len(one & other) / min(len(one), len(other))
        for one, other in combinations(filter(None, vocabularies), 2)
    ]
    return median(shares) if shares else 0.0


@cache
def blanked(entry: ClassText) -> tuple[Name, ...]:
    """A class's sentences as words, its own names replaced by {}."""
    own = {_words(name): entry for name in _names(entry)}
    return tuple(
        tuple(NAME if who else word for word, who in _read(text, own)) for text in entry.sentences
    )


def _file_problems(file: TextFile, templates: dict[str, list[str]]) -> Iterator[str]:
    if len(file.classes) != file.size:
        yield f"{file.path}: holds {len(file.classes)} classes, its size says {file.size}"
    if file.templates not in templates:
        yield f"{file.path}: there is no set of templates {file.templates!r}"
    longest = max((len(encode(text)) for text in templates.get(file.templates, [])), default=0)
    for entry in file.classes:
        place = f"{file.path}: {entry.key}"
        if len(entry.sentences) < file.least:
            yield f"{place}: has {len(entry.sentences)} sentences, needs {file.least}"
        for text in (*_names(entry), entry.superclass, *entry.sentences):
            for problem in _foreign(text):
                yield f"{place}: {problem}"
        own = {_words(name): entry for name in _names(entry)}
        for text in entry.sentences:
            if (tokens := len(encode(text)) + 2) > CONTEXT_LENGTH:
                yield f"{place}: {tokens} tokens, CLIP reads {CONTEXT_LENGTH}: {text!r}"
            if not any(who for _, who in _read(text, own)):
                yield f"{place}: names neither the class nor an alias: {text!r}"
        named = longest + len(encode(entry.name)) + len(encode(entry.superclass)) + 2
        if named > CONTEXT_LENGTH:
            yield f"{place}: its name makes a template longer than {CONTEXT_LENGTH} tokens"
    opening, share = common_opening(file)
    if share > OPENING_SHARE:
        yield f"{file.path}: {share:.0%} of the sentences begin with {opening!r}"
    if (share := median_word_share(file)) >= WORD_SHARE:
        yield f"{file.path}: the median pair of classes shares {share:.0%} of its words"


def _space_problems(space: Sequence[tuple[TextFile, ClassText]]) -> Iterator[str]:
    """What is wrong among classes that compete: things said twice, and other classes' names."""
    keys: set[tuple[str, str]] = set()
    owners: dict[Name, ClassText] = {}
    said: dict[Name, tuple[ClassText, int]] = {}
    shapes: dict[Name, ClassText] = {}
    for file, entry in space:
        place = f"{file.path}: {entry.key}"
        if (file.domain, entry.key) in keys:
            yield f"{place}: stands twice"
        keys.add((file.domain, entry.key))
        for name in _names(entry):
            other = owners.setdefault(_words(name), entry)
            if other is not entry:
                yield f"{place}: {name!r} is a name of {other.key} too"
    for file, entry in space:
        place = f"{file.path}: {entry.key}"
        for number, (text, shape) in enumerate(zip(entry.sentences, blanked(entry), strict=True)):
            first, where = said.setdefault(_words(text), (entry, number))
            if first is not entry or where != number:
                yield f"{place}: stands twice, in {first.key} too: {text!r}"
            elif (other := shapes.setdefault(shape, entry)) is not entry:
                yield f"{place}: fits {other.key} word for word: {text!r}"
            for word, who in _read(text, owners):
                if who is not None and who != entry:
                    yield f"{place}: names {who.key} ({word!r}): {text!r}"


def _contest(file: TextFile) -> list[ClassText]:
    return [entry for entry in file.classes if entry.contest]


def _names(entry: ClassText) -> tuple[str, ...]:
    return (entry.name, *entry.aliases)


def _words(text: str) -> Name:
    """A text as it is compared: words in lower case, the last one in the singular."""
    *words, last = _split(text) or [""]
    return (*words, _singular(last))


_singular = cache(plain_name)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"'s\b", "", text.lower()))


def _read(text: str, owners: dict[Name, ClassText]) -> Iterator[tuple[str, ClassText | None]]:
    """A sentence from left to right: (words, whose name they are), the longest name first."""
    words = _split(text)
    longest = max(map(len, owners), default=0)
    place = 0
    while place < len(words):
        for end in range(min(place + longest, len(words)), place, -1):
            if who := owners.get((*words[place : end - 1], _singular(words[end - 1]))):
                break
        else:
            who, end = None, place + 1
        yield " ".join(words[place:end]), who
        place = end


def _foreign(text: str) -> Iterator[str]:
    """Characters beyond ASCII, which look like others and split into other tokens."""
    for character in dict.fromkeys(text):
        if not character.isascii():
            name = unicodedata.name(character, "without a name")
            yield f"U+{ord(character):04X} ({name}), write it in ASCII: {text!r}"
