"""References and macros in a string, read exactly as MONAI's config parser reads them.

MONAI replaces text before it evaluates it: ``#`` becomes ``::``, relative ids become absolute ones,
and in an expression ``@id`` becomes a look-up. What the check of expressions parses must be that
final text, character for character; an expression that only becomes harmful by the replacement
would pass otherwise.
"""

from __future__ import annotations

import re

SEPARATOR = "::"
LOOK_UP = "__local_refs"
"""The name by which an evaluated expression finds what it refers to."""

MAX_RELATIVE = 10_000
"""Characters of a text with relative ids; each of them is replaced by the id of its section."""

IMPORTS = "imports"
"""The one section in which modules may be imported."""

_REFERENCE = re.compile(rf"@\w*(?:{SEPARATOR}\w*)*")
_RELATIVE = re.compile(rf"[@%]{SEPARATOR}+")
_FILE = re.compile(rf"^.*\.(?:json|yaml|yml)(?={SEPARATOR}|$)", re.IGNORECASE | re.MULTILINE)


def is_expression(text: str) -> bool:
    """Tell whether MONAI would evaluate this value."""
    return text.startswith("$")


def is_macro(text: str) -> bool:
    """Tell whether MONAI would replace this value by another part of a config."""
    return text.startswith("%")


def normalized(text: str) -> str:
    """Return an id or a value with the old separator ``#`` replaced."""
    return text.replace("#", SEPARATOR)


def absolute(text: str, id_: str) -> str:
    """Return a value with relative ids replaced, as it stands at ``id_``.

    Raises:
        ValueError: a relative id goes above the top of the config, or stands in a text that could
            grow without bounds.
    """
    text = normalized(text)
    if len(text) > MAX_RELATIVE and _RELATIVE.search(text):
        raise ValueError(f"relative id in a text of more than {MAX_RELATIVE} characters")
    here = id_.split(SEPARATOR)
    for prefix in sorted(set(_RELATIVE.findall(text)), reverse=True):
        up = prefix[1:].count(SEPARATOR)
        if up > len(here):
            raise ValueError(f"relative id above the top of the config: {prefix}")
        base = "" if up == len(here) else SEPARATOR.join(here[:-up]) + SEPARATOR
        text = text.replace(prefix, prefix[0] + base)
    return text


def references(text: str) -> list[str]:
    """Return the ids that an absolute value refers to: any in an expression, else all of it."""
    found = dict.fromkeys(_REFERENCE.findall(text))
    return [item[1:] for item in found if is_expression(text) or item == text]


def evaluated(text: str) -> str:
    """Return the Python that MONAI evaluates for an absolute expression."""
    for item in sorted(_REFERENCE.findall(text), key=len, reverse=True):
        text = text.replace(item, f"{LOOK_UP}['{item[1:]}']")
    return text[1:]


def macro_file(text: str) -> str:
    """Return the file that a macro reads, or "" where it copies from its own config."""
    found = _FILE.search(normalized(text)[1:])
    return "" if found is None else found.group()


def reaches_modules(id_: str) -> bool:
    """Tell whether an id is the section of imports, lies in it, or is the whole config."""
    return id_.split(SEPARATOR)[0] in ("", IMPORTS)
