"""Texts of any script as words, by Unicode's word boundaries.

Words end where Unicode's default rules say, except that colons end words too. In scripts without
spaces between words, each character with its combining marks is a word, and so is each run of
katakana.

Source: Unicode Standard Annex 29, "Unicode Text Segmentation", section 4, word boundaries, as the
regex package implements them.
"""

import unicodedata

import regex

FLAGS = regex.VERSION1 | regex.WORD | regex.DOTALL  # WORD: \b is a word boundary of Unicode
# Scripts without spaces between words. Complex context: Thai, Lao, Khmer, Burmese and their like.
SPACELESS = (
    r"[\p{Line_Break=Complex_Context}"
    r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Tibetan}]"
)
EMOJI = r"\p{Extended_Pictographic}\p{Regional_Indicator}"
# Whatever precedes a word ends at a boundary.
WORD = rf"[\p{{L}}\p{{N}}_{EMOJI}].*?(?:\b|(?=:))"
SIGNS = r"(?:(?<=\p{Latin})(?:\+{2,}|[+\#](?![\w'\u2019])))?"  # of C++ and C#
TERM = regex.compile(WORD + SIGNS, FLAGS)
# Neither letters, combining marks, digits nor emoji. Joiners are inside of words and of emoji.
SEPARATORS = regex.compile(
    rf"[^\p{{L}}\p{{M}}\p{{N}}{EMOJI}\p{{Emoji_Modifier}}\p{{Join_Control}}]+", FLAGS
)
EMAIL_ADDRESS = r"[a-zA-Z0-9._%+-]{1,64}+@[a-zA-Z0-9-]++(?:\.[a-zA-Z0-9-]++)+"
SPACED_WORD = rf"(?!{SPACELESS}|[{EMOJI}]){WORD}{SIGNS}"
WORD_OR_MARK = regex.compile(
    rf"{EMAIL_ADDRESS}"
    rf"|[@\#]?{SPACED_WORD}(?:['\u2019.-]{SPACED_WORD})*"
    rf"|{WORD}"
    r"|(?![\s\p{Cc}\p{Cf}])\X",
    FLAGS,
)
SPACELESS_LETTER = regex.compile(SPACELESS, FLAGS)
# Variation selectors, such as of a colored heart, and the apostrophe of typesetting.
PRESENTATION = dict.fromkeys(range(0xFE00, 0xFE10)) | {0x2019: "'"}


def fold(text: str) -> str:
    """Remove what does not tell two words apart: case, composition and presentation (NFKC)."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).translate(PRESENTATION)
    return unicodedata.normalize("NFKC", plain.casefold())


def find_terms(text: str) -> list[str]:
    """List the words and emoji of a text, folded. C++ and C# are words."""
    return TERM.findall(fold(text))


def find_alphanumeric_words(text: str) -> list[str]:
    """List the runs of letters and digits, and the emoji, of a text, folded."""
    return TERM.findall(SEPARATORS.sub(" ", fold(text)))


def find_words_and_marks(text: str) -> list[tuple[int, int]]:
    """Find the words, emoji and punctuation marks of a text.

    A word may begin with @ or #, and have apostrophes, full stops and hyphens inside; an e-mail
    address is a word.

    Returns:
        The offsets of each, in characters.
    """
    return [match.span() for match in WORD_OR_MARK.finditer(text)]


def split_at_words(text: str) -> list[int]:
    """Find where the words of a text begin, if punctuation belongs to the word before it.

    Returns:
        The offset of each word, in characters. In scripts with spaces, words begin after spaces.
    """
    starts = []
    for run in regex.finditer(r"\S+", text):
        starts.append(run.start())
        if SPACELESS_LETTER.search(run.group()):
            inner = TERM.finditer(text, run.start(), run.end())
            starts += [match.start() for match in inner if match.start() > run.start()]
    return starts


def has_word_spaces(text: str) -> bool:
    """Check whether at least half of a text's words are of a script with spaces between words."""
    words = find_alphanumeric_words(text)
    spaceless = sum(SPACELESS_LETTER.match(word) is not None for word in words)
    return 2 * spaceless <= len(words)
