"""What only shows when all images are seen together: what differs, what occurs twice, what is never shown."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xt.checking.findings import Finding, Severity
from xt.checking.image_facts import ImageFacts

TRAINING, VALIDATION, TEST = "training", "validation", "test"
# Resolutions that differ by more show the same things at different sizes.
RESOLUTION_TOLERANCE = 0.1
_MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """All images of a table.

    Attributes:
        parts: row -> training, validation or test; rows that are in none have no part in the run.
        classes: row -> class -> pixels, points, boxes or, of a whole image, 1; empty where there are no classes.
        class_names: in the order of the model's outputs.
        in_channels: of the model; None where it is not given.
        one_resolution: whether images are read at one resolution whatever theirs is.
        groups: row -> what it belongs to; empty where nothing says so.
    """

    facts: Sequence[ImageFacts]
    parts: Mapping[int, str]
    classes: Mapping[int, Mapping[str, int]]
    class_names: tuple[str, ...]
    in_channels: int | None = None
    one_resolution: bool = False
    groups: Mapping[int, str] = field(default_factory=dict)


def findings_of(cohort: Cohort) -> Iterator[Finding]:
    """Everything that is odd about the images as a whole."""
    opened = [facts for facts in cohort.facts if facts.shape is not None]
    yield from _channels(opened, cohort.in_channels)
    yield from _types(opened)
    if not cohort.one_resolution:
        yield from _resolutions(opened)
    yield from _turned(opened)
    yield from _empty(opened)
    yield from _equal(opened, cohort)
    yield from _parted(cohort)
    yield from _beyond(opened)
    yield from _without_labels(cohort)
    yield from _never_shown(cohort)
    yield from _spelled_alike(cohort)


def counts_by_part(cohort: Cohort) -> dict[str, dict[str, int]]:
    """part -> class -> how many."""
    counts: dict[str, Counter[str]] = {}
    for row, part in cohort.parts.items():
        counts.setdefault(part, Counter()).update(cohort.classes.get(row, {}))
    return {part: dict(found) for part, found in counts.items()}


def _channels(facts: Sequence[ImageFacts], wanted: int | None) -> Iterator[Finding]:
    usual = wanted or _most_common(facts, lambda one: one.channels)
    for one in facts:
        if one.channels != usual:
            expected = f"model.in_channels is {wanted}" if wanted else f"most images have {usual}"
            yield _about(one, Severity.ERROR, f"{one.path} has {one.channels} channels, but {expected}")


def _types(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    usual = _most_common(facts, lambda one: one.dtype)
    for one in facts:
        if one.dtype != usual:
            yield _about(
                one, Severity.WARNING,
                f"{one.path} has pixels of type {one.dtype}, most images have {usual}: the same number may mean "
                "another brightness",
            )  # fmt: skip


def _resolutions(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    known = [one for one in facts if one.pixel_size is not None]
    usual = {unit: sorted(sizes)[len(sizes) // 2] for unit, sizes in sizes_by_unit(known).items()}
    for one in facts:
        if one.pixel_size is None:
            sentence = f"{one.path} does not say its resolution, {len(known):,} of {len(facts):,} images do"
            if not known:
                continue
        else:
            size, unit = one.pixel_size
            if max(size, usual[unit]) <= (1 + RESOLUTION_TOLERANCE) * min(size, usual[unit]):
                continue
            sentence = (
                f"{one.path} has {size:.4g} {unit} per pixel, the middle of all images is {usual[unit]:.4g}: the same "
                "thing has another size in it"
            )
        yield _about(one, Severity.WARNING, sentence)


def sizes_by_unit(facts: Sequence[ImageFacts]) -> dict[str, list[float]]:
    """Unit -> the sides of pixels that are told in it."""
    sizes: dict[str, list[float]] = defaultdict(list)
    for one in facts:
        if one.pixel_size is not None:
            sizes[one.pixel_size[1]].append(one.pixel_size[0])
    return sizes


def _turned(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Masks have no tag as a rule, so that which picture they were drawn on cannot be told."""
    for one in facts:
        if one.labels is None or one.labels.kind != "mask" or one.labels.orientation == one.orientation:
            continue
        yield _about(
            one, Severity.WARNING,
            f"{one.path} is turned to be upright, as its orientation tag says ({one.orientation}), but its mask is "
            f"turned otherwise ({one.labels.orientation}): it fits if it was drawn on the upright picture",
        )  # fmt: skip


