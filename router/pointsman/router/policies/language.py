"""Which language a question is in: told from its script, and for Latin letters from its small words.

Stands beside the compiled policies, whose rules may ask for it, and is reached only where one does. It is cheap
and modest rather than clever: the first letters of the text are counted by script, Latin text is put to the vote of
the most frequent words of seven languages, and where neither is clear there is no answer. A wrong language would
send a request down a rule that is not meant for it; none leaves it to the rules after. Whatever the text, the work
is bounded.
"""

from __future__ import annotations

import string
from bisect import bisect_right
from functools import lru_cache

HEAD = 240
"""Characters of the text that are looked at."""

_SCRIPTS = (
    (0x0041, "latin"), (0x0370, "el"), (0x0400, "cyrillic"), (0x0530, "hy"), (0x0590, "he"), (0x0600, "arabic"),
    (0x0700, ""), (0x0750, "arabic"), (0x0780, ""), (0x0900, "hi"), (0x0980, "bn"), (0x0A00, "pa"), (0x0A80, "gu"),
    (0x0B00, "or"), (0x0B80, "ta"), (0x0C00, "te"), (0x0C80, "kn"), (0x0D00, "ml"), (0x0D80, "si"), (0x0E00, "th"),
    (0x0E80, "lo"), (0x0F00, "bo"), (0x1000, "my"), (0x10A0, "ka"), (0x1100, "ko"), (0x1200, "am"), (0x1380, ""),
    (0x1780, "km"), (0x1800, ""), (0x1E00, "latin"), (0x1F00, "el"), (0x2000, ""), (0x3040, "kana"), (0x3100, ""),
    (0x3130, "ko"), (0x3190, ""), (0x31F0, "kana"), (0x3200, ""), (0x3400, "han"), (0x4DC0, ""), (0x4E00, "han"),
    (0xA000, ""), (0xAC00, "ko"), (0xD7B0, ""), (0xF900, "han"), (0xFB00, ""), (0xFB1D, "he"), (0xFB50, "arabic"),
    (0xFE00, ""), (0xFE70, "arabic"), (0xFF00, ""), (0xFF66, "kana"), (0xFFA0, ""), (0x20000, "han"), (0x32000, ""),
)  # fmt: skip
"""Where each script begins among the code points; a language where one script is written by one."""

_STARTS = tuple(start for start, _ in _SCRIPTS)
_NAMES = tuple(name for _, name in _SCRIPTS)

_LETTERS_WORTH = {"han": 3, "kana": 2, "ko": 2}
"""Latin letters that one letter of a script stands for: a question may hold a name or some code in English."""

_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzàáâäãçèéêëìíîïñòóôöõùúûüßœæÿ")
"""The letters of the seven languages below."""

_VIETNAMESE = frozenset("ơưđ") | {chr(code) for code in range(0x1EA0, 0x1EFA)}

SMALL_WORDS = {
    "en": "the of and to is in that it for on with as was are be this by at from or have an not what which how why "
    "who when where do does did can could would should will i you he she they we my your his their me if but about "
    "a has had than then there these those into please give tell write explain",
    "de": "der die das und ist in zu den von mit für auf dem ein eine einen einem einer nicht es im sich auch als "
    "an bei nach wie was wer wo wann warum welche welcher welches ich du er sie wir ihr mein dein kann können soll "
    "wird werden sind war hat haben aus dass oder wenn aber zum zur über um bitte mir mich dir",
    "fr": "le la les de des du un une et est en que qui dans pour par sur avec pas ne ce cette ces il elle je tu "
    "nous vous mon ma mes son sa ses au aux ou où comment pourquoi quel quelle quels quelles quoi sont être avoir "
    "plus mais si d l j qu c s n a y on leur peut moi me fais dis",
    "es": "el la los las de del un una y es en que qué por para con no se su sus al lo como cómo cuál cuáles "
    "cuánto cuántos cuántas quién dónde cuándo más o pero si yo tú mi me te le les este esta estos ese esa son ser "
    "está están hay fue sobre entre puede puedo",
    "pt": "o a os as de do da dos das um uma e é em no na nos nas que por para com não se seu sua ao à como qual "
    "quais quanto quantos quantas quem onde quando mais ou mas eu você ele ela meu minha me isso este esta esse "
    "essa são ser está foi sobre entre pode posso pelo pela",
    "it": "il lo la i gli le di del della dei delle un una uno e è in che per con non si su al alla come qual "
    "quale quali quanto quanti quante chi dove quando perché più o ma se io tu mi ti ci questo questa sono essere "
    "ho ha hai nel nella da dal cosa l d dell può puoi",
    "nl": "de het een en van is in dat die op te voor met niet zijn aan er om ook als bij uit naar hoe wat wie "
    "waar wanneer waarom welke ik je jij hij zij wij we u mijn jouw kan kunnen moet zal worden was heeft hebben of "
    "maar dan dit deze geen over door mij",
}
"""Words that sentences are held together by."""


