"""Text from outside, on its way to a terminal, a log or a page."""


def plain(text: str) -> str:
    """The text on one line, what does not print escaped: colours, bells, turned writing, the bytes of broken names.

    Blanks of other kinds become spaces.
    """
    return text if text.isprintable() else "".join(map(_letter, text))


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if not letter.isascii() and letter.isspace() else letter.encode("unicode_escape").decode("ascii")
