"""Trains a teacher, a DeiT student by distillation, and both with few labels.

    python train.py student_teacher --dataset cifar10 --root Dataset/cifar10

teacher   the teacher, trained on the labelled images, or read from `--teacher FILE`
student   the student: the labels, the teacher's logits on the distillation token, and RKD
st_class  linear layers on the frozen student ("ST-Class")
ssl       semi-supervised ("SSL-ST-Class"), with `--labelled N --semi pseudo` or `fixmatch`: the
          student continues with images without labels, which the teacher, if any, labels

Cost and result: with 200 labels per class of CIFAR-10 a student reaches 37.98 +- 2.12 %, and 32.10
without its teacher, 5 minutes each on two cores. On four classes with 100 labels each, the
pseudo-labels of a ResNet give 63.12 %, labels alone 59.50 (`docs/experiments/baselines.md`).
Sources: DeiT, RKD and FixMatch; see `baselines/distillation.py` and `baselines/semi_supervised.py`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import jittor as jt
import numpy as np

from baselines.batches import PairedBatches, RepeatedEpochs, SoftTargets
from baselines.datasets.image_sets import ImageSet
from baselines.datasets.splits import read_or_draw_split
from baselines.distillation import DistillationConfig, distillation_step
from baselines.linear_eval import evaluate_encoder
from baselines.results import find_result
from baselines.semi_supervised import add_pseudo_labels, fixmatch_step
from baselines.trainer import Baseline, BaselineConfig, classification_step
from baselines.transforms.compose import cifar_transform, strong_transform, weak_transform
from engine.run_log import Run
from models.backbones.networks import Network
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load

PHASES = ("teacher", "student", "st_class", "ssl")  # in the order of training
FIRST_READ = {  # fields that the phases before this one do not read
    "student": ("distil", "losses", "student_network", "student_start"),
    "ssl": ("semi", "ssl_epochs", "threshold", "ratio"),
}


@dataclass(frozen=True)
class Config(BaselineConfig):
    """Student and teacher."""

    out: Path = Path("runs/student_teacher")
    """folder for the split, metrics, weights and results"""
    phases: tuple[str, ...] = ("student", "st_class")
    """phases to train and test: teacher, student, st_class, ssl"""
    image_size: int = 32
    """pixels per side of the networks' input"""
    patch_size: int = 4
    """pixels per side of a patch"""
    depth: int = 6
    """blocks of each ViT"""
    teacher_network: str = "vit_small"
    """network of the teacher, of any family; DeiT's own is convolutional"""
    teacher: Path | None = None
    """weights of the teacher under timm's names; by default it is trained here"""
    student_network: str = "deit_tiny"
    """network of the student, a DeiT"""
    student_start: Path | None = None
    """weights under timm's names that the student starts from, except its classifiers"""
    distil: bool = True
    """learn from the teacher; False trains the same student in as many steps from labels alone"""
    losses: DistillationConfig = field(default_factory=DistillationConfig)
    labelled: int = 0
    """labelled images per class; 0 for all training images"""
    semi: Literal["none", "pseudo", "fixmatch"] = "none"
    """use of the images without labels in the phase ssl; none continues with labelled ones alone"""
    ssl_epochs: int = 0
    """passes of the phase ssl, 0 for as many as `epochs`"""
    threshold: float = 0.9
    """least probability with which a guess becomes a label"""
    ratio: int = 3
    """unlabelled batches per labelled batch in FixMatch"""
    batch_size: int = 64
    """images per step"""
    weight_decay: float = 0.05
    """weight decay of the optimizer"""

    def __post_init__(self):
        super().__post_init__()
        if unknown := set(self.phases) - set(PHASES):
            raise ValueError(f"no phase {unknown.pop()!r}; there are {', '.join(PHASES)}")
        if self.semi != "none" and not self.labelled:
            raise ValueError(f"--semi {self.semi} needs --labelled N, labelled images per class")