def _weights() -> dict[str, tuple[tuple[str, int], ...]]:
    """What each word says for each language: 12 in all, shared between the languages that have it."""
    holders: dict[str, list[str]] = {}
    for language, words in SMALL_WORDS.items():
        for word in dict.fromkeys(words.split()):
            holders.setdefault(word, []).append(language)
    return {word: tuple((each, 12 // len(languages)) for each in languages) for word, languages in holders.items()}


_WEIGHTS = _weights()
_SPACES = str.maketrans(dict.fromkeys(string.punctuation + string.digits + "«»“”„‘’¿¡…–—·°", " "))


def language_of(text: str | None) -> str | None:
    """
    The ISO 639 code of the language that `text` is most likely in, or None where that is not clear.

    Looks at the first `HEAD` characters. Scripts that one language is known for are told by themselves (`zh`, `ja`,
    `ko`, `el`, `he`, `hi`, `th`, ...), Cyrillic and Arabic letters by those that some languages have and others
    do not, Latin letters only where they spell `en`, `de`, `fr`, `es`, `pt`, `it`, `nl` or `vi`.
    """
    if not text:
        return None
    head = text[:HEAD].lower()
    if head.isascii():
        return _by_small_words(head)
    counts: dict[str, int] = {}
    for letter in head:
        if name := _script_of(letter):
            counts[name] = counts.get(name, 0) + _LETTERS_WORTH.get(name, 1)
    han, kana = counts.pop("han", 0), counts.pop("kana", 0)
    if han or kana:
        counts["ja" if 10 * kana >= han else "zh"] = han + kana
    if not counts:
        return None
    script = max(counts, key=counts.__getitem__)
    if 2 * counts[script] < sum(counts.values()):
        return None
    if script == "latin":
        return _by_small_words(head)
    return _by_letters(script, set(head))


@lru_cache(4096)
def _script_of(letter: str) -> str:
    """The script, or the only language, of a letter; empty for what is none."""
    return _NAMES[bisect_right(_STARTS, ord(letter)) - 1] if letter.isalpha() else ""


def _by_letters(script: str, letters: set[str]) -> str | None:
    """The language of a script that several write, told by the letters that not all of them have."""
    if script == "cyrillic":
        if letters & set("әғқңөұүһѓќѕ"):
            return None
        if letters & set("јљњћђ"):
            return "sr"
        if "ў" in letters:
            return "be"
        if letters & set("іїєґ"):
            return "uk"
        return "bg" if "ъ" in letters and not letters & set("ыэё") else "ru"
    if script == "arabic":
        if letters & set("ٹڈڑںے"):
            return "ur"
        return "fa" if letters & set("پچژگکی") else "ar"
    return script


def _by_small_words(head: str) -> str | None:
    words = head.translate(_SPACES).split()
    if len(head) == HEAD and words:
        words.pop()  # it may have been cut
    letters = sum(map(len, words))
    strange = {each for each in set(head) - _ALPHABET if each.isalpha()}
    if strange:
        if strange & _VIETNAMESE:
            return "vi"
        if 33 * sum(map(head.count, strange)) > letters:
            return None
    votes = dict.fromkeys(SMALL_WORDS, 0)
    for word in words:
        for language, weight in _WEIGHTS.get(word, ()):
            votes[language] += weight
    (best, most), (_, second) = sorted(votes.items(), key=lambda vote: -vote[1])[:2]
    # In a sentence of one's own language two words of five are small; a few also occur in others.
    return best if most >= 2 * len(words) and most >= 12 and 2 * most >= 3 * second else None
