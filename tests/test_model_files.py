"""A model on disk is whole, says what it is, and stays usable whatever ends its replacement."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dim_monai.errors import CheckpointError
from dim_monai.model_files import read_classes, read_model, safetensors_of, save_model

NAMES = ("model.pt", "model.safetensors", "model.sha256")


def weights(value: float, size: int = 50) -> dict[str, Tensor]:
    """Floats, whole numbers, no axis, and a layout in memory that is not that of the axes."""
    image = torch.arange(2.0 * 3 * 4 * 5).view(2, 3, 4, 5) * value
    return {
        "a.weight": torch.full((size,), value),
        "a.image": image.to(memory_format=torch.channels_last),
        "a.count": torch.tensor(int(value)),
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_formats_hold_the_weights(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", weights(3))
    assert names(tmp_path) == sorted(NAMES)
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), weights(3))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert same({name: file.get_tensor(name) for name in file.keys()}, weights(3))  # noqa: SIM118  # no dict
    for name in NAMES[:2]:
        assert same(read_model(tmp_path / name), weights(3))


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    tied = torch.ones(4)
    save_model(tmp_path / "model.pt", {"a": tied, "b": tied, "c": tied[:2]})
    assert same(read_model(tmp_path / "model.safetensors"), {"a": tied, "b": tied, "c": tied[:2]})


def test_the_hashes_are_what_sha256sum_says(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", weights(1))
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("there is no sha256sum")
    command = [program, "--strict", "-c", "model.sha256"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model.pt: OK\nmodel.safetensors: OK\n"


@pytest.mark.parametrize("mark", [" ", "*"])
def test_a_name_may_hold_spaces(tmp_path: Path, mark: str) -> None:
    save_model(tmp_path / "my own  model.pt", weights(1))
    hashes = tmp_path / "my own  model.sha256"
    hashes.write_text(hashes.read_text().replace("  my", f" {mark}my"))
    assert same(read_model(tmp_path / "my own  model.pt"), weights(1))
    assert same(read_model(tmp_path / "my own  model.safetensors"), weights(1))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        save_model(folder / "model.pt", weights(2))
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_classes_are_kept_with_the_weights_and_change_nothing_else(tmp_path: Path) -> None:
    plain = tmp_path / "plain.pt"
    save_model(plain, weights(1))
    assert read_classes(safetensors_of(plain)) is None
    names = ("background", "peripheral zone", "Drüse")
    save_model(tmp_path / "model.pt", weights(1), names)
    for file in (tmp_path / "model.pt", tmp_path / "model.safetensors"):
        assert read_classes(safetensors_of(file)) == names
        assert same(read_model(file), weights(1))
    assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == weights(1).keys()


@pytest.mark.parametrize("told", ["prostate", "3", '{"prostate": 1}', '["prostate", 1]'])
def test_classes_of_another_program_are_refused_by_name(tmp_path: Path, told: str) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, file, {"classes": told})
    with pytest.raises(CheckpointError) as refused:
        read_classes(file)
    assert refused.value.file == str(file)
    assert told in str(refused.value)


@pytest.mark.parametrize("given", ["model.pt", "model.safetensors"])
def test_either_name_names_the_set(tmp_path: Path, given: str) -> None:
    save_model(tmp_path / given, weights(1))
    assert names(tmp_path) == sorted(NAMES)


def test_models_of_like_names_keep_apart(tmp_path: Path) -> None:
    given = ["a.pt", "a.pth", "a.1", "a.2"]
    for value, name in enumerate(given):
        save_model(tmp_path / name, weights(value))
    for value, name in enumerate(given):
        assert same(read_model(tmp_path / name), weights(value))


# --- what is refused


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, name: str, place: int) -> None:
    save_model(tmp_path / "model.pt", weights(1))
    content = bytearray((tmp_path / name).read_bytes())
    content[place] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="not the one that its hash was taken of") as caught:
        read_model(tmp_path / name)
    message = str(caught.value)
    assert caught.value.file == str(tmp_path / name)
    assert f"got sha256 {hashlib.sha256(content).hexdigest()}" in message
    content[place] ^= 1
    assert f"expected {hashlib.sha256(content).hexdigest()} in {tmp_path / NAMES[2]}" in message
    assert "remove model.sha256" in message


def test_a_model_of_another_training_under_this_name_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", weights(1))
    torch.save(weights(2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="if you have put another model there"):
        read_model(tmp_path / "model.pt")
    (tmp_path / "model.sha256").unlink()
    assert same(read_model(tmp_path / "model.pt"), weights(2))


@pytest.mark.parametrize("text", ["", "\x00\xff", "abc", f"{'0' * 64}  other.pt\n"])
def test_hashes_that_do_not_name_the_model_are_refused(tmp_path: Path, text: str) -> None:
    save_model(tmp_path / "model.pt", weights(1))
    (tmp_path / "model.sha256").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="expected a line of this file in"):
        read_model(tmp_path / "model.pt")


@pytest.mark.parametrize("mark", ["  ", " *"])  # as sha256sum writes text and binary files
def test_a_user_may_take_the_hash(tmp_path: Path, mark: str) -> None:
    torch.save(weights(1), tmp_path / "model.pt")
    digest = hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    (tmp_path / "model.sha256").write_text(f"{digest.upper()}{mark}model.pt\n")
    assert same(read_model(tmp_path / "model.pt"), weights(1))


@pytest.mark.parametrize("content", [b"", b"\x08" + bytes(7) + b"{}", b"x" * 100])
def test_safetensors_without_a_hash_that_are_none_cannot_be_read(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_model(tmp_path / "model.safetensors")


# --- what ends a replacement

CALLS = ("replace", "unlink", "fsync", "write", "close")


def in_a_child(work: Callable[[], None], prepare: Callable[[], None]) -> int:
    """Fork, prepare, work; return the exit code or minus the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            prepare()
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_before_call(number: int) -> None:
    """Let this process die before its call so-and-so that changes files."""
    made = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def require_usable(folder: Path, old: dict[str, Tensor], new: dict[str, Tensor]) -> str:
    """Check what must hold at any moment; return which weights the set is of."""
    present = read_model(folder / "model.pt")
    assert same(present, old) or same(present, new)
    if (folder / "model.safetensors").exists():
        assert same(read_model(folder / "model.safetensors"), present)
    if (folder / "model.sha256").exists():  # whole, or it would not be there
        text = (folder / "model.sha256").read_text()
        lines = dict(reversed(line.split()) for line in text.splitlines())
        for name in NAMES[:2]:
            assert lines[name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return "old" if same(present, old) else "new"


def test_a_replacement_killed_at_any_point_leaves_a_model_that_loads(tmp_path: Path) -> None:
    old, new = weights(1), weights(2)
    found, number = [], 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        save_model(folder / "model.pt", old)
        point = number
        code = in_a_child(
            lambda at=folder: save_model(at / "model.pt", new),  # type: ignore[misc]
            lambda at=point: kill_before_call(at),  # type: ignore[misc]
        )
        found.append(require_usable(folder, old, new))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        save_model(folder / "model.pt", new)  # as the run that goes on does
        assert require_usable(folder, old, new) == "new"
        assert {name for name in names(folder) if not name.endswith(".tmp")} == set(NAMES)
    # Three files take a name each, two lose one, and the old one goes over to the new one once.
    assert number > 12
    assert found == sorted(found, reverse=True)
    assert found[0] == "old"
    assert found[-1] == "new"


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_that_cannot_take_its_name_leaves_a_model_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException]
) -> None:
    old, new = weights(1), weights(2)
    save_model(tmp_path / "model.pt", old)
    replace, made = os.replace, []

    def fail(*args: Any) -> None:
        made.append(args)
        if len(made) == number:
            raise error
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(error):
            save_model(tmp_path / "model.pt", new)
    assert require_usable(tmp_path, old, new) == ("old" if number == 1 else "new")
    assert set(names(tmp_path)) <= set(NAMES)


def test_a_full_disk_leaves_the_whole_old_set(tmp_path: Path) -> None:
    """A limit of file size stands for the full disk: it fails in the same system call."""
    save_model(tmp_path / "model.pt", weights(1))
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    code = in_a_child(
        lambda: save_model(tmp_path / "model.pt", weights(2, size=100_000)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert code == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
