"""Draws: complete, disjoint by patient, functions of names and seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dim_monai.data.prepare.domains import DOMAINS, among, belongs, canonical
from dim_monai.data.prepare.duplicates import link_duplicates, pixel_hash
from dim_monai.data.prepare.found import FoundCase
from dim_monai.data.prepare.lists import Lists, Wish, choose
from dim_monai.data.prepare.split import draw, rank
from dim_monai.errors import ConfigError, DataError

ROOT = Path("/data")
FOUR = ("labeled", "unlabeled", "validation", "test")


def found(domain: str, n: int, patient: int | None = None, labelled=True, part=None) -> FoundCase:
    image = ROOT / domain / f"{part}{n:03d}.nii"
    who = f"{domain}/{n}" if patient is None else f"p{patient}"
    label = ROOT / f"{n}_seg.nii" if labelled else None
    name = f"{part or 'c'}{n:03d}"
    return FoundCase(image, domain, name, lambda: np.zeros(1), label, who, part)


one = st.builds(
    found,
    st.sampled_from("abc"),
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
)
data_sets = st.lists(one, min_size=1, max_size=40, unique_by=lambda case: case.name)
wishes = st.builds(
    Wish,
    labeled_domain=st.sampled_from([None, "a"]),
    labeled=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 1000),
    validation_fraction=st.sampled_from([0, 0.2, 0.5, 0.9]),
    test_fraction=st.sampled_from([0, 0.2, 0.5]),
)


def chosen(cases, wish: Wish) -> Lists | None:
    try:
        return choose(cases, wish, source=ROOT)
    except DataError:
        return None


def names(lists: Lists) -> dict[str, list[str]]:
    return {name: [case.name for case in getattr(lists, name)] for name in FOUR}


@settings(max_examples=150)
@given(data_sets, wishes)
def test_no_patient_is_on_two_sides_and_every_case_is_told_of(cases, wish) -> None:
    lists = chosen(cases, wish)
    if lists is None:
        return
    listed = names(lists)
    everything = sorted(name for members in listed.values() for name in members)
    assert len(everything) == len(set(everything))
    left_out = sorted({case.name for case in cases} - set(everything))
    sides = [
        {case.patient for case in members}
        for members in ((*lists.labeled, *lists.unlabeled), lists.validation, lists.test)
    ]
    assert not sides[0] & (sides[1] | sides[2])
    assert not sides[1] & sides[2]
    held_out = sides[1] | sides[2]
    assert all(case.patient in held_out for case in cases if case.name in left_out)
    assert any(note.startswith("left out:") for note in lists.notes) == bool(left_out)
    assert all(case.label for case in (*lists.labeled, *lists.validation, *lists.test))
    if wish.labeled is not None:
        assert len(lists.labeled) == wish.labeled
    if wish.labeled_domain:
        assert {case.domain for case in (*lists.labeled, *lists.validation)} == {"a"}
    nothing = any(note.startswith("nothing was selected") for note in lists.notes)
    assert nothing == (not lists.validation)


@settings(max_examples=60)
@given(data_sets, wishes, st.randoms())
def test_the_order_of_files_has_no_effect(cases, wish, shuffler) -> None:
    shuffled = list(cases)
    shuffler.shuffle(shuffled)
    assert chosen(cases, wish) == chosen(shuffled, wish)


@settings(max_examples=60)
@given(data_sets, wishes, st.integers(1, 20))
def test_another_domain_does_not_change_the_draw_in_this_one(cases, wish, more) -> None:
    wish = replace(wish, labeled_domain="a")
    before = chosen(cases, wish)
    after = chosen([*cases, *(found("z", n) for n in range(more))], wish)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        for name in FOUR:
            own = [case for case in names(after)[name] if not case.startswith("z/")]
            assert own == names(before)[name]


@settings(max_examples=60)
@given(data_sets, st.integers(0, 99), st.integers(1, 5))
def test_more_labels_keep_those_that_were_drawn(cases, seed, count) -> None:
    few = chosen(cases, Wish(labeled=count, seed=seed))
    more = chosen(cases, Wish(labeled=count + 1, seed=seed))
    if few is not None and more is not None:
        assert set(names(few)["labeled"]) < set(names(more)["labeled"])
        assert names(few)["validation"] == names(more)["validation"]


def test_labels_are_drawn_patient_after_patient() -> None:
    slices = [found("a", 10 * p + n, patient=p) for p in range(8) for n in range(5)]
    for seed in range(20):
        labeled = choose(slices, Wish(labeled=12, seed=seed), source=ROOT).labeled
        counts = sorted(
            sum(case.patient == who for case in labeled) for who in {c.patient for c in labeled}
        )
        assert counts == [2, 5, 5]


def test_every_patient_can_be_labelled_validate_and_test() -> None:
    cases = [found("a", n) for n in range(6)]
    drawn = [
        choose(cases, Wish(labeled=1, seed=s, test_fraction=0.2), source=ROOT) for s in range(99)
    ]
    for name in ("labeled", "validation", "test"):
        assert {c.name for lists in drawn for c in getattr(lists, name)} == {c.name for c in cases}


def test_a_test_folder_is_kept_and_its_patients_do_not_train() -> None:
    train = [found("a", n, patient=n // 2, part="train") for n in range(12)]
    test = [found("a", n, patient=n, part="test") for n in (0, 7, 8)]
    lists = choose([*train, *test], Wish(), source=ROOT)
    assert names(lists)["test"] == [case.name for case in test]
    trained = {case.patient for case in (*lists.labeled, *lists.unlabeled, *lists.validation)}
    assert trained == {f"p{n}" for n in range(1, 6)}
    assert any(note.startswith("left out: 2 images") for note in lists.notes)


def test_the_reference_protocol_leaves_patients_where_they_are() -> None:
    train = [found("a", n, patient=n, part="train") for n in range(5)]
    test = [found("a", n, patient=n, part="test") for n in (0, 9)]
    wish = Wish(labeled_domain="a", labeled=2, paper_protocol=True)
    lists = choose([*reversed(train), *test], wish, source=ROOT)
    assert names(lists)["labeled"] == ["a/train000", "a/train001"]
    assert len(lists.unlabeled) == 3
    assert lists.validation == ()
    sides = [{c.patient for c in side} for side in ((*lists.labeled, *lists.unlabeled), lists.test)]
    assert not sides[0] & sides[1]  # else no workflow would read the list
    assert lists.notes[0].startswith("selected on test data")
    assert lists.notes[1].startswith("1 training images show patients")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction is out of range; got 1.0"),
        ({"test_fraction": -0.1}, "test_fraction is out of range"),
        ({"validation_fraction": float("nan")}, "validation_fraction is out of range"),
        ({"labeled": 0}, "labeled is out of range; got 0"),
        ({"paper_protocol": True, "labeled": 3}, "needs to know what is labelled"),
    ],
)
def test_a_wish_that_nothing_can_fulfil_is_refused(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Wish(**values)


def test_what_the_data_cannot_fulfil_is_refused() -> None:
    cases = [found("a", n) for n in range(4)] + [found("b", 0, labelled=False)]
    with pytest.raises(
        DataError, match=r"not enough labelled cases: /data; got 3 .* in a; expected 4"
    ):
        choose(cases, Wish(labeled_domain="a", labeled=4), source=ROOT)
    with pytest.raises(DataError, match=r"no labelled case: /data; got 0 to train on in b"):
        choose(cases, Wish(labeled_domain="b"), source=ROOT)
    with pytest.raises(DataError, match=r"unknown domain: /data; got 'c'; expected one of a, b"):
        choose(cases, Wish(labeled_domain="c"), source=ROOT)
    tested = [*cases, found("a", 9, labelled=False, part="test")]
    with pytest.raises(DataError, match=r"test case without a label: .*test009\.nii"):
        choose(tested, Wish(), source=ROOT)
    with pytest.raises(ConfigError, match=r"test_fraction for a data set with a test folder"):
        choose(tested, Wish(test_fraction=0.1), source=ROOT)


def test_a_domain_too_small_for_a_test_is_named() -> None:
    cases = [found("a", n) for n in range(5)] + [found("b", n) for n in range(2)]
    lists = choose(cases, Wish(test_fraction=0.2), source=ROOT)
    assert {case.domain for case in lists.test} == {"a"}
    assert "no test case of b: 2 labelled patients are too few" in lists.notes


@given(st.sets(st.text(max_size=5), max_size=30), st.floats(0, 0.999), st.integers(0, 99))
def test_a_draw_is_a_part_of_stated_size_and_the_first_of_the_rank(people, fraction, seed) -> None:
    drawn = draw(people, fraction, seed)
    n = len(people)
    empty = n < 3 or fraction == 0
    assert len(drawn) == (0 if empty else min(max(1, round(fraction * n)), n - 1))
    assert drawn == set(rank(people, seed)[: len(drawn)])


def test_rank_is_the_order_of_sha256() -> None:
    # By sha256sum: "7/a" is 681ebd31..., "7/b" is 38107e8b..., "7/c" is 166e9c25...
    assert rank("abc", seed=7) == ["c", "b", "a"]


def test_aliases_name_one_domain() -> None:
    for domain in DOMAINS:
        for name in (domain.name, *domain.aliases):
            assert canonical(name.upper(), domain.group, file=ROOT) == domain.name
            assert among(name, {domain.name, "other"}, file=ROOT) == domain.name
    assert among("i2cvb", {"HCRUDB", "HK"}, file=ROOT) == "HCRUDB"
    assert among("domain 1", {"Drishti-GS"}, file=ROOT) == "Drishti-GS"
    assert not belongs("HK", "fundus")


def test_the_closest_domain_is_named() -> None:
    with pytest.raises(DataError, match=r"did you mean 'RUNMC'?"):
        canonical("RUMC", "prostate", file=ROOT)
    with pytest.raises(DataError, match=r"did you mean 'rumc_320'?"):
        among("rumc320x", {"rumc_320", "other"}, file=ROOT)


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 8))), max_size=20))
def test_linked_patients_are_the_components_of_shared_images(people) -> None:
    cases = [replace(found("a", n, patient=p), case=f"{n}") for n, (p, _) in enumerate(people)]
    hashes = [None if h is None else str(h) for _, h in people]
    linked, notes = link_duplicates(cases, hashes)
    # Oracle: the reachability matrix of "same patient or same image".
    n = len(cases)
    near = np.eye(n, dtype=bool)
    for i in range(n):
        for j in range(n):
            near[i, j] |= people[i][0] == people[j][0]
            near[i, j] |= hashes[i] is not None and hashes[i] == hashes[j]
    reach = near
    for _ in range(n):
        reach = reach @ near
    same = np.array([[a.patient == b.patient for b in linked] for a in linked]).reshape(n, n)
    np.testing.assert_array_equal(same, reach)
    known = [h for h in hashes if h is not None]
    assert bool(notes) == (len(set(known)) < len(known))


def test_a_pixel_hash_is_of_shape_and_values() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image.astype(np.float64)))
    assert pixel_hash(image) != pixel_hash(image.reshape(4, 3))
    assert pixel_hash(image) != pixel_hash(image[:, ::-1])
    assert pixel_hash(np.array([0.0, 1.0])) == pixel_hash(np.array([-0.0, 1.0]))
    assert pixel_hash(np.full((3, 3), 7)) is None
