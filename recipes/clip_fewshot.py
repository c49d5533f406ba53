"""The main recipe: from a few labelled images per class and a CLIP to the parts of `test.py`.

    python train.py clip_fewshot        (data in Dataset/, ViT-B-32.pkl next to train.py)

A pipeline of stages. Each learns from what the ones before it left, and is kept as long as its
inputs do not change. Test images are not read here.
"""

from dataclasses import dataclass, field
from pathlib import Path

from data.few_shot_splits import read_shots
from data.inputs import AUXILIARY, find_auxiliary, open_inputs
from data.views import Crops, Views
from engine.config import require_ranges
from engine.device import Device, Kernels, Precision, use_device
from fewshot.features.encoder import Encoder
from fewshot.stages.auxiliary import auxiliary_stage
from fewshot.stages.heads import HeadConfig, channel_stage, gda_stage, head_stage
from fewshot.stages.lora import LoraStageConfig, lora_stage
from fewshot.stages.ood import OodConfig, ood_stage
from fewshot.stages.pipeline import Pipeline
from fewshot.stages.prompt import PromptConfig, prompt_stage
from fewshot.stages.task import Task
from fewshot.stages.text import text_stage
from fewshot.text.class_texts import TextConfig


@dataclass(frozen=True)
class Config:
    """Few-shot CLIP, stage by stage."""

    data: Path = Path("Dataset")
    """contest tree, folder with one folder per class, or list of images"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path = AUXILIARY
    """second, frozen encoder (MoCo v3's ResNet-50 or another CLIP); unused if the file is absent"""
    shots: Path | None = None
    """few-shot list (JSON lines); by default the one in Dataset/splits for these data"""
    parts: Path = Path("test_pkl")
    """folder for the trained parts"""
    cache: Path = Path("cache")
    """folder for cached features"""
    runs: Path = Path("runs/clip_fewshot")
    """folder for metrics and checkpoints, with one folder per stage"""
    text: TextConfig = field(default_factory=TextConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    lora: LoraStageConfig = field(default_factory=LoraStageConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    ood: OodConfig = field(default_factory=OodConfig)
    views: int = 10
    """views of each shot for prompt and head: the centre view and random crops"""
    crops: Crops = field(default_factory=Crops)
    seed: int = 1
    """seed of crops, initial weights and the order of the shots"""
    workers: int = 0
    """threads that decode images, 0 for none"""
    prefetch: int = 32
    """views decoded ahead of the encoder; changes no result"""
    device: Device = "auto"
    """device that Jittor computes on; auto takes CUDA if it works"""
    precision: Precision = "fp32"
    """precision of frozen layers: fp32, bf16 (with AMX, AVX-512-bf16 or a GPU), or auto"""
    kernels: Kernels = "native"
    """operators that compute: native, the kit's own, or jittor, Jittor's own in fp32"""
    until: str = ""
    """last stage to run"""
    only: str = ""
    """the one stage to run; the parts of the stages before it must be there"""
    fresh: bool = False
    """make every stage again"""

    def __post_init__(self):
        require_ranges({"views": self.views}, least=1)
        require_ranges({"seed": self.seed, "workers": self.workers}, least=0)

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """Locks of the folders in which one run at a time may write."""
        return (self.parts / ".lock", self.runs / ".lock")


def run(config: Config) -> None:
    """Trains all parts, or those of the stages that the configuration names."""
    device = use_device(config.device, config.precision, config.kernels)
    dataset, weights = open_inputs(config.data, config.weights)
    shots = read_shots(config.data, config.shots, dataset)
    encoder = Encoder(weights, device, config.cache, config.workers, config.prefetch)
    label_space = dataset.label_space.with_base(shots.ids)
    task = Task(encoder, label_space, shots, Views(config.views, config.crops, config.seed))
    stages = [
        text_stage(task, config.text),
        prompt_stage(task, config.prompt),
        lora_stage(task, config.lora),
        head_stage(task, config.head),
        channel_stage(task, config.head),
        gda_stage(task),
        ood_stage(task, config.ood),
    ]
    auxiliary = find_auxiliary(config.auxiliary)
    if auxiliary:
        stages.append(auxiliary_stage(task, encoder.with_auxiliary_weights(auxiliary)))
    pipeline = Pipeline("clip_fewshot", stages, config.parts, config.runs)
    pipeline.run(until=config.until, only=config.only, fresh=config.fresh)
