"""Which label classes and which kind a check is told, in a line or by a bundle."""

from __future__ import annotations

import re
from pathlib import Path

from monai.bundle import ConfigParser

from dim_monai.data.labels import LabelMapping
from dim_monai.errors import ConfigError

TRAIN_CONFIG = Path("configs", "train.yaml")


def parse_classes(rules: str) -> LabelMapping:
    """Return the label mapping of a line such as ``background=0,rim=1,cup=2+3``.

    Args:
        rules: class names with their values, separated by commas, the background first. Several
            values of one class are joined by plus signs; ``>0`` is every integer above 0.

    Raises:
        ConfigError: the line is not of that form, or its rules contradict each other.
    """
    classes: dict[str, list[int] | str] = {}
    for part in rules.split(","):
        name, equals, values = (word.strip() for word in part.partition("="))
        if not name or not equals or not re.fullmatch(r"> *-?\d+|-?\d+(\+-?\d+)*", values):
            raise ConfigError(
                "label classes cannot be read",
                got=repr(part),
                expected="name=value, name=value+value or name=>value, separated by commas",
            )
        if name in classes:
            raise ConfigError("class named twice", got=name)
        classes[name] = values if values[0] == ">" else [int(v) for v in values.split("+")]
    return LabelMapping(classes)


def classes_of_bundle(bundle: Path) -> tuple[LabelMapping, str]:
    """Return the label mapping and the kind of case that a bundle trains on; run nothing of it.

    Read are ``label_classes`` and ``case_kind`` (default "volume") of its ``configs/train.yaml``.

    Args:
        bundle: its folder.

    Raises:
        ConfigError: there is no such file, it cannot be parsed, or it has no label classes.
    """
    file = bundle / TRAIN_CONFIG
    if not file.is_file():
        raise ConfigError(
            "not a bundle", file=bundle, expected=f"a folder with {TRAIN_CONFIG.as_posix()}"
        )
    parser = ConfigParser()
    try:
        parser.read_config(str(file))
    except Exception as error:  # the YAML library has many, and MONAI adds its own
        raise ConfigError("config cannot be read", file=file, got=error) from error
    classes = parser.get("label_classes")
    if not isinstance(classes, dict):
        raise ConfigError(
            "bundle without label classes",
            file=file,
            got=repr(classes),
            expected="label_classes with one line a class",
            do="give them by --classes",
        )
    return LabelMapping(classes), str(parser.get("case_kind", "volume"))
