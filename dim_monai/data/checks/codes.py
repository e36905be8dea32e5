"""The codes of the checks: the one table of what can be wrong, and of what is only remarked.

A code never changes its meaning and is never given twice: scripts and notes refer to it. D is a
fault, for which nothing is trained; R is a remark, which a person should know and may be fine.
``docs/data-checks.md`` explains each of them.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    # the list of cases
    "D001": "data list cannot be used",
    "D002": "entry of the data list cannot be used",
    "D003": "listed file does not exist",
    "D004": "image listed twice",
    "D005": "two cases of one name",
    "D006": "patient on both sides of a split",
    "D007": "no labelled case",
    "D008": "label without image",
    "D009": "file differs from its hash",
    "D010": "file without a hash, though others have one",
    "D011": "equal images on both sides of a split",
    # images
    "D101": "image cannot be read",
    "D102": "DICOM series cannot be used",
    "D103": "image is constant",
    "D104": "spacing is implausible",
    # labels
    "D201": "label cannot be read",
    "D202": "label and image differ in shape",
    "D203": "label and image lie apart in patient space",
    "D204": "label value that cannot be used",
    "D205": "label is all background",
    "D206": "class outside of the class that encloses it",
    "D207": "class that no label shows",
    "D208": "validation labels are all background",
    # remarks
    "R001": "images are stored in several orientations",
    "R002": "labels that no case uses",
    "R003": "label touches the border of its image",
    "R004": "no data list: checked as for inference",
    "R005": "images in a format that is not read",
    "R006": "equal images under several names",
    "R007": "labels that hardly show a slice without the structure",
}
