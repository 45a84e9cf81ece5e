"""A verdict's page says what was decided and why, shows both models side by side, and loads nothing."""

import io
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from flywheel.evaluation.evidence import Comparison, PairedCounts, SliceCounts
from flywheel.evaluation.pairing import pair, paired_counts
from flywheel.evaluation.record import Predictions
from flywheel.evaluation.spending import Outcome, Use
from flywheel.paths import Paths
from flywheel.policies import GatePolicy
from flywheel.records import ClassResult, Interval, Verdict
from flywheel.report.charts import CorruptedAccuracy
from flywheel.report.verdict import VerdictContents, render_verdict, verdict_link, write_verdict
from tests.flywheel.evaluation.evidence_samples import NAN, challenger, evaluation, first_model, verdict_on
from tests.flywheel.report.reader import Reader

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert('cat')</script>\"><img src=x onerror=alert(1)>"


def picture_of(image_id: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), int(image_id, 16) % 256, np.uint8)).save(file, "PNG")
    return file.getvalue()


def answers(right: list[bool], sure: float | list[float] = 2.0) -> Predictions:
    """On images of ant and bee in turn; `sure` is the logit of each answer."""
    labels = np.arange(len(right)) % 2
    logits = np.zeros((len(right), 2), np.float32)
    logits[np.arange(len(right)), np.where(right, labels, 1 - labels)] = sure
    ids = np.array([f"{place:04x}" for place in range(len(right))], np.str_)
    return Predictions(ids, labels.astype(np.int64), logits)


def contents_of(evidence, *, policy=None, **more) -> VerdictContents:
    policy = policy or {}
    return VerdictContents(verdict_on(evidence, **policy), evidence, GatePolicy(**policy), **more)


def a_pair(won=30, lost=20, both=40, neither=10, labels=("ant", "bee"), **more) -> VerdictContents:
    mine = answers([True] * won + [False] * lost + [True] * both + [False] * neither)
    theirs = answers([False] * won + [True] * lost + [True] * both + [False] * neither)
    against = Comparison("model-old", "eval-old", paired_counts(pair(mine, theirs)))
    classes = tuple(ClassResult(label, 50, Interval(0.7, 0.6, 0.8), 0.8) for label in labels)
    evidence = challenger(
        champion=against,
        anchor=against,
        challenger=evaluation(70, 100, classes=classes),
        slices=(SliceCounts(f"class {labels[0]}", PairedCounts(20, 15, 10, 5)),),
    )
    return contents_of(evidence, **{"challenger": mine, "champion": theirs, **more})


def page_of(contents: VerdictContents, original=picture_of, **more) -> Reader:
    return Reader(render_verdict(contents, original, at=NOON, **more))


def test_the_page_loads_nothing_and_runs_nothing():
    curves = {"blur": [0.8, 0.6, 0.4]}
    page = page_of(a_pair(corrupted=CorruptedAccuracy(100, curves, curves)))
    assert page.open == []
    assert len(page.loaded) == 24
    assert all(re.match(r"data:image/(png|jpeg);base64,", target) for target in page.loaded)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    whole = render_verdict(a_pair(), picture_of, at=NOON)
    assert not re.search(r"https?:|@import|url\(", whole)
    assert "default-src 'none'" in whole


@pytest.mark.parametrize(
    "evidence",
    [
        first_model(),
        challenger(),
        challenger(1000, 600),
        challenger(600, 1000),
        challenger(
            leaks=None, parity=None, robustness=None, cost=None, slices=(), problems={"leaks": "no <blink>disk"}
        ),
        challenger(champion=None, anchor=None, problems={"champion": "its folder is gone"}),
    ],
    ids=["first", "equal", "better", "worse", "unmeasured", "no champion"],
)
def test_every_rule_stands_there_with_its_verdict_and_reason(evidence):
    contents = contents_of(evidence)
    page = page_of(contents)
    for rule in contents.verdict.rules:
        assert f"{rule.verdict} {' '.join(rule.reason.split())}" in page.text
        assert rule.rule in page.text
    assert page.open == []
    assert "blink" not in page.tags
    assert contents.verdict.id in page.text
    assert all(sentence in page.text for sentence in contents.headline)


