"""What tells two questions apart that an embedding takes for one.

A number, a name, a "not" or one word exchanged for another moves a vector very little, and
changes the answer altogether. So a question that is near must also agree here, word by word. Who
is told apart needlessly pays for a call; who is not is given a wrong answer. The word lists are
English, and negations also those of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»|`([^`]+)`|(?<!\w)\'([^\']+)\'(?!\w)')
_ENDING = re.compile(r"(?:[a-z]?(?:ing|ed)|e?s|d|e|ly)?\Z")
_AROUND = ".,;:!?()[]{}<>\"'“”‘’«»…*`"
_SENTENCE_ENDS = (".", "!", "?", ":")
SHARED = 3  # letters that a word's forms have in common


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PREFIXES = _set(
    "un in im il ir dis de non mis anti counter under over pre post ex inter intra sub super "
    "hyper hypo macro micro up down on off out"
)
_NEGATIONS = _set(
    "not no never none nobody nothing neither nor without cannot cant dont doesnt didnt isnt arent "
    "wasnt werent couldnt wont wouldnt shouldnt hasnt havent hadnt except unless "
    "nicht kein keine keinen keinem keiner keines nie niemals ohne ne pas jamais sans aucun aucune "
    "nunca sin tampoco non senza mai não sem niet geen zonder nooit inte aldrig utan"
)
# Of a pair of opposites one is enough, where the other is everywhere ("on", "in", "to").
_TELLING = _set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million billion trillion dozen half double triple once twice first second "
    "third fourth fifth last next previous ago "
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday "
    "saturday sunday today tomorrow yesterday tonight now morning noon afternoon evening night "
    "midnight spring summer autumn fall winter daily weekly monthly yearly "
    "from off out up down under above below before after since until left right north south east "
    "west or only more less most least fewer better worse best worst all any some every both "
    "who whose when where why always sometimes start stop begin end open close buy sell high low "
    "higher lower highest lowest max min maximum minimum big small large long short old new hot "
    "cold early late fast slow rise drop win lose true false yes male female man woman men women "
    "boy girl he she him her his hers husband wife mother father son daughter brother sister "
    "was were did had will"
)
_FUNCTION = _set(
    "a an the is are be been being am do does doing done can could would shall "
    "should might must i me my mine we us our you your it its they them their this that these "
    "those there here of in on at to for with by as and but if then so than about into what "
    "what's which how please tell give show let know want like need help just really actually "
    "also kindly hi hello hey thanks thank get got have has i'm i'd i'll let's quick question"
)
_OPENERS = _set(
    "explain describe list name define write summarize summarise translate compare find calculate "
    "convert suggest recommend create make provide discuss outline say"
)


class Facts(NamedTuple):
    """`exact` are quotations, and what has a digit or a sign in it; `telling` the words that turn
    a question round, each negation as "not"; both in order. `names` begin with a capital where
    that means something. `content` are the words that are neither that nor grammar; `order` has
    all but grammar as it comes, `words` has all."""

    exact: tuple[str, ...]
    telling: tuple[str, ...]
    names: frozenset[str]
    content: frozenset[str]
    order: tuple[str, ...]
    words: frozenset[str]


def is_readable(text: str) -> bool:
    """Whether names can be seen: not in scripts without capitals, or without spaces."""
    return text.isascii() or not any(
        [each.isalpha() and each.lower() == each.upper() for each in text]
    )


def facts(text: str) -> Facts:
    exact = [next(filter(None, each)) for each in _QUOTED.findall(text)]
    telling, order = [], []
    names, content, words = set(), set(), set()
    for word, begins in _words(text):
        plain = word.casefold().replace("’", "'").removesuffix("'s")
        words.add(plain)
        if plain not in _FUNCTION:
            order.append(plain)
        if _is_exact(word):
            exact.append(word)
        elif plain in _NEGATIONS or plain.endswith("n't"):
            telling.append("not")
        elif plain in _TELLING:
            telling.append(plain)
        elif plain not in _FUNCTION:
            content.add(plain)
            if word != word.lower() and not (begins and plain in _OPENERS):
                names.add(plain)
    return Facts(
        tuple(exact),
        tuple(telling),
        frozenset(names),
        frozenset(content),
        tuple(order),
        frozenset(words),
    )


def told_apart(one: Facts, other: Facts) -> bool:
    """Whether these are two questions, however near their vectors are."""
    return (
        one.exact != other.exact
        or one.telling != other.telling
        or not one.names <= other.words
        or not other.names <= one.words
        or _in_another_order(one.order, other.order)
        or _exchanged(one.content - other.words, other.content - one.words)
    )


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Each word, and whether it begins a sentence, where a capital means nothing."""
    begins = True
    for raw in text.split():
        word = raw.strip(_AROUND)
        if word:
            yield word, begins
            begins = False
        begins = begins or raw.endswith(_SENTENCE_ENDS)


def _is_exact(word: str) -> bool:
    """A number, an identifier, a sign, a lone letter; or a name all in capitals."""
    if len(word) == 1:
        return word not in "aAiI"
    return not all([each.isalpha() or each in "'’-" for each in word])


def _in_another_order(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Who bites whom, and from where to where."""
    common = set(one) & set(other)
    return [each for each in one if each in common] != [each for each in other if each in common]


def _exchanged(gone: frozenset[str], come: frozenset[str]) -> bool:
    """One word in place of another, all else being equal: what the question is about has changed.
    Or a word and its opposite, as `install` and `uninstall` or `import` and `export` are."""
    pairs = [(a, b) for a in gone for b in come if not _are_forms_of_one(a, b)]
    if len(gone) == len(come) == 1:
        return bool(pairs)
    return any([not _roots(a).isdisjoint(_roots(b)) for a, b in pairs])


def _are_forms_of_one(a: str, b: str) -> bool:
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    return shared >= SHARED and all([_ENDING.match(each[shared:]) for each in (a, b)])


def _roots(word: str) -> set[str]:
    cut = [word.removeprefix(prefix) for prefix in _PREFIXES]
    return {word, *(each for each in cut if len(each) > SHARED)}
