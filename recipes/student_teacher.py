"""A teacher, a DeiT student that it distils, and what few labels make of it (seed 004).

    python train.py student_teacher --dataset cifar10 --root Dataset/cifar10

teacher   trained on the labelled images, or read from `--teacher FILE`
student   the labels' loss, the teacher's logits on the distillation token, and its geometry (RKD)
st_class  the seed's ST-Class: a linear layer on the frozen student
ssl       the seed's SSL-ST-Class, with `--labelled N --semi pseudo` or `fixmatch`: the student goes
          on with the images whose labels nobody looks at, and the teacher, if any, guesses them

With 200 labels a class of CIFAR-10 a student reaches 37.98 +- 2.12 %, 32.10 without its teacher; on
four classes with 100, 63.12 % by a ResNet's pseudo-labels, 59.50 by labels (`docs/results.md`).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import jittor as jt
import numpy as np

from baselines.batches import PairedBatches
from baselines.datasets.image_sets import ImageSet
from baselines.datasets.splits import read_or_draw_split
from baselines.distillation_step import DistilConfig, distillation_step
from baselines.linear_protocol import linear_protocol
from baselines.results import stored_result
from baselines.semi_supervised import fixmatch_step, guessed
from baselines.targets import Repeated, Targets, classify
from baselines.trainer import Baseline, BaselineConfig
from baselines.transforms.compose import cifar_transform, strong_transform, weak_transform
from engine.run_log import Run
from models.backbones.networks import Network, build, suited
from models.backbones.pretrained import load_pretrained
from weight_files import safe_load

PHASES = ("teacher", "student", "st_class", "ssl")  # in the order in which they are made
FIRST_READ = {  # by which phase, of fields that the phases before do not look at
    "student": ("distil", "losses", "student_network", "student_start"),
    "ssl": ("semi", "ssl_epochs", "threshold", "ratio"),
}


@dataclass(frozen=True)
class Config(BaselineConfig):
    """Student and teacher."""

    out: Path = Path("runs/student_teacher")
    """folder for the split, metrics, weights and results"""
    phases: tuple[str, ...] = ("student", "st_class")
    """what is made and tested: teacher, student, st_class, ssl; the teacher where it is needed"""
    image_size: int = 32
    """pixels a side that the networks see"""
    patch_size: int = 4
    """pixels a side of a patch"""
    depth: int = 6
    """blocks of each ViT"""
    teacher_network: str = "vit_small"
    """the teacher, of any family: DeiT's own is a convolutional network"""
    teacher: Path | None = None
    """its weights under timm's names; trained here where none are named"""
    student_network: str = "deit_tiny"
    """the student"""
    student_start: Path | None = None
    """weights under timm's names that the student starts from; its classifiers stay fresh"""
    distil: bool = True
    """learn from the teacher; without, the same student from labels alone, in as many steps"""
    losses: DistilConfig = field(default_factory=DistilConfig)
    labelled: int = 0
    """labelled images a class; 0 for all training images"""
    semi: Literal["none", "pseudo", "fixmatch"] = "none"
    """what the phase ssl does with the others; none goes on with the labelled ones alone"""
    ssl_epochs: int = 0
    """passes of the phase ssl, 0 for as many as `epochs`"""
    threshold: float = 0.9
    """probability from which on a guess counts as a label"""
    ratio: int = 3
    """unlabelled batches beside a labelled one in FixMatch"""
    batch_size: int = 64
    """images a step"""
    lr: float = 1e-3
    """peak learning rate of AdamW"""
    weight_decay: float = 0.05
    """decay of the weights"""

    def __post_init__(self):
        super().__post_init__()
        if unknown := set(self.phases) - set(PHASES):
            raise ValueError(f"no phase {unknown.pop()!r}; there are {', '.join(PHASES)}")
        if self.semi != "none" and not self.labelled:
            raise ValueError(f"--semi {self.semi} needs --labelled N, the labelled images a class")


