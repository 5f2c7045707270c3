"""A run that was interrupted goes on where it stood, and no other run goes on in its folder."""

from pathlib import Path

import pytest

from bench.load.answers import Answer
from bench.load.journal import Journal, OtherRun, Spoilt

SETTINGS = {"seed": 1, "rates": (1.0, 2.0), "quick": False}
ANSWERS = [Answer(0, "text", 0.0, 0.1, (0.2, 0.3), 0.4, None, 2), Answer(1, "1img", 0.0, 0.1, (), 0.4, None, 0, "gone")]


def test_what_is_finished_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    Journal(folder, SETTINGS).put("split, 2.5/s, round 1", ANSWERS)
    again = Journal(folder, SETTINGS)
    assert again.get("split, 2.5/s, round 1") == ANSWERS
    assert again.get("split, 2.5/s, round 2") is None


def test_names_of_points_are_any_and_never_meet(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETTINGS)
    names = ["a/b", "a_b", "a%2Fb", "../a", ".", "", "größer", "A", "a", "settings"]
    for number, name in enumerate(names):
        journal.put(name, ANSWERS[:1] * number)
    assert [len(journal.get(name) or []) for name in names] == list(range(len(names)))
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    Journal(tmp_path, {**SETTINGS, "gone": None})
    with pytest.raises(OtherRun) as refused:
        Journal(tmp_path, {**SETTINGS, "seed": 2, "new": 3})
    assert "gone (None there, not set now), new (not set there, 3 now), seed (1 there, 2 now)." in str(refused.value)
    assert "rates" not in str(refused.value)


def test_another_state_of_the_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIASM_COMMIT", "one")
    Journal(tmp_path, SETTINGS)
    monkeypatch.setenv("CHIASM_COMMIT", "two")
    with pytest.raises(OtherRun, match=r"commit \(one there, two now\)"):
        Journal(tmp_path, SETTINGS)


def test_who_only_reads_may_be_of_another_commit_and_is_told_which_had_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIASM_COMMIT", "one")
    assert Journal(tmp_path, SETTINGS).commit == "one"
    monkeypatch.setenv("CHIASM_COMMIT", "two")
    assert Journal(tmp_path, SETTINGS, to_read=True).commit == "one"
    with pytest.raises(OtherRun, match="seed"):
        Journal(tmp_path, {**SETTINGS, "seed": 2}, to_read=True)
    with pytest.raises(OtherRun, match="holds no run of this benchmark"):
        Journal(tmp_path / "empty", SETTINGS, to_read=True)


def test_what_turned_out_to_be_so_must_stay_so(tmp_path: Path) -> None:
    Journal(tmp_path, SETTINGS).note("chunks of split", (64,))
    again = Journal(tmp_path, SETTINGS)
    assert again.noted("chunks of split") == [64]
    again.note("chunks of split", [64])
    with pytest.raises(OtherRun, match=r"chunks of split was \[64\], and now it is \[96\]"):
        again.note("chunks of split", [96])
    assert again.noted("chunks of mono") is None


def test_a_run_has_a_word_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    first, other = Journal(tmp_path / "one", SETTINGS), Journal(tmp_path / "other", SETTINGS)
    assert first.nonce == first.nonce == Journal(tmp_path / "one", SETTINGS).nonce != other.nonce


def test_nobody_goes_on_with_what_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETTINGS)
    journal.put("a point", ANSWERS)
    with pytest.raises(Spoilt), journal.while_it_counts():
        raise Spoilt("It was slower than it should be. Measure it again.")
    for to_read in (False, True):
        with pytest.raises(OtherRun, match=r"does not count: It was slower .+ Name an empty"):
            Journal(tmp_path, SETTINGS, to_read=to_read)


def test_who_is_interrupted_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETTINGS)
    journal.put("a point", ANSWERS)
    with pytest.raises(KeyboardInterrupt), journal.while_it_counts():
        raise KeyboardInterrupt
    assert Journal(tmp_path, SETTINGS).get("a point") == ANSWERS


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(OtherRun, match="empty or new folder"):
        Journal(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETTINGS)
    journal.put("a", ANSWERS)
    (point,) = tmp_path.glob("a*")
    point.write_text('[{"number": 0}]')
    with pytest.raises(OtherRun, match=str(point)):
        journal.get("a")
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(OtherRun, match="cannot read"):
        Journal(tmp_path, SETTINGS)
