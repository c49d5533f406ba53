"""The main job: from a few labelled images a class and a CLIP to the parts that `test.py` uses.

    python train.py clip_fewshot        (data in Dataset/, ViT-B-32.pkl beside train.py)

A schedule of stages, each learning at its own pace on what the ones before it left, each kept while
its inputs do not change. Test images are not read here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.few_shot_splits import read_shots
from data.inputs import AUXILIARY, find_auxiliary, open_inputs
from data.views import Crops, Views
from engine.code_version import PARTS_CODE
from engine.config import as_plain, require_ranges
from engine.device import Device, Kernels, Precision, precision_in_use, use_device
from engine.run_log import Run
from fewshot.features.encoder import Encoder, code_version
from fewshot.stages.auxiliary import train_auxiliary
from fewshot.stages.heads import HeadConfig, mean_views, train_channel, train_gda, train_head
from fewshot.stages.lora import LoraStageConfig, train_lora, tuned_encoder
from fewshot.stages.ood import OodConfig, mined_negatives, train_ood
from fewshot.stages.pipeline import Parts, Pipeline, Stage
from fewshot.stages.prompt import PromptConfig, train_prompt, tuned_text
from fewshot.text.class_texts import (
    TEMPLATES,
    TextConfig,
    class_vectors,
    sentence_weights,
    texts_of,
)
from fewshot.text.negatives import NEGATIVES
from models.heads.zero_shot import text_logits
from runtime.distributed import barrier, is_main_process
from weight_files.hashing import sha256_of


@dataclass(frozen=True)
class Config:
    """Few-shot CLIP, stage by stage."""

    data: Path = Path("Dataset")
    """contest tree, folder of one folder a class, or list"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path = AUXILIARY
    """second, frozen encoder, MoCo v3's ResNet-50 or another CLIP; none where the file is absent"""
    shots: Path | None = None
    """few-shot list (JSON lines); by default the one in Dataset/splits for these data"""
    parts: Path = Path("test_pkl")
    """folder for the trained parts"""
    cache: Path = Path("cache")
    """folder for cached features"""
    runs: Path = Path("runs/clip_fewshot")
    """folder for metrics and checkpoints, one folder a stage"""
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
    """where Jittor computes; auto takes CUDA where it works"""
    precision: Precision = "fp32"
    """precision of frozen layers: fp32, bf16 (with AMX, AVX-512-bf16 or a GPU), or auto"""
    kernels: Kernels = "native"
    """operators that compute: native, the kit's own, or jittor, Jittor's own in fp32"""
    until: str = ""
    """last stage to run, as the README names them"""
    only: str = ""
    """the one stage to run; those before it must be there"""
    fresh: bool = False
    """make every stage again"""

    def __post_init__(self):
        require_ranges({"views": self.views}, least=1)
        require_ranges({"seed": self.seed, "workers": self.workers}, least=0)

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """Locks of the folders in which one run at a time may write."""
        return (self.parts / ".lock", self.runs / ".lock")


