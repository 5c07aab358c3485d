"""`xt.check`: opens every image and label of a run before anything is trained, and tells all that is wrong or odd."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xt.checking.assumptions import Assumed, assume
from xt.checking.cohort import TEST, TRAINING, VALIDATION, Cohort, counts_by_part, findings_of
from xt.checking.findings import Finding, Severity, sorted_findings
from xt.checking.image_facts import ImageFacts, Job, Looking, look_at
from xt.checking.journal import Journal, usual_journal
from xt.checking.outlook import Outlook, outlook
from xt.checking.result import CheckResult
from xt.checking.rows import read_rows
from xt.checking.workers import look_at_all
from xt.config.run import RunConfig
from xt.data.feature_folder import features_at
from xt.data.folds import fold_numbers
from xt.data.grouping import warn_of_few, warn_of_unused
from xt.data.splits import Splits
from xt.errors import ConfigError, XTError
from xt.labels.image_table import ImageTable
from xt.machine import usable_cores
from xt.model.build import build_model
from xt.progress import OnStep
from xt.tasks import task_of
from xt.training.preparation import opening, resolve_classes
from xt.training.quick_check import quick_check

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How a check goes about it."""

    workers: int | None = None
    """Processes that open images, >= 0; None for one on each core, 0 for none beside this one."""
    journal: str | None = None
    """File that keeps what was found out, so that only files that changed are looked at again; None for one in the
    user's cache folder, "" for none."""
    fresh: bool = False
    """Whether to look at all files again, whatever the journal knows."""
    costs: bool = True
    """Whether to tell what training costs, which takes some seconds."""
    device: str | None = None
    """On which device, see `xt.plan`; None for a GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"workers must be >= 0, got {self.workers}")


def check(
    source: str | Path | RunConfig,
    options: CheckOptions | None = None,
    *,
    overrides: Sequence[str] = (),
    progress: OnStep | None = None,
) -> CheckResult:
    """Open every image and label, and tell what is missing, damaged, odd, and what training would do with it.

    Args:
        source: the configuration of a run; or a table, a folder or a file of COCO instances, for which one is assumed.
        overrides: with a table or folder: settings of the run as `xt train` takes them, such as
            "--labels.mask_values=[0, 255]".
        progress: called with images done and images in all.
    Raises:
        XTError: there is no such table or folder. What is wrong with its rows is in the result.
    """
    options = options or CheckOptions()
    if isinstance(source, RunConfig):
        assumed = Assumed(config=source, task=source.model.head, told=(), train="")
    else:
        assumed = assume(str(source), overrides)
    found = _Check(assumed, options)
    found.read_table()
    found.look(progress)
    return found.result()


class _Check:
    """A check under way: each step adds to what was found."""

    def __init__(self, assumed: Assumed, options: CheckOptions) -> None:
        self.assumed = assumed
        self.options = options
        self.config = assumed.config
        self.task = task_of(self.config.model.head)
        self.findings: list[Finding] = []
        self.table: ImageTable | None = None
        self.parts: dict[int, str] = {}
        self.splits: Splits | None = None
        self.jobs: list[Job] = []
        self.facts: tuple[ImageFacts, ...] = ()
        self.looking: Looking | None = None

    def read_table(self) -> None:
        """Rows, classes and splits; no image is opened yet."""
        if self.assumed.task is None:
            self.jobs = [Job(row=row, path=path) for row, path in enumerate(self._unlabelled())]
            return
        rows = read_rows(self.config)
        self.findings += rows.findings
        self.table = rows.table
        jobs = [Job(row=row, path=path) for row, path in rows.others]
        if rows.table is not None:
            table = rows.table
            targets = self.task.label_files(table)
            jobs += [
                Job(row=row, path=path, target=target, microns_per_pixel=table.microns_of(place))
                for place, (row, path, target) in enumerate(
                    zip(table.rows, table.paths, targets, strict=True)
                )
            ]
            self._divide(table)
        self.jobs = sorted(jobs, key=lambda job: job.row)

    def look(self, progress: OnStep | None) -> None:
        """Open everything."""
        data, options = self.config.data, self.options
        if data.encoded is not None:
            self._add(
                Severity.NOTE, f"the images were not opened, as training reads {data.encoded} in their place"
            )
            self._look_at_features(data.encoded)
            return
        how = Looking(
            reading=opening(self.config.data, self.config.model),
            class_names=() if self.table is None else self.table.class_names,
            ignore_index=self.task.ignore_index(self.config.model),
            task=self.task,
            classes_assumed=self.assumed.classes,
            settings=repr((data, self.config.labels, self.config.model)),
        )
        workers = usable_cores() if options.workers is None else options.workers
        path = usual_journal(self.source) if options.journal is None else Path(options.journal)
        found: dict[int, ImageFacts] = {}
        with Journal(path if options.journal != "" else None, fresh=options.fresh) as journal:
            for job in self.jobs:
                if (known := journal.known(job, how)) is not None:
                    found[job.row] = known
            waiting = [job for job in self.jobs if job.row not in found]
            for job, facts in look_at_all(look_at, waiting, how, workers, _broken):
                found[job.row] = facts
                journal.add(job, how, facts)
                if progress is not None:
                    progress(len(found), len(self.jobs))
        if progress is not None and not waiting:
            progress(len(found), len(self.jobs))
        self.looking = how
        self.facts = tuple(found[job.row] for job in self.jobs)

    def _look_at_features(self, encoded: str) -> None:
        """Which images have none, and whether all files are of one kind."""
        if self.table is None:
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                place = features_at(encoded)
                place.check_images(place.of_table(self.table).paths, self.table.source)
            except XTError as error:
                self._add(Severity.ERROR, str(error))
        for warning in caught:
            self._add(Severity.WARNING, str(warning.message))

    def result(self) -> CheckResult:
        """Everything that was found, put together."""
        for facts in self.facts:
            for severity, sentences in ((Severity.ERROR, facts.errors), (Severity.WARNING, facts.warnings)):
                for sentence in sentences:
                    self._add(severity, sentence, facts)
        cohort = Cohort(
            facts=self.facts,
            parts=self.parts,
            classes=dict(self._classes()),
            class_names=self._class_names(),
            in_channels=None if self.assumed.task is None else self._channels(),
            one_resolution=self.config.model.resolution.is_set,
            groups=self._groups(),
        )
        self.findings += findings_of(cohort)
        self._check_as_training_does()
        seen = None if self.assumed.task is None else self._outlook()
        return CheckResult(
            source=self.source,
            config=self.config,
            assumed=self.assumed,
            jobs=tuple(self.jobs),
            looking=self.looking,
            facts=self.facts,
            parts=self.parts,
            how="" if self.splits is None else self.splits.how,
            class_names=cohort.class_names,
            counts=counts_by_part(cohort),
            findings=sorted_findings(self.findings),
            outlook=seen,
        )

    def _check_as_training_does(self) -> None:
        """What `xt train` would say by itself of the rows that nothing is wrong with."""
        bad = {row for finding in self.findings if finding.severity is Severity.ERROR for row in finding.rows}
        splits = None if self.splits is None else _without(self.splits, bad)
        if splits is None or self.looking is None:
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                quick_check(self.config, splits, self.looking.reading)
            except XTError as error:
                self._add(Severity.ERROR, str(error))
        named = {finding.sentence for finding in self.findings}
        for warning in caught:
            # Slow files and the like were said of their rows.
            if issubclass(warning.category, UserWarning) and str(warning.message) not in named:
                self._add(Severity.WARNING, str(warning.message))

    @property
    def source(self) -> str:
        return self.config.data.place

    def _unlabelled(self) -> list[Path]:
        return list(self.config.data.image_paths())

    def _divide(self, table: ImageTable) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.config = resolve_classes(self.config, table)
            except XTError as error:
                self._add(Severity.ERROR, str(error))
            try:
                splits = self._splits(table)
                warn_of_unused(splits.parts, self.config.data.likely_groups())
            except XTError as error:
                self._add(Severity.ERROR, str(error))
                return
        for warning in caught:
            self._add(Severity.WARNING, str(warning.message))
        self.splits = splits
        parts = {TRAINING: splits.train, VALIDATION: splits.validation, TEST: splits.test}
        self.parts = {row: name for name, part in parts.items() if part is not None for row in part.rows}

    def _splits(self, table: ImageTable) -> Splits:
        data, folds = self.config.data, self.config.train.folds
        if folds is None:
            return data.divide(table)
        images, test = data.pool(table)
        fold_numbers(images, folds, data.split_seed)
        warn_of_few(images, folds, f"{folds} folds")
        return Splits(train=images, validation=None, test=test, how=f"by {folds} folds")

    def _classes(self) -> Iterator[tuple[int, Mapping[str, int]]]:
        """Of each row, how much of each class its label shows."""
        for facts in self.facts:
            if facts.labels is not None:
                yield facts.row, facts.labels.counts
        if self.table is not None:
            yield from self.task.classes_of_rows(self.table)

    def _groups(self) -> dict[int, str]:
        if self.table is None or self.table.groups is None:
            return {}
        return dict(zip(self.table.rows, self.table.groups, strict=True))

    def _class_names(self) -> tuple[str, ...]:
        return self.table.class_names if self.table is not None and self.task.has_classes else ()

    def _channels(self) -> int:
        return self.config.model.in_channels

    def _outlook(self) -> Outlook | None:
        shapes = [
            shape
            for facts in self.facts
            if (shape := facts.read_shape or facts.shape) is not None
            and self.parts.get(facts.row) == TRAINING
        ]
        try:
            model = build_model(replace(self.config.model, pretrained=False)).train()
        except XTError as error:
            self._add(Severity.ERROR, str(error))
            return None
        if not shapes:
            return None
        # As late as this, as it brings torch.
        from xt.machine.devices import choose_device

        device = self.options.device or str(choose_device(None))
        return outlook(self.config, model, shapes, device, costs=self.options.costs)

    def _add(self, severity: Severity, sentence: str, facts: ImageFacts | None = None) -> None:
        rows = () if facts is None else (facts.row,)
        files = () if facts is None else (facts.path,)
        self.findings.append(Finding(severity=severity, sentence=sentence, rows=rows, files=files))


def _without(splits: Splits, bad: set[int]) -> Splits | None:
    """The same without these rows; None if there is nothing left to train on."""

    def good(part: ImageTable | None) -> ImageTable | None:
        chosen = [] if part is None else [place for place, row in enumerate(part.rows) if row not in bad]
        return part.subset(chosen) if part is not None and chosen else None

    train = good(splits.train)
    if train is None:
        return None
    return Splits(train=train, validation=good(splits.validation), test=good(splits.test), how=splits.how)


def _broken(job: Job) -> ImageFacts:
    sentence = f"{job.path} ended the process that read it: it is damaged, or takes more memory than there is"
    return ImageFacts(row=job.row, path=str(job.path), errors=(sentence,))