def test_the_three_verdicts_differ_in_words_and_in_their_border():
    style = render_verdict(a_pair(), picture_of, at=NOON)
    borders = [re.search(rf"^\.{name} .*", style, re.MULTILINE).group() for name in ("pass", "fail", "unknown")]
    assert ["dashed" in each for each in borders] == [False, False, True]
    assert ["border-color: currentcolor" in each for each in borders] == [False, True, False]
    assert len({str(verdict) for verdict in Verdict}) == 3


def test_a_hostile_class_name_is_text_wherever_it_stands():
    labels = (HOSTILE, "bee")
    curves = {HOSTILE: [0.5]}
    contents = a_pair(labels=labels, corrupted=CorruptedAccuracy(9, curves, curves))
    page = render_verdict(contents, picture_of, at=NOON)
    assert HOSTILE not in page
    assert "<script" not in page
    assert "onerror" not in {name for name, _ in Reader(page).attributes}
    assert Reader(page).text.count(HOSTILE) > 20


def test_a_first_model_has_a_short_page_without_a_champion():
    page = page_of(contents_of(first_model(), challenger=answers([True] * 4)))
    assert "may become the task's first champion" in page.text
    assert "80.0% of 8,000 images" in page.text
    for absent in ("Slices", "Corrupted images", "changed sides", "Is it better?", "against the champion model"):
        assert absent not in page.text
    assert "svg" not in page.tags


def test_a_champion_without_answers_leaves_the_side_by_side_out_and_says_why():
    page = page_of(a_pair(champion=None))
    assert "can't be shown side by side: the champion's answers to the single images are not there." in page.text
    assert "changed sides" not in page.text
    assert "not shown" in page.text  # the tests need no single images
    assert "detectable drop" in page.text
    gone = challenger(champion=None, slices=(), problems={"champion": "its folder is gone"})
    page = page_of(contents_of(gone, challenger=answers([True] * 4)))
    assert "can't be shown side by side: the champion can't be compared (its folder is gone)." in page.text
    assert "the two models were not compared" in page.text


def test_answers_on_other_images_are_not_laid_side_by_side():
    page = page_of(a_pair(champion=answers([True] * 7)))
    assert "side by side: the two models answered other images, or under other labels." in page.text


def test_nothing_that_is_no_number_is_written_as_one():
    broken = Interval(NAN, NAN, NAN)
    contents = a_pair(corrupted=CorruptedAccuracy(9, {"blur": [NAN, 0.5]}, {"blur": [0.5, 0.5], "fog": []}))
    damaged = replace(contents.evidence.challenger, top1=broken, majority_rate=NAN, ece=NAN, nll=NAN)
    for evidence in (
        contents.evidence,
        replace(contents.evidence, challenger=damaged, ece=broken, champion=None, anchor=None),
    ):
        page = page_of(replace(contents, evidence=evidence, verdict=verdict_on(evidence)))
        told = page.text
        for rule in verdict_on(evidence).rules:
            told = told.replace(" ".join(rule.reason.split()), "")
        assert not re.search(r"\b(nan|inf|none)\b", told.lower())
        drawn = [value for name, value in page.attributes if name in {"style", "points", "cx", "cy", "y1", "y2"}]
        assert drawn
        assert not [value for value in drawn if "nan" in value or "inf" in value]


def test_images_that_changed_sides_are_the_ones_the_challenger_was_surest_of():
    won, lost = 20, 3
    mine = answers([True] * won + [False] * lost, [float(place + 1) for place in range(won + lost)])
    theirs = answers([False] * won + [True] * lost, 1.0)
    contents = replace(a_pair(), challenger=mine, champion=theirs)
    assert [int(each.image_id, 16) for each in contents.pair.won] == list(range(19, 7, -1))
    assert [int(each.image_id, 16) for each in contents.pair.lost] == [22, 21, 20]
    first = contents.pair.lost[0]
    assert (first.true, first.challenger, first.champion) == ("ant", "bee", "ant")
    assert first.champion_confidence == pytest.approx(1 / (1 + np.exp(-1)))
    page = page_of(contents)
    assert "Won, right with the challenger alone: 20 The 12 of them" in page.text
    assert "Lost, right with the champion alone: 3 ant" in page.text
    assert "From here on all 23 frozen images are shown; the verdict itself rests on 100 of them." in page.text