def _empty(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    for one in facts:
        if one.missing == 1:
            yield _about(one, Severity.WARNING, f"{one.path} holds nothing: all its pixels are missing")
        elif one.values is not None and one.values[0] == one.values[1]:
            yield _about(
                one,
                Severity.WARNING,
                f"{one.path} shows nothing: all its pixels have the value {one.values[0]:g}",
            )


def _equal(facts: Sequence[ImageFacts], cohort: Cohort) -> Iterator[Finding]:
    """Images that show the same: across parts what is measured would have been seen in training."""
    groups = _grouped(facts, lambda one: one.digest)
    for same in groups:
        parts = sorted({cohort.parts[one.row] for one in same if one.row in cohort.parts})
        names = _some([one.path for one in same])
        rows, files = tuple(one.row for one in same), tuple(one.path for one in same)
        labels = {tuple(sorted(cohort.classes.get(one.row, {}).items())) for one in same}
        if len(parts) > 1:
            sentence = (
                f"{names} are the same image, in {' and '.join(parts)}: what is measured there was seen in training"
                if TRAINING in parts
                else f"{names} are the same image, in {' and '.join(parts)}"
            )
        else:
            sentence = f"{names} are the same image"
        if len(labels) > 1:
            sentence += ", with different labels"
        yield Finding(severity=Severity.WARNING, sentence=sentence, rows=rows, files=files)


def _parted(cohort: Cohort) -> Iterator[Finding]:
    """Groups in several parts: what is measured of them was half seen in training."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in sorted(cohort.groups.items()):
        if row in cohort.parts:
            rows_of[group].append(row)
    for group, rows in rows_of.items():
        parts = [part for part in (TRAINING, VALIDATION, TEST) if part in {cohort.parts[row] for row in rows}]
        if len(parts) > 1:
            yield Finding(
                severity=Severity.WARNING,
                sentence=f"the group {group!r} is in {' and '.join(parts)}: what is measured may be knowing it again",
                rows=tuple(rows),
                files=tuple(one.path for one in cohort.facts if one.row in set(rows)),
            )


def _beyond(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    for one in facts:
        if one.labels is not None and one.labels.beyond:
            inside = sum(one.labels.counts.values())
            yield _about(
                one, Severity.WARNING if not inside else Severity.NOTE,
                f"{one.labels.beyond:,} of {one.labels.beyond + inside:,} points of its file do not lie on {one.path}",
            )  # fmt: skip


def _without_labels(cohort: Cohort) -> Iterator[Finding]:
    for one in cohort.facts:
        labels = one.labels
        if labels is not None and labels.kind != "mask" and not labels.counts and not labels.errors:
            yield _about(one, Severity.NOTE, f"{one.path} has no {labels.kind}")


def _never_shown(cohort: Cohort) -> Iterator[Finding]:
    counts = counts_by_part(cohort)
    shown = counts.get(TRAINING, {})
    for name in cohort.class_names:
        elsewhere = [part for part in (VALIDATION, TEST) if counts.get(part, {}).get(name)]
        if shown.get(name) or not elsewhere:
            # A class that is nowhere has no rows; training says so by itself.
            continue
        rows = tuple(row for row, found in sorted(cohort.classes.items()) if found.get(name))
        files = tuple(one.path for one in cohort.facts if one.row in rows)
        yield Finding(
            severity=Severity.WARNING,
            sentence=f"the class {name!r} occurs in {' and '.join(elsewhere)} only: it cannot be learned",
            rows=rows,
            files=files,
        )


def _spelled_alike(cohort: Cohort) -> Iterator[Finding]:
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, found in sorted(cohort.classes.items()):
        for name in found:
            rows_of[name].append(row)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in rows_of:
        groups[re.sub(r"[\s_-]+", "", name).casefold()].append(name)
    for names in groups.values():
        if len(names) < 2:
            continue
        names = sorted(names, key=lambda name: -len(rows_of[name]))
        fewer = tuple(sorted({row for name in names[1:] for row in rows_of[name]}))
        yield Finding(
            severity=Severity.WARNING,
            sentence=f"the classes {' and '.join(map(repr, names))} differ in their spelling only: they are learned as "
            f"{len(names)} classes",
            rows=fewer,
            files=tuple(one.path for one in cohort.facts if one.row in fewer),
        )


def _about(one: ImageFacts, severity: Severity, sentence: str) -> Finding:
    return Finding(severity=severity, sentence=sentence, rows=(one.row,), files=(one.path,))


def _grouped(
    facts: Sequence[ImageFacts], key: Callable[[ImageFacts], Hashable | None]
) -> list[list[ImageFacts]]:
    groups: dict[Hashable, list[ImageFacts]] = defaultdict(list)
    for one in facts:
        if (value := key(one)) is not None:
            groups[value].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _most_common(facts: Sequence[ImageFacts], key: Callable[[ImageFacts], Hashable]) -> object:
    counts = Counter(map(key, facts))
    return counts.most_common(1)[0][0] if counts else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (f", ... ({len(names)})" if len(names) > _MOST_NAMED else "")
