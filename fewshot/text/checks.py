"""Checks that each sentence of the class texts distinguishes its class from every other.

Classes compete if one classifier chooses among them. These are the classes of each file, and those
of the contest, which several files share. A name occurs in a sentence if its words occur there in
their order. Case, hyphens, a possessive, and a plural of the last word make no difference.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from statistics import median

from fewshot.text.negatives import normalize_name
from fewshot.text.prompt_files import ClassText, TextFile
from jclip.tokenizer import CONTEXT_LENGTH, encode

OPENING_WORDS = 5
OPENING_SHARE = 0.15  # most of a file's sentences that may begin with the same words
WORD_SHARE = 0.6  # the median pair of a file's classes shares less of its words than this
SAME_SPELLING = 0.9  # least ratio of difflib for two spellings of one word
BLANK = "{}"  # replaces a class's own names when sentences are compared

Words = tuple[str, ...]  # of a name or sentence, for comparison


def find_text_problems(files: Sequence[TextFile], templates: dict[str, list[str]]) -> list[str]:
    """Returns one line, with the file and the class, for each problem of these files."""
    problems = [line for file in files for line in _check_file(file, templates)]
    groups = [[(file, entry) for entry in file.classes] for file in files]
    groups.append([(file, e) for file in files if file.domain for e in file.classes if e.contest])
    for group in groups:
        problems += _check_competing_classes(group)
    problems += [
        f"templates: {name}: {problem}"
        for name, sentences in templates.items()
        for sentence in sentences
        for problem in _check_ascii(sentence)
    ]
    return list(dict.fromkeys(problems))  # a file's classes may compete in the contest too


def find_negative_problems(negatives: dict[str, list[str]], files: Sequence[TextFile]) -> list[str]:
    """Returns one line for each negative that is, or resembles, the name of a contest's class."""
    keys = {
        normalize_name(name): entry.key
        for file in files
        if file.domain
        for entry in file.classes
        if entry.contest
        for name in _names(entry)
    }
    problems = []
    for kind, words in negatives.items():
        for word in words:
            name = normalize_name(word)
            endings = [name.split(" ", n)[-1] for n in range(name.count(" ") + 1)]
            same = next((ending for ending in endings if ending in keys), None)
            similar = difflib.get_close_matches(name, keys, n=1, cutoff=SAME_SPELLING)
            if same:
                problems.append(f"negatives: {kind}: {word!r} names the class {keys[same]}")
            elif similar:
                problems.append(f"negatives: {kind}: {word!r} is close to {keys[similar[0]]}")
    return problems


def find_common_opening(file: TextFile) -> tuple[str, float]:
    """Returns the most common first words of a file's sentences, without names, and their share."""
    openings = Counter(
        " ".join([word for word in words if word != BLANK][:OPENING_WORDS])
        for entry in file.classes
        for words in blank_names(entry)
    )
    words, count = max(openings.items(), key=lambda pair: pair[1], default=("", 0))
    return words, count / openings.total() if count > 1 else 0.0


def compute_word_share(file: TextFile) -> float:
    """Returns the median share of the smaller vocabulary that two classes have in common."""
    vocabularies = [
        {word for words in blank_names(entry) for word in words} - {BLANK} for entry in file.classes
    ]
    shares = [
        len(first & second) / min(len(first), len(second))
        for first, second in combinations(filter(None, vocabularies), 2)
    ]
    return median(shares) if shares else 0.0


@cache
def blank_names(entry: ClassText) -> tuple[Words, ...]:
    """Returns the words of a class's sentences, with {} for its own names."""
    own_names = {_words(name): entry for name in _names(entry)}
    return tuple(
        tuple(BLANK if owner else word for word, owner in _find_names(sentence, own_names))
        for sentence in entry.sentences
    )


