"""Predicts the classes of test images with trained parts: what `python test.py` runs.

Writes result.txt, result.zip, manifest.json and report.html; with labels also scores.json and a
table of what each part contributes.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from data.decoding import summarize_skipped
from data.few_shot_dataset import Sample, list_test_images
from data.inputs import AUXILIARY, find_auxiliary, open_inputs
from data.lists import read_labels
from data.views import Views
from engine.config import parse, require_ranges, restore_config
from engine.device import Device, Kernels, Precision, use_device
from engine.plain_data import to_plain
from fewshot.features.encoder import Encoder
from fewshot.inference import submission
from fewshot.inference.predictions import Predictions, concatenate
from fewshot.inference.scorer import Encoders, InferenceConfig, Scorer
from fewshot.inference.shards import ChunkStore, select_shard, split_into_chunks
from fewshot.provenance.files import source_of_scores
from fewshot.provenance.manifest import write_manifest
from fewshot.stages.parts import Parts, part_path, read_parts
from fewshot.stages.record import StageRecord, read_record
from runtime.distributed import barrier, is_main_process, rank, single_process, world_size
from runtime.signals import report_progress_on_stop


@dataclass(frozen=True)
class Config:
    """Scores test images with the trained parts and writes the submission."""

    images: str = "TestSetB"
    """test images: TestSetA, TestSetB, or a folder or list of images"""
    data: Path = Path("Dataset")
    """the data that the parts were trained on: class lists and test sets"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path = AUXILIARY
    """second, frozen encoder; needed if the parts were trained with one"""
    parts: Path = Path("test_pkl")
    """folder of the trained parts"""
    out: Path = Path(".")
    """folder for result.txt, result.zip, manifest.json, report.html and finished chunks"""
    labels: Path | None = None
    """lines of "image label", to print accuracies; read after the result is written"""
    views: int = 64
    """views of each image: the centre view and random crops; 1 for the centre view alone"""
    tta: Literal["mta", "zero", "mean", "none"] = "mta"
    """how the views of an image are aggregated: MTA, ZERO, their mean, or the centre view alone"""
    scale: tuple[float, float] | None = None
    """smallest and largest share of the image's area that a crop takes; else as in training"""
    flip: bool | None = None
    """whether crops are mirrored at random; else as in training"""
    seed: int = 1
    """seed of the crops"""
    ood: Literal["gp", "names", "negatives", "mcm"] = "gp"
    """score that tells base from new classes; gp is the Gaussian-process filter"""
    routing: Literal["soft", "hard", "none"] = "soft"
    """how base and new classes share an image: by that score's odds, by its threshold, or not"""
    shard: str = ""
    """i/n scores every n-th chunk of 64 images only, from the i-th on, and writes no result"""
    merge: bool = False
    """write the result from finished chunks alone; all must be there"""
    report: bool = True
    """write report.html"""
    verify: Path | None = None
    """manifest.json of an earlier run, to repeat in a temporary folder and compare the results"""
    cache: Path = Path("cache")
    """folder for cached features"""
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

    def __post_init__(self):
        require_ranges({"views": self.views, "prefetch": self.prefetch}, least=1)
        require_ranges({"seed": self.seed, "workers": self.workers}, least=0)
        if self.shard and self.merge:
            raise ValueError("shard and merge exclude each other: run all shards, then merge")

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """The lock of the folder in which one run at a time may write; shards have their own."""
        return (self.out / (f".lock.{self.shard.replace('/', 'of')}" if self.shard else ".lock"),)


def run(config: Config) -> None:
    """Scores the test images, writes the result and, with labels, prints the tables."""
    dataset, weights = open_inputs(config.data, config.weights)
    samples = list_test_images(dataset, config.images)
    submission.require_names(config.images, [sample.name for sample in samples])
    parts = read_parts(config.parts)
    if parts.text.label_space.names != dataset.label_space.names:
        raise ValueError(f"{config.parts}: trained for other classes than those of {config.data}")
    encoders = make_encoders(config, weights, parts)
    scorer = Scorer(encoders, parts, inference_config(config, parts))
    store = ChunkStore(config.out / "shards", scorer.setup())
    if not config.merge:
        count = score_chunks(config.shard, samples, scorer, store)
    if config.shard:
        print(f"test: shard {config.shard}, {count} of {len(samples)} images -> {store.folder}")
        return
    if not is_main_process():
        return
    predictions = concatenate(list(store.load_all(split_into_chunks(samples))))
    for stale in ("scores.json", "report.html"):  # of another result
        (config.out / stale).unlink(missing_ok=True)
    result = config.out / "result.txt"
    submission.write(result, predictions.names, predictions.ids, len(parts.text.label_space))
    submission.zip_result(result, config.out / "result.zip")
    trained_on = write_manifest(config.out, to_plain(config), scorer, samples, predictions)
    print(f"test: {len(predictions)} images -> {result}, valid")
    if predictions.skipped:
        print(summarize_skipped(predictions.skipped))
    if trained_on:
        print(f"{trained_on} of these images are among the shots that the parts were trained on")
    evaluate(config, scorer, samples, predictions, trained_on)


def make_encoders(config: Config, weights: Path, parts: Parts) -> Encoders:
    """Returns the encoders that the parts need.

    Raises ValueError if a weight file is not the one that the parts were trained with.
    """
    device = use_device(config.device, config.precision, config.kernels)
    plain = Encoder(weights, device, config.cache, config.workers, config.prefetch)
    if plain.weights_sha256 != parts.text.weights_sha256:
        raise ValueError(f"{config.parts}: trained with another weight file than {weights}")
    tuned = plain.with_lora(parts.lora.config, parts.lora.state)
    if parts.auxiliary is None:
        return Encoders(plain, tuned)
    path = find_auxiliary(config.auxiliary)
    remedy = f"put it there, or delete {part_path(config.parts, 'auxiliary')} to do without"
    if path is None:
        raise ValueError(f"the parts need the auxiliary weights {config.auxiliary}: {remedy}")
    auxiliary = plain.with_auxiliary_weights(path)
    if auxiliary.weights_sha256 != parts.auxiliary.weights_sha256:
        raise ValueError(f"{path}: not the auxiliary weights of these parts: {remedy}")
    return Encoders(plain, tuned, auxiliary)


