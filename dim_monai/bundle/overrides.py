"""Settings that nothing reads: a mistyped override is an error, not a run with the defaults."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import (
    ComponentLocator,
    ConfigComponent,
    ConfigParser,
    ConfigWorkflow,
    ReferenceResolver,
)
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS, ID_SEP_KEY, MERGE_KEY
from monai.utils import ensure_tuple

from dim_monai.bundle.callers import frames, nearest_self, running_parser
from dim_monai.bundle.place import bundle_root
from dim_monai.errors import ConfigError
from dim_monai.shipped import METADATA

BASES = ("train", "inference")
"""Configs that others are merged into, by the names that MONAI gives them."""

Sections = Mapping[str, set[str]]
"""Id of each plain section of some configs ("" is the top) -> the names it may hold."""


def check_overrides(ignore: Iterable[str] = ()) -> None:
    """Refuse settings that have no effect; to be called in a config's ``initialize``.

    MONAI adds any override it does not know to the config, where nothing reads it. A setting is
    known if one of the bundle's config files in this run names it in the same section, or if the
    running config refers to it (``@name``); a user's own overlay is checked like the command line.
    Arguments of a ``_target_`` are held against the signature of the target, unless that takes any
    keyword. The names inside a value that a file gives as a reference, a macro or an expression are
    not fixed, so any may stand there. What ``--tracking`` adds, the ids to run and ``_meta_`` are
    known.

    The files of a run are known where MONAI's ``run`` or ``create_workflow`` starts it. A
    ``ConfigWorkflow`` or ``ConfigParser`` made directly does not keep them: there all config files
    of the bundle count, so a setting that only another config reads passes.

    A nested override below a section that does not exist (``--train#traner#max_epochs``) never
    comes this far: MONAI stops at it with a KeyError that names the closest section.

    Of several config files a later one wins. One of the `BASES` that does not come first would undo
    the overlays before it without a word, so it is refused.

    Args:
        ignore: top-level settings that another program adds and reads for itself.

    Raises:
        ConfigError: some settings are unknown (each is named, with the closest known one), config
            files are in the wrong order, or no config is being evaluated.
    """
    parser = running_parser()
    config = {k: v for k, v in parser.get().items() if k != ConfigParser.meta_key}
    configs = Path(_own_folder(parser), METADATA.parent).resolve()
    elsewhere = _sections(_config_files(configs))
    files = _files_of_this_run()
    own = [file for file in files if configs in file.resolve().parents]
    _check_order(files, own)
    sections = _sections(own) if own else elsewhere
    sections[""] |= {*ignore, *_set_by_monai()}
    refs = set(_references(config))
    problems = [
        *_unknown_names(config, "", sections, elsewhere, refs),
        *_unknown_arguments(config, "", parser.locator),
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def _check_order(files: Sequence[Path], own: Sequence[Path]) -> None:
    late = [file for file in files[1:] if file in own and file.stem in BASES]
    if late:
        raise ConfigError(
            "config files in the wrong order",
            got=", ".join(file.name for file in files),
            expected=f"{late[0].name} first",
            do="a later file wins: put those that say what differs after it",
        )


def _own_folder(parser: ConfigParser) -> str:
    """Return the bundle that says which settings exist.

    It is the one around the config file. A copy of a config that stands outside any bundle says
    with ``bundle_root`` which bundle it belongs to.
    """
    try:
        return bundle_root()
    except ConfigError:
        stated = parser.get("bundle_root")
        if isinstance(stated, str) and Path(stated, METADATA).is_file():
            return stated
        raise


def _set_by_monai() -> set[str]:
    """Return the names MONAI itself adds or runs: the tracking settings and the ids to run."""
    settings: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS
    tracking = settings["configs"].keys() - settings["handlers_id"].keys()
    workflow = nearest_self(ConfigWorkflow)
    if workflow is None:
        return set(tracking)
    return {*tracking, workflow.init_id, workflow.run_id, workflow.final_id}


def _files_of_this_run() -> list[Path]:
    """Return the config files of the running workflow, none where no caller knows them."""
    workflow = nearest_self(ConfigWorkflow)
    for frame in frames():
        if workflow is not None and frame.f_locals.get("workflow_") is workflow:
            return [Path(file) for file in ensure_tuple(frame.f_locals["config_file"])]
    return []


def _config_files(folder: Path) -> list[Path]:
    """Return all config files under ``folder``."""
    suffixes = {f".{suffix}" for suffix in ConfigParser.suffixes}
    files = sorted(f for f in folder.rglob("*") if f.suffix in suffixes)
    return [file for file in files if file.name != METADATA.name]


def _sections(files: Iterable[Path]) -> dict[str, set[str]]:
    """Collect the plain sections of all ``files``."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    opaque: set[str] = set()
    for file in files:
        content = ConfigParser.load_config_file(file)
        if isinstance(content, dict):
            _collect("", content, names, opaque)
    plain = {i: known for i, known in names.items() if not any(_within(i, o) for o in opaque)}
    return {"": set(), **plain}


def _collect(id_: str, section: Mapping[Any, Any], names: Any, opaque: set[str]) -> None:
    """Add the names in ``section`` and below; mark ids that are not plain sections as opaque."""
    for key, value in section.items():
        child = id_
        for name in ReferenceResolver.split_id(str(key).removeprefix(MERGE_KEY)):
            names[child].add(name)
            child = _join(child, name)
        if ConfigComponent.is_instantiable(value) or isinstance(value, str):
            opaque.add(child)  # a component's arguments, or whatever a macro will put here
        elif isinstance(value, dict):
            _collect(child, value, names, opaque)


def _references(config: Any) -> Iterator[str]:
    """Yield the ids that any string in ``config`` refers to."""
    if isinstance(config, str):
        yield from ReferenceResolver.match_refs_pattern(config)
    elif isinstance(config, (dict, list)):
        for _, _, value in ReferenceResolver.iter_subconfigs("", config):
            yield from _references(value)


def _unknown_names(
    section: Mapping[Any, Any], id_: str, sections: Sections, elsewhere: Sections, refs: set[str]
) -> Iterator[str]:
    """Yield a complaint for each name in a plain section that is neither known nor referred to."""
    known = sections.get(id_)
    for key, value in section.items():
        child = _join(id_, str(key))
        if known is not None and str(key) not in known:
            if not any(_within(ref, child) or _within(child, ref) for ref in refs):
                yield _complaint(id_, str(key), known, elsewhere.get(id_, ()))
        elif isinstance(value, dict) and not ConfigComponent.is_instantiable(value):
            yield from _unknown_names(value, child, sections, elsewhere, refs)


def _unknown_arguments(config: Any, id_: str, locator: ComponentLocator) -> Iterator[str]:
    """Yield a complaint for each argument that the target of a component does not take."""
    if not isinstance(config, (dict, list)):
        return
    if isinstance(config, dict) and ConfigComponent.is_instantiable(config):
        accepted = _keywords(_target(config, locator))
        given = {str(k) for k in config} - ConfigComponent.non_arg_keys
        if accepted is not None:
            yield from (_complaint(id_, name, accepted) for name in sorted(given - accepted))
    for _, child, value in ReferenceResolver.iter_subconfigs(id_, config):
        yield from _unknown_arguments(value, child, locator)


def _target(component: Mapping[str, Any], locator: ComponentLocator) -> object:
    """Return the class or function that MONAI will find; None where only the run can tell."""
    target = component["_target_"]
    if not isinstance(target, str) or target.startswith(("$", "@")):
        return None
    return locate(ConfigComponent(component, locator=locator).resolve_module_name())


def _keywords(target: object) -> set[str] | None:
    """Return the keywords ``target`` takes, or None where it takes any or does not say."""
    if not callable(target):
        return None
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # written in C, without a signature
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _complaint(section: str, name: str, known: set[str], elsewhere: Collection[str] = ()) -> str:
    complaint = f"unknown setting '{_join(section, name)}'"
    if name in elsewhere:
        return f"{complaint}: nothing in this run reads it, only other configs of the bundle"
    close = get_close_matches(name, sorted(known), n=1) or get_close_matches(
        name, sorted(elsewhere), n=1
    )
    if close:
        return f"{complaint}; did you mean '{_join(section, close[0])}'?"
    return f"{complaint}; known in {section or 'this run'}: {', '.join(sorted(known))}"


def _join(section: str, name: str) -> str:
    return f"{section}{ID_SEP_KEY}{name}" if section else name


def _within(id_: str, section: str) -> bool:
    return id_ == section or id_.startswith(section + ID_SEP_KEY)
