"""The codes of the static check: the one table of what can be wrong with a bundle.

A code never changes its meaning and is never given twice: scripts and notes refer to it.
``docs/lint.md`` explains each of them.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    # reading a config
    "L001": "file cannot be read as YAML or JSON",
    "L002": "file is larger than a config can be",
    "L003": "YAML alias or merge key",
    "L004": "YAML tag",
    "L005": "key given twice",
    "L006": "key that cannot be part of an id",
    # components
    "L010": "target that a config may not name",
    "L011": "special key that a config may not use",
    "L012": "argument that lets data run code",
    # expressions
    "L020": "expression cannot be parsed",
    "L021": "expression of a kind that is not allowed",
    "L022": "name that an expression may not use",
    "L023": "attribute that an expression may not reach",
    "L024": "import that is not allowed",
    "L025": "expression without bounds",
    # ids
    "L030": "reference to an id that does not exist",
    "L031": "macro that cannot be resolved",
    "L032": "references in a circle",
    "L033": "key of an overlay that meets nothing",
    "L034": "reference to the imported modules",
    # paths
    "L040": "absolute path",
    "L041": "personal path",
    "L042": "path that leaves the bundle",
    # logging.conf
    "L050": "logging config cannot be read",
    "L051": "logging config that runs code",
    # metadata and large files
    "L060": "metadata cannot be read",
    "L061": "metadata without a required entry",
    "L062": "metadata that would be evaluated",
    "L063": "large file that cannot be verified",
    # files
    "L070": "executable file",
    "L071": "pickle file",
    "L072": "link that leaves the bundle, or no plain file",
    "L073": "archive",
    "L074": "archive that writes outside of its folder",
    "L075": "more files than can be checked",
    # weights
    "L080": "weights in a format that cannot be checked",
    "L081": "weights that run code when they are read",
    "L082": "weights archive that is malformed",
}