def test_an_image_that_is_not_held_leaves_its_place_with_the_reason():
    def gone(image_id: str) -> bytes:
        raise ValueError(f"{image_id}: <no> original")

    page = page_of(a_pair(won=1, lost=0, both=99, neither=0), original=gone)
    assert "No picture: 0000: <no> original" in page.text
    assert page.loaded == []
    damaged = page_of(a_pair(won=1, lost=0, both=99, neither=0), original=lambda _: b"no image")
    assert "No picture:" in damaged.text


def test_a_large_photograph_is_made_small():
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    page = render_verdict(a_pair(), lambda _: file.getvalue(), at=NOON)
    assert len(page) < 1_000_000


def test_each_class_has_its_difference_the_greatest_loss_first():
    contents = a_pair(won=10, lost=40, both=40, neither=10)
    ant, _ = contents.pair.classes
    assert (ant.images, ant.won, ant.lost) == (50, 5, 20)
    assert ant.challenger - ant.champion == pytest.approx(ant.difference.value)
    mine = answers([True, False] * 20, 2.0)  # right on every ant, on no bee
    theirs = answers([False, True] * 20, 2.0)
    pair = replace(contents, challenger=mine, champion=theirs).pair
    assert [(each.label, each.difference.value) for each in pair.classes] == [("bee", -1.0), ("ant", 1.0)]
    text = page_of(contents).text
    assert "ant 50 50.0% 80.0% -30.0" in text


def test_a_thousand_classes_stay_readable_and_small():
    rng = np.random.default_rng(0)
    labels = tuple(f"a class name as ImageNet has them, {place}" for place in range(1000))
    ids = np.array([f"{place:064x}" for place in range(5000)], np.str_)
    truth = rng.integers(0, 1000, 5000)
    both = [Predictions(ids, truth, rng.normal(size=(5000, 1000)).astype(np.float32)) for _ in range(2)]
    against = Comparison("model-old", "eval-old", paired_counts(pair(*both)))
    evidence = challenger(
        champion=against,
        anchor=against,
        challenger=evaluation(
            classes=tuple(ClassResult(label, 5, Interval(0.2, 0.1, 0.9), 0.1) for label in labels),
        ),
        slices=tuple(SliceCounts(f"class {label}", PairedCounts(1, 1, 2, 1)) for label in labels),
    )
    page = render_verdict(
        contents_of(evidence, challenger=both[0], champion=both[1]), lambda _: picture_of("7f"), at=NOON
    )
    assert len(page.encode()) < 1_500_000
    assert "more classes</summary>" in page
    assert "more slices</summary>" in page


def test_robustness_curves_go_as_far_as_they_are_known():
    page = page_of(a_pair())
    assert "Mean accuracy under 21 corruptions" in page.text
    assert "There are no curves" in page.text
    page = page_of(a_pair(corrupted=CorruptedAccuracy(1000, {"fog": [0.9, 0.5]}, {"fog": [0.8]})))
    assert "fog" in page.text
    assert "There are no curves" not in page.text
    lines = [value for name, value in page.attributes if name == "points"]
    assert {"73.0,20.8 147.0,64.0", "73.0,31.6"} <= set(lines)
    contents = a_pair()
    none = replace(contents.evidence, robustness=None, problems={"robustness": "the disk was full"})
    assert "Not compared: the disk was full." in page_of(replace(contents, evidence=none)).text


def test_slices_tell_the_smallest_drop_that_they_could_have_shown():
    contents = a_pair()
    shown, hidden = contents.slices
    assert hidden == []
    assert shown[0].smallest_drop == pytest.approx(0.02 + (1.6449 + 0.8416) * (25 / 50 / 50) ** 0.5, abs=1e-3)
    row = (
        r"class ant 50 \+10\.0 \[[-+.\d]+, [-+.\d]+\] 26\.9 not enough evidence not enough data: fewer than 100 images"
    )
    assert re.search(row, page_of(contents).text)


