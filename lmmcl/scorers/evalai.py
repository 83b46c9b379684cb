"""The normal form of EvalAI's VQA evaluation: short answers are compared in it."""

import re

_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": 0} | {word: value for value, word in enumerate(_NUMBER_WORDS.split())}
_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOP = re.compile(r"\.(?!\d)")
# The original hands the flag re.UNICODE to a parameter that means "at most this many replacements".
_MOST_FULL_STOPS = 32
# A form is recognised when one of its apostrophes is missing: "aint", "couldnt've", "couldn'tve".
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)


def _without_one_apostrophe(form: str) -> list[str]:
    return [form[:place] + form[place + 1 :] for place, letter in enumerate(form) if letter == "'"]


CONTRACTIONS = {slip: form for form in _CONTRACTIONS.split() for slip in _without_one_apostrophe(form)}
CONTRACTIONS["somebody'd"] = "somebodyd"  # the original has this one the wrong way round


def _without_punctuation(text: str) -> str:
    """Marks beside a space anywhere in the text vanish, others become a space; full stops stay in numbers."""
    plain = text
    for mark in _PUNCTUATION:
        beside_a_space = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_a_space else " ")
    return _FULL_STOP.sub("", plain, count=_MOST_FULL_STOPS)


def evalai(text: str) -> str:
    """An answer as EvalAI compares it.

    Lower case; commas and question marks vanish, "'s" is a word of its own; punctuation and articles go, number
    words to ten become digits ("none" is 0), and contractions get their apostrophe back.

    Source: the answer processor of the VQA challenge (visualqa.org/evaluation), as MMF and lmms-eval carry it.
    """
    words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    spaced = words.replace("\n", " ").replace("\t", " ").strip()
    kept = []
    for word in _without_punctuation(spaced).lower().split():
        plain = str(_NUMBERS.get(word, word))
        if plain not in _ARTICLES:
            kept.append(CONTRACTIONS.get(plain, plain))
    return " ".join(kept)