def inference_config(config: Config, parts: Parts) -> InferenceConfig:
    """Returns how images are seen; crops are those of the training unless they are configured."""
    crops = parts.head.views.crops
    if config.scale is not None:
        crops = replace(crops, scale=config.scale)
    if config.flip is not None:
        crops = replace(crops, flip=config.flip)
    count = 1 if config.tta == "none" else config.views
    views = Views(count, crops, config.seed)
    return InferenceConfig(config.tta, views, config.ood, config.routing)


def score_chunks(shard: str, samples: list[Sample], scorer: Scorer, store: ChunkStore) -> int:
    """Scores the chunks of this shard and rank that are not stored yet.

    Returns the number of images in all chunks of this shard and rank.
    """
    chunks = select_shard(split_into_chunks(samples), shard)[rank() :: world_size()]
    total, done = sum(map(len, chunks)), 0
    with single_process(), tqdm(total=total, desc="test", unit="image", disable=None) as bar:
        for chunk in chunks:
            path = store.path(chunk)
            if not path.exists():
                names, paths = [s.name for s in chunk], [s.path for s in chunk]
                with report_progress_on_stop(f"{done} of {total} images"):
                    predictions = scorer(names, paths, bar.update)
                if store.path(chunk) != path:
                    raise ValueError(
                        f"{paths[0]} or one of the {len(chunk) - 1} images behind it changed while "
                        "it was scored: run again, finished chunks are kept"
                    )
                store.save(path, predictions)
            done += len(chunk)
            bar.update(done - bar.n)
    barrier()
    return total


def evaluate(
    config: Config, scorer: Scorer, samples: list[Sample], predictions: Predictions, trained_on: int
) -> None:
    """Writes and prints the scores if there are labels, and writes the report."""
    label_space, record = scorer.label_space, read_record(config.parts)
    truth, scores = true_labels(samples, config.labels), None
    if truth is not None:
        from fewshot.evaluation.tables import format_scores, make_scores, write_scores

        parts = scorer.parts.by_stage
        scores = make_scores(predictions, truth, label_space, parts, record, scorer.threshold)
        source = source_of_scores(config.out / "result.txt", config.labels)
        scores |= {"trained_on": trained_on, "made_from": source}
        write_scores(config.out / "scores.json", scores)
        print(f"\n{format_scores(scores)}")
    if config.report:
        from fewshot.evaluation.report.page import write_report  # loads matplotlib and Jinja
        from fewshot.evaluation.report.pictures import make_picture

        write_report(
            config.out / "report.html",
            predictions,
            label_space,
            threshold=scorer.threshold,
            truth=truth,
            scores=scores,
            seconds=seconds_by_step(record, scorer),
            settings=report_settings(config, scorer),
            picture=lambda index, view: make_picture(
                samples[index].path, scorer.config.views, view
            ),
        )


def true_labels(samples: list[Sample], labels: Path | None) -> np.ndarray | None:
    """Returns labels[N] from the file, else from the layout of the test set; None without either.

    Raises ValueError if the file lacks an image.
    """
    if labels:
        label_of = read_labels(labels)
        missing = [sample.name for sample in samples if sample.name not in label_of]
        if missing:
            more = f" and {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise ValueError(f"{labels}: no label for {missing[0]}{more}")
        return np.array([label_of[sample.name] for sample in samples])
    if all(sample.label is not None for sample in samples):
        return np.array([sample.label for sample in samples])
    return None


def seconds_by_step(record: dict[str, StageRecord], scorer: Scorer) -> dict[str, float | None]:
    """Returns the seconds of each stage of the training and of each step of this run."""
    seconds = {f"training: {stage}": entry.seconds for stage, entry in record.items()}
    return seconds | {f"this test: {step}": value for step, value in scorer.seconds.items()}


def report_settings(config: Config, scorer: Scorer) -> dict:
    """Returns the settings of this run that the report lists."""
    views = scorer.config.views
    return {
        "test images": config.images,
        "weights": config.weights,
        "views": views.count,
        "share of the image in a crop": views.crops.scale,
        "mirrored crops": views.crops.flip,
        "aggregation of views": config.tta,
        "score of base against new": config.ood,
        "routing": config.routing,
        "device": scorer.encoders.plain.device,
    }


def verify(manifest: Path, arguments: list[str]) -> None:
    """Repeats the run that the manifest describes, with changes by the arguments, and compares.

    Only the inputs of the first run are used. Ends with status 1 if the results differ.
    """
    from fewshot.provenance.verify import compare_results, read_manifest

    recorded = restore_config(Config, read_manifest(manifest)["config"], "test.py")
    recorded = replace(recorded, shard="", merge=False)
    config = parse(Config, arguments, "test.py", recorded)
    with tempfile.TemporaryDirectory(prefix="verify") as name:
        folder = Path(name)
        changes: dict[str, Any] = {"out": folder, "cache": folder / "cache", "verify": None}
        changes |= {"labels": None, "report": False, "shard": "", "merge": False}
        run(replace(config, **changes))
        lines = compare_results(manifest, folder)
    if lines:
        sys.exit("\n  ".join([f"verify: {manifest}: the result differs", *lines]))
    print(f"verify: {manifest}: identical")