class Job:
    """What the stages share, and how each makes its part."""

    def __init__(self, config: Config):
        self.config = config
        self.device = use_device(config.device, config.precision, config.kernels)
        self.tree, weights = open_inputs(config.data, config.weights)
        self.shots = read_shots(config.data, config.shots, self.tree)
        self.label_space = self.tree.label_space.with_base(self.shots.ids)
        self.base = list(self.label_space.base_ids)
        self.labels = self.label_space.base_columns(self.shots.ids)
        self.texts = texts_of(self.label_space, config.text)
        self.names = [self.texts.names[k] for k in self.base]
        self.views = Views(config.views, config.crops, config.seed)
        self.encoder = Encoder(weights, self.device, config.cache, config.workers, config.prefetch)
        self._merged: dict[str, Encoder] = {}
        second = find_auxiliary(config.auxiliary)
        self.second = self.encoder.with_auxiliary_weights(second) if second else None
        self.schedule = Pipeline("clip_fewshot", self.stages(), config.parts)

    def stages(self) -> list[Stage]:
        """The stages in their order, with everything that their parts depend on."""
        config, shots = self.config, self.shots
        common = {
            "weights": self.encoder.weights_sha256,
            "code": code_version(*PARTS_CODE),
            "device": self.device,
            "precision": precision_in_use(),
        }
        text: dict[str, Any] = {"classes": list(self.label_space.names), "shots": shots.digest}
        text |= {"text": as_plain(config.text), "prompts": self.texts.files}
        fresh = common | {"seed": config.seed, "crops": as_plain(config.crops)}
        fresh["shots"] = shots.digest
        cached = fresh | {"views": config.views}
        prompt = cached | {"prompt": as_plain(config.prompt)}
        lora = fresh | {"lora": as_plain(config.lora)}
        head = cached | {"head": as_plain(config.head)}
        ood = cached | {"ood": as_plain(config.ood), "negatives": sha256_of(NEGATIVES)}
        ood["templates"] = sha256_of(TEMPLATES)
        stages = [
            Stage("text", common | text, self.make_text),
            Stage("prompt", prompt, self.make_prompt, ("text",)),
            Stage("lora", lora, self.make_lora, ("text",)),
            Stage("head", head, self.make_head, ("text", "prompt", "lora")),
            Stage("channel", head, self.make_channel, ("lora", "head")),
            Stage("gda", cached, self.make_gda, ("text",)),
            Stage("ood", ood, self.make_ood, ("text",)),
        ]
        if self.second:
            auxiliary = cached | {"auxiliary": self.second.weights_sha256}
            stages.append(Stage("auxiliary", auxiliary, self.make_auxiliary, ("text",)))
        return stages

    def merged(self, lora: dict) -> Encoder:
        """The encoder with a LoRA part merged, its model read once."""
        return self._merged.setdefault(lora["meta"]["key"], tuned_encoder(self.encoder, lora))

    def run_of(self, stage: str) -> Run:
        """A stage's folder of metrics and checkpoint; `fresh` drops what a stopped run left."""
        run = Run(self.config.runs / stage, {"stage": stage, "key": self.schedule.key(stage)})
        if self.config.fresh and is_main_process():
            run.checkpoint.unlink(missing_ok=True)
        barrier()
        return run

    def make_text(self, parts: Parts) -> dict:
        texts = self.texts
        vectors = self.encoder.encode_sentences(
            [text for group in texts.sentences for text in group]
        )
        weights = sentence_weights(texts, vectors, self.config.text)
        print(f"text: {len(vectors)} sentences from {', '.join(texts.files)}", flush=True)
        return {
            "class_names": list(self.label_space.names),
            "base_ids": self.base,
            "shots": self.shots.pairs,
            "logit_scale": self.encoder.logit_scale,
            "names": texts.names,
            "sentences": texts.sentences,
            "weights": [each.tolist() for each in weights],
            "text_features": class_vectors(vectors, weights),
        }

    def make_prompt(self, parts: Parts) -> dict:
        return train_prompt(
            self.config.prompt,
            self.encoder,
            self.names,
            self.encoder.encode_training_views(self.shots.paths, self.views),
            self.labels,
            parts["text"]["text_features"][self.base],
            self.run_of("prompt"),
            self.config.seed,
        )

    def make_lora(self, parts: Parts) -> dict:
        return train_lora(
            self.config.lora,
            self.encoder,
            self.shots.paths,
            self.labels,
            [parts["text"]["sentences"][k][0] for k in self.base],
            self.config.crops.flip,
            self.run_of("lora"),
            self.config.seed,
        )

    def make_head(self, parts: Parts) -> dict:
        encoder = self.merged(parts["lora"])
        vectors = tuned_text(encoder, parts["prompt"], parts["text"], self.config.seed)
        features = encoder.encode_training_views(self.shots.paths, self.views)
        text = vectors["class_vectors"]
        return vectors | train_head(self.config.head, features, self.labels, text)

    def make_channel(self, parts: Parts) -> dict:
        features = self.merged(parts["lora"]).encode_training_views(self.shots.paths, self.views)
        text = parts["head"]["class_vectors"]
        return train_channel(self.config.head, features, self.labels, text)

    def zero_shot(self, parts: Parts) -> np.ndarray:
        """Logits[N,K] of the shots."""
        rows = mean_views(self.encoder.encode_training_views(self.shots.paths, self.views))
        text = parts["text"]["text_features"][self.base]
        return text_logits(rows, text, self.encoder.logit_scale)

    def make_gda(self, parts: Parts) -> dict:
        features = self.encoder.encode_training_views(self.shots.paths, self.views)
        return train_gda(features, self.labels, self.zero_shot(parts))

    def make_ood(self, parts: Parts) -> dict:
        text = parts["text"]
        features = self.encoder.encode_training_views(self.shots.paths, self.views)
        negatives = mined_negatives(self.encoder, text["names"], text["text_features"])
        return train_ood(self.config.ood, features, self.labels, text, negatives)

    def make_auxiliary(self, parts: Parts) -> dict:
        assert self.second is not None  # else there is no such stage
        shots, logits = self.shots, self.zero_shot(parts)
        return train_auxiliary(self.second, shots.paths, self.views, self.labels, logits)


def run(config: Config) -> None:
    """Runs the schedule."""
    Job(config).schedule.run(until=config.until, only=config.only, fresh=config.fresh)
