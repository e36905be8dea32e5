"""The domains of the public collections, and under which other names they are known."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dim_monai.errors import DataError


@dataclass(frozen=True)
class Domain:
    """One site, camera or vendor of a public collection.

    Attributes:
        name: what this package calls it.
        group: the collection: "prostate", "fundus", "mnms" or "busi".
        aliases: what papers and folders call it as well.
    """

    name: str
    group: str
    aliases: tuple[str, ...] = ()


DOMAINS = (
    Domain("BIDMC", "prostate"),
    Domain("BMC", "prostate"),
    Domain("HK", "prostate"),
    Domain("I2CVB", "prostate", ("HCRUDB",)),
    Domain("RUNMC", "prostate"),
    Domain("UCL", "prostate"),
    Domain("Drishti-GS", "fundus", ("Domain1",)),
    Domain("RIM-ONE-r3", "fundus", ("Domain2",)),
    Domain("REFUGE-train", "fundus", ("Domain3",)),
    Domain("REFUGE-val", "fundus", ("Domain4",)),
    Domain("vendorA", "mnms", ("A",)),
    Domain("vendorB", "mnms", ("B",)),
    Domain("vendorC", "mnms", ("C",)),
    Domain("vendorD", "mnms", ("D",)),
    Domain("benign", "busi"),
    Domain("malignant", "busi"),
)


def belongs(name: str, group: str) -> bool:
    """Whether ``name`` is a name or an alias of a domain of the group."""
    return _known(name, group) is not None


def canonical(name: str, group: str, *, file: Path) -> str:
    """Return what this package calls a domain of a public collection.

    Args:
        name: a name or alias; case of letters, spaces and punctuation do not matter.
        group: the collection.
        file: where the name was met, for the message.

    Raises:
        DataError: the collection has no such domain.
    """
    found = _known(name, group)
    if found is None:
        raise _unknown(name, [d.name for d in DOMAINS if d.group == group], file)
    return found.name


def among(asked: str, present: Collection[str], *, file: Path) -> str:
    """Return the domain of a data set that a user means.

    Args:
        asked: its name, or any other name of the same domain in `DOMAINS`.
        present: the domains of the data set.
        file: the data set, for the message.

    Raises:
        DataError: the data set has no such domain; names the closest.
    """
    same = {_plain(asked)}
    for domain in DOMAINS:
        names = {_plain(name) for name in (domain.name, *domain.aliases)}
        same |= names if _plain(asked) in names else set()
    found = [name for name in sorted(present) if name == asked or _plain(name) in same]
    if asked in found:
        return asked
    if len(found) != 1:
        raise _unknown(asked, sorted(present), file)
    return found[0]


def _known(name: str, group: str) -> Domain | None:
    for domain in DOMAINS:
        if domain.group == group and _plain(name) in map(_plain, (domain.name, *domain.aliases)):
            return domain
    return None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _unknown(name: str, known: list[str], file: Path) -> DataError:
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    return DataError(
        "unknown domain",
        file=file,
        got=repr(name),
        expected=f"one of {', '.join(known)}",
        do=f"did you mean {folded[close[0]]!r}?" if close else None,
    )