class StudentTeacher(Baseline[Config]):
    """The images with and without labels, and how each phase trains."""

    def __init__(self, config: Config):
        super().__init__(config, config.image_size)
        self.train, self.val = self.training_sets()
        self.classes = len(self.train.class_names)
        self.labelled_rows = np.arange(len(self.train))  # of `train`
        self.unlabelled_rows = np.zeros(0, int)
        if config.labelled:
            path, parts = config.out / "labelled.jsonl", ("labelled", "unlabelled")
            shares = (config.labelled, None)
            rows = read_or_draw_split(path, self.train, shares, config.seed, parts)
            self.labelled_rows, self.unlabelled_rows = (rows[part] for part in parts)
        self.labelled = self.train.take(self.labelled_rows)
        self.unlabelled = self.train.take(self.unlabelled_rows)

    def open_phase(self, phase: str) -> Run:
        """Opens the folder of a phase; fields that only later phases read are ignored."""
        later = PHASES[PHASES.index(phase) + 1 :]
        ignored = [name for each in later for name in FIRST_READ.get(each, ())]
        name = f"ssl_{self.config.semi}" if phase == "ssl" else phase
        return self.open_run(name, ["phases", *ignored])

    def new_network(self, name: str) -> Network:
        """Returns a network of this run's shape with random weights."""
        shape = {"patch_size": self.config.patch_size, "depth": self.config.depth}
        return self.build_network(name, self.classes, stem="small", **shape)

    def labelled_batches(self, images: ImageSet) -> SoftTargets:
        """Returns batches of augmented images with their labels as targets."""
        transform = cifar_transform(self.image_size, self.norm)
        return SoftTargets(self.batches(images, transform), self.classes)

    @cached_property
    def teacher(self) -> Network:
        """The teacher, read or trained on the labelled images."""
        network = self.new_network(self.config.teacher_network)
        if self.config.teacher:
            load_pretrained(network, safe_load(self.config.teacher), self.config.teacher)
        else:
            batches = self.labelled_batches(self.labelled)
            self.fit_classifier(self.open_phase("teacher"), network, batches, self.val)
        network.eval()
        return network

    @cached_property
    def student(self) -> jt.nn.Module:
        """The student, trained by the losses of DeiT and RKD, or by the labels alone."""
        config, student = self.config, self.new_network(self.config.student_network)
        if config.student_start:
            weights = safe_load(config.student_start)
            source = config.student_start
            load_pretrained(student, weights, source, classes="replace", positions="resize")
        teacher = self.teacher if config.distil else None
        step = distillation_step(student, teacher, config.losses)
        batches = self.labelled_batches(self.labelled)
        self.fit_classifier(self.open_phase("student"), student, batches, self.val, step=step)
        return student

    def pseudo_labelled(self) -> ImageSet:
        """Returns the labelled images and those that the teacher, or the student, labels."""
        network = self.teacher if self.config.distil else self.student
        logits = self.predict(network, self.unlabelled)
        rows = self.labelled_rows, self.unlabelled_rows
        return add_pseudo_labels(self.train, *rows, logits, self.config.threshold)

    def train_semi_supervised(self, run: Run) -> None:
        """Continues the student's training; each mode takes about as many steps."""
        config, forward = self.config, self.student.mean_logits
        batches: RepeatedEpochs | PairedBatches
        if config.semi == "fixmatch":
            weak = weak_transform(self.image_size, self.norm)
            strong = strong_transform(self.image_size, self.norm)
            labelled = self.batches(self.labelled, weak)
            unlabelled = self.batches(self.unlabelled, weak, strong)
            batches = PairedBatches(labelled, unlabelled, config.ratio)
            step = fixmatch_step(forward, config.threshold)
        else:
            images = self.pseudo_labelled() if config.semi == "pseudo" else self.labelled
            times = max(1, round(len(self.train) / len(images)))
            batches = RepeatedEpochs(self.labelled_batches(images), times)
            step = classification_step(forward)
        self.config = replace(config, epochs=config.ssl_epochs or config.epochs)
        self.fit_classifier(run, self.student, batches, self.val, step=step)


def run(config: Config) -> None:
    """Trains the phases that are named, each tested once at its end."""
    job = StudentTeacher(config)
    for phase in PHASES:
        if phase not in config.phases:
            continue
        run_log = job.open_phase(phase)
        if find_result(run_log):
            continue
        network = job.teacher if phase == "teacher" else job.student
        if phase == "st_class":
            features = job.student.features
            evaluate_encoder(job, run_log, network, features, job.labelled, job.val, lr=config.lr)
            continue
        if phase == "ssl":
            job.train_semi_supervised(run_log)
        network.eval()
        job.test(run_log, network)