def _check_file(file: TextFile, templates: dict[str, list[str]]) -> Iterator[str]:
    """Yields the problems of a file by itself."""
    if len(file.classes) != file.size:
        yield f"{file.path}: holds {len(file.classes)} classes, its size says {file.size}"
    if file.templates not in templates:
        yield f"{file.path}: there is no set of templates {file.templates!r}"
    longest = max((len(encode(text)) for text in templates.get(file.templates, [])), default=0)
    for entry in file.classes:
        where = f"{file.path}: {entry.key}"
        if len(entry.sentences) < file.least:
            yield f"{where}: has {len(entry.sentences)} sentences, needs {file.least}"
        for text in (*_names(entry), entry.superclass, *entry.sentences):
            for problem in _check_ascii(text):
                yield f"{where}: {problem}"
        own_names = {_words(name): entry for name in _names(entry)}
        for text in entry.sentences:
            tokens = len(encode(text)) + 2
            if tokens > CONTEXT_LENGTH:
                yield f"{where}: {tokens} tokens, CLIP reads {CONTEXT_LENGTH}: {text!r}"
            if not any(owner for _, owner in _find_names(text, own_names)):
                yield f"{where}: names neither the class nor an alias: {text!r}"
        if longest + len(encode(entry.name)) + len(encode(entry.superclass)) + 2 > CONTEXT_LENGTH:
            yield f"{where}: its name makes a template longer than {CONTEXT_LENGTH} tokens"
    opening, share = find_common_opening(file)
    if share > OPENING_SHARE:
        yield f"{file.path}: {share:.0%} of the sentences begin with {opening!r}"
    share = compute_word_share(file)
    if share >= WORD_SHARE:
        yield f"{file.path}: the median pair of classes shares {share:.0%} of its words"


def _check_competing_classes(group: Sequence[tuple[TextFile, ClassText]]) -> Iterator[str]:
    """Yields repeated classes, names and sentences, and sentences that name another class."""
    keys: set[tuple[str, str]] = set()
    owners: dict[Words, ClassText] = {}
    first_uses: dict[Words, tuple[ClassText, int]] = {}
    patterns: dict[Words, ClassText] = {}
    for file, entry in group:
        where = f"{file.path}: {entry.key}"
        if (file.domain, entry.key) in keys:
            yield f"{where}: occurs twice"
        keys.add((file.domain, entry.key))
        for name in _names(entry):
            first_owner = owners.setdefault(_words(name), entry)
            if first_owner is not entry:
                yield f"{where}: {name!r} is a name of {first_owner.key} too"
    for file, entry in group:
        where = f"{file.path}: {entry.key}"
        sentences = zip(entry.sentences, blank_names(entry), strict=True)
        for number, (sentence, pattern) in enumerate(sentences):
            user, used_number = first_uses.setdefault(_words(sentence), (entry, number))
            if user is not entry or used_number != number:
                yield f"{where}: occurs twice, in {user.key} too: {sentence!r}"
            elif (other := patterns.setdefault(pattern, entry)) is not entry:
                yield f"{where}: fits {other.key} word for word: {sentence!r}"
            for words, owner in _find_names(sentence, owners):
                if owner is not None and owner != entry:
                    yield f"{where}: names {owner.key} ({words!r}): {sentence!r}"


def _names(entry: ClassText) -> tuple[str, ...]:
    return (entry.name, *entry.aliases)


def _words(text: str) -> Words:
    """Returns the words of a text for comparison: in lower case, the last one in the singular."""
    *words, last = _split(text) or [""]
    return (*words, _singular(last))


_singular = cache(normalize_name)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"'s\b", "", text.lower()))


def _find_names(
    text: str, owners: dict[Words, ClassText]
) -> Iterator[tuple[str, ClassText | None]]:
    """Yields (words, the class that they name) from left to right; the longest name wins.

    A word that belongs to no name is yielded with None.
    """
    words = _split(text)
    longest = max(map(len, owners), default=0)
    start = 0
    while start < len(words):
        for end in range(min(start + longest, len(words)), start, -1):
            owner = owners.get((*words[start : end - 1], _singular(words[end - 1])))
            if owner:
                break
        else:
            owner, end = None, start + 1
        yield " ".join(words[start:end]), owner
        start = end


def _check_ascii(text: str) -> Iterator[str]:
    """Yields the characters beyond ASCII, which resemble others and give other tokens."""
    for character in dict.fromkeys(text):
        if not character.isascii():
            name = unicodedata.name(character, "without a name")
            yield f"U+{ord(character):04X} ({name}), write it in ASCII: {text!r}"
