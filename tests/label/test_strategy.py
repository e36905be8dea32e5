"""The case to label next is the one with the highest score; scores follow each training once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="needs the environment of make test-label")

from dim_monai.label import strategy
from dim_monai.label.strategy import Disagreement, DisagreementScoring


class Store:
    """As much of a datastore as is asked for: what is known of each case without a label."""

    def __init__(self, **info: dict[str, Any]) -> None:
        self.info = info

    def get_unlabeled_images(self) -> list[str]:
        return list(self.info)

    def get_image_info(self, image: str) -> dict[str, Any]:
        return self.info[image]

    def get_image_uri(self, image: str) -> str:
        return f"/studies/{image}"

    def update_image_info(self, image: str, info: dict[str, Any]) -> None:
        self.info[image].update(info)


class Pair:
    """Student and teacher that disagree by the length of a name."""

    def __init__(self, bundle: Path, device: str) -> None:
        self.seen: list[str] = []

    def disagree_on(self, image: str) -> float:
        return len(image) / 100


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "teacher.pt").touch()
    monkeypatch.setattr(strategy, "StudentAndTeacher", Pair)
    return tmp_path


def test_the_highest_score_is_served() -> None:
    store = Store(a={"score": 0.1}, b={"score": 0.7}, c={"score": 0.3}, d={})
    assert Disagreement("score")({}, store) == {"id": "b", "score": 0.7}


def test_without_a_score_it_is_the_first_by_name(caplog: pytest.LogCaptureFixture) -> None:
    assert Disagreement("score")({}, Store(b={}, a={"other": 1})) == {"id": "a", "score": None}
    assert "no case has a score" in caplog.text


def test_with_every_case_labelled_there_is_none() -> None:
    assert Disagreement("score")({}, Store()) is None


def test_before_a_training_nothing_is_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(a={}, b={})
    done = DisagreementScoring("score", tmp_path)({"device": "cpu"}, store)
    assert done == {"total": 2, "skipped": 2, "executed": 0}
    assert store.info == {"a": {}, "b": {}}
    assert "before the first training" in caplog.text


def test_each_case_is_scored_once_a_training(trained: Path) -> None:
    store = Store(a={}, bbb={})
    score = DisagreementScoring("score", trained)
    assert score({"device": "cpu"}, store) == {"total": 2, "skipped": 0, "executed": 2}
    assert store.info["bbb"]["score"] > store.info["a"]["score"] > 0
    assert Disagreement("score")({}, store)["id"] == "bbb"  # type: ignore[index]
    assert score({"device": "cpu"}, store) == {"total": 2, "skipped": 2, "executed": 0}
    store.info["c"] = {}
    assert score({"device": "cpu"}, store) == {"total": 3, "skipped": 2, "executed": 1}
    os.utime(trained / "eval" / "teacher.pt", (1, 1))
    assert score({"device": "cpu"}, store) == {"total": 3, "skipped": 0, "executed": 3}


def test_an_image_that_cannot_be_read_does_not_stop_the_others(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged(Pair):
        def disagree_on(self, image: str) -> float:
            if image.endswith("/a"):
                raise RuntimeError("applying transform")  # as MONAI wraps it
            return super().disagree_on(image)

    monkeypatch.setattr(strategy, "StudentAndTeacher", Damaged)
    store = Store(a={}, bbb={})
    done = DisagreementScoring("score", trained)({"device": "cpu"}, store)
    assert done == {"total": 2, "skipped": 1, "executed": 1}
    assert store.info["a"] == {}
    assert store.info["bbb"]["score"] > 0
    assert "a is not scored" in caplog.text