class Job(Baseline[Config]):
    """The images with and without labels, and how each phase trains."""

    def __init__(self, config: Config):
        super().__init__(config, config.image_size)
        self.whole, self.val = self.training_sets()
        self.classes = len(self.whole.class_names)
        self.known, self.others = np.arange(len(self.whole)), np.zeros(0, int)  # rows of `whole`
        if config.labelled:
            file, parts = config.out / "labelled.jsonl", ("labelled", "unlabelled")
            shares = (config.labelled, None)
            rows = read_or_draw_split(file, self.whole, shares, config.seed, parts)
            self.known, self.others = (rows[part] for part in parts)
        self.labelled = self.whole.take(self.known)

    def place(self, phase: str) -> Run:
        """A phase's folder; fields that only later phases read leave a finished one as it is."""
        later = PHASES[PHASES.index(phase) + 1 :]
        unread = [name for each in later for name in FIRST_READ.get(each, ())]
        name = f"ssl_{self.config.semi}" if phase == "ssl" else phase
        return self.run(name, ["phases", *unread])

    def network(self, name: str) -> Network:
        """A fresh network of this run's shape."""
        config, side = self.config, self.config.image_size
        shape = suited(name, patch_size=config.patch_size, depth=config.depth, stem="small")
        return self.build(lambda: build(name, self.classes, image_size=side, **shape))

    def augmented(self, images: ImageSet) -> Targets:
        """Batches of augmented images with their labels as targets."""
        return Targets(self.batches(images, cifar_transform(self.side, self.norm)), self.classes)

    @cached_property
    def teacher(self) -> Network:
        """The teacher, read or trained on the labelled images."""
        network = self.network(self.config.teacher_network)
        if self.config.teacher:
            load_pretrained(network, safe_load(self.config.teacher), self.config.teacher)
        else:
            run, batches = self.place("teacher"), self.augmented(self.labelled)
            self.learn(run, network, network.parameters(), batches, classify(network), self.val)
        network.eval()
        return network

    @cached_property
    def student(self) -> jt.nn.Module:
        """The student: DeiT's losses with a teacher, and RKD's; or labels on both its heads."""
        config, student = self.config, self.network(self.config.student_network)
        if config.student_start:
            contents, source = safe_load(config.student_start), config.student_start
            load_pretrained(student, contents, source, classes="replace", positions="resize")
        teacher = self.teacher if config.distil else None
        step = distillation_step(student, teacher, config.losses)
        batches, parameters = self.augmented(self.labelled), student.parameters()
        self.learn(self.place("student"), student, parameters, batches, step, self.val)
        return student

    def go_on(self, run: Run) -> None:
        """The phase ssl: about as many steps for each way."""
        config, norm, logits_of = self.config, self.norm, self.student.mean_logits
        batches: Repeated | PairedBatches
        if config.semi == "fixmatch":
            views = weak_transform(self.side, norm), strong_transform(self.side, norm)
            unlabelled = self.batches(self.whole.take(self.others), views)
            paired = PairedBatches(self.batches(self.labelled, views[0]), unlabelled, config.ratio)
            batches, step = paired, fixmatch_step(logits_of, config.threshold)
        else:
            images = self.labelled
            if config.semi == "pseudo":
                guesser = self.teacher if config.distil else self.student
                logits = self.outputs(guesser, self.whole.take(self.others))
                images = guessed(self.whole, self.known, self.others, logits, config.threshold)
            times = max(1, round(len(self.whole) / len(images)))
            batches, step = Repeated(self.augmented(images), times), classify(logits_of)
        self.config = replace(config, epochs=config.ssl_epochs or config.epochs)
        self.learn(run, self.student, self.student.parameters(), batches, step, self.val)


def run(config: Config) -> None:
    """Makes the phases that are named, each tested once at its end."""
    job = Job(config)
    for phase in (each for each in PHASES if each in config.phases):
        place = job.place(phase)
        if stored_result(place):
            continue
        network = job.teacher if phase == "teacher" else job.student
        if phase == "st_class":
            sets = (job.labelled, job.val)
            linear_protocol(job, place, network, job.student.features, sets, lr=config.lr)
            continue
        if phase == "ssl":
            job.go_on(place)
        network.eval()
        job.report(place, network)