def test_a_drop_planted_on_one_class_fails_and_five_images_are_not_enough_data():
    """Ten points lost on cats, won on dogs: on the whole both models are right as often."""
    labels = np.repeat([0, 1, 2], [1000, 1000, 5])
    before = np.arange(len(labels)) % 10 < 8  # each class at 80 %
    after = before.copy()
    after[np.flatnonzero(before & (labels == 0))[:100]] = False
    after[np.flatnonzero(~before & (labels == 1))[:100]] = True
    after[np.flatnonzero(labels == 2)[:2]] = False
    ids = np.array([f"{place:04x}" for place in range(len(labels))], np.str_)
    mine, theirs = (
        Predictions(ids, labels, 2 * np.eye(3, dtype=np.float32)[np.where(right, labels, (labels + 1) % 3)])
        for right in (after, before)
    )
    whole = paired_counts(pair(mine, theirs))
    assert abs(whole.difference) < 0.002
    names = ("cat", "dog", "emu")
    slices = (
        SliceCounts(f"class {name}", paired_counts(pair(mine, theirs), labels == place))
        for place, name in enumerate(names)
    )
    against = Comparison("model-old", "eval-old", whole)
    classes = tuple(ClassResult(name, 1000, Interval(0.8, 0.77, 0.83), 0.8) for name in names)
    evidence = challenger(
        champion=against, anchor=against, challenger=evaluation(classes=classes), slices=tuple(slices)
    )
    contents = contents_of(evidence, challenger=mine, champion=theirs)
    assert contents.verdict.verdict is Verdict.FAIL
    text = page_of(contents).text
    assert "On one part of the images, “class cat”, it is clearly worse than the champion: 10.0 points" in text
    interval = r"\[[-+.\d]+, [-+.\d]+\] [\d.]+"
    assert re.search(rf"class cat 1,000 -10\.0 {interval} fail more than 2 points lost", text)
    assert re.search(rf"class dog 1,000 \+10\.0 {interval} pass", text)
    assert re.search(rf"class emu 5 -40\.0 {interval} not enough evidence not enough data: fewer than 100 images", text)
    bars = re.findall(
        r"<tr>.*class (cat|emu)<.*left:([-\d.]+)%;width:([\d.]+)%", render_verdict(contents, picture_of, at=NOON)
    )
    assert {name: float(left) >= 0 and float(left) + float(wide) <= 100 for name, left, wide in bars} == {
        "cat": True,
        "emu": False,  # five images' interval doesn't set the scale of all the others
    }


def test_the_tests_are_those_of_the_comparison_rule():
    contents = contents_of(challenger(1000, 600, uses=(Use(False, Outcome.SUPERIOR), Use(True, Outcome.STAYS))))
    page = page_of(contents)
    assert "Better than the champion? < 0.000001 0.0039 shown" in page.text
    assert "This is comparison 2 of 10 on these images" in page.text
    spent = page_of(contents_of(challenger(uses=(Use(True, Outcome.STAYS),) * 10)))
    assert "have served all 10 planned comparisons" in spent.text
    assert "not shown" in spent.text


def test_it_is_written_beside_the_reports_and_found_from_them(tmp_path):
    paths, contents = Paths(tmp_path), a_pair()
    folder = paths.report(contents.evidence.challenger.id)
    assert verdict_link(contents.verdict.id, folder, paths) == ""
    folder.mkdir(parents=True)
    page = write_verdict(contents, picture_of, paths, at=NOON)
    assert page == tmp_path / "reports" / contents.verdict.id / "verdict.html"
    link = verdict_link(contents.verdict.id, folder, paths)
    assert (folder / link).resolve() == page
    (back,) = set(Reader(page.read_text(encoding="utf-8")).links)
    assert (page.parent / back).resolve() == folder / "report.html"  # which the same run writes next
    (paths.report("eval-old")).mkdir()
    assert len(set(Reader(write_verdict(contents, picture_of, paths, at=NOON).read_text()).links)) == 1
    (paths.report("eval-old") / "report.html").write_text("the champion's page")
    page = write_verdict(contents, picture_of, paths, at=NOON)
    assert len(set(Reader(page.read_text(encoding="utf-8")).links)) == 2
    again = write_verdict(contents, picture_of, paths, at=NOON)
    assert again.read_bytes() == page.read_bytes()
