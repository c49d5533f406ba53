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
from data.few_shot_dataset import Sample, list_test_images, read_labels
from data.inputs import AUXILIARY, find_auxiliary, open_inputs
from data.views import Crops, Views
from engine.config import as_plain, from_plain, parse, require_ranges
from engine.device import Device, Kernels, Precision, use_device
from fewshot.evaluation.report.page import write_report
from fewshot.evaluation.scores import as_text, scores_of, write_scores
from fewshot.features.encoder import Encoder
from fewshot.inference import submission
from fewshot.inference.ensemble import NEEDED
from fewshot.inference.predictions import Predictions, joined
from fewshot.inference.scorer import InferenceConfig, Scorer
from fewshot.inference.shards import ChunkStore, select_shard, split_into_chunks
from fewshot.provenance.links import scored_from
from fewshot.provenance.manifest import write_manifest
from fewshot.provenance.verify import read_manifest, verdict
from fewshot.stages.lora import tuned_encoder
from fewshot.stages.pipeline import Parts, read_parts, read_record
from runtime.distributed import barrier, is_main_process, rank, single_process, world_size
from runtime.signals import report_progress_on_stop
from weight_files.hashing import sha256_of


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
    """second, frozen encoder, where the parts were trained with one"""
    parts: Path = Path("test_pkl")
    """folder of the trained parts"""
    out: Path = Path(".")
    """folder for result.txt, result.zip, manifest.json, report.html and finished shards"""
    labels: Path | None = None
    """lines of "image label", to print accuracies; read after the result is written"""
    views: int = 64
    """views of each image: the centre view and random crops; 1 for the centre view alone"""
    tta: Literal["mta", "zero", "mean", "none"] = "mta"
    """how views become one: MTA, ZERO, their mean, or the centre view alone"""
    scale: tuple[float, float] | None = None
    """share of the image's area that a crop takes, least and most; else as the shots' crops"""
    flip: bool | None = None
    """mirror every other crop; else as the shots' crops"""
    seed: int = 1
    """seed of the crops"""
    ood: Literal["gp", "names", "negatives", "mcm"] = "gp"
    """score of base against new: names and shots, names, NegLabel, or the surest base class"""
    routing: Literal["soft", "hard", "none"] = "soft"
    """base and new classes share an image by the filter's odds, by its threshold, or not at all"""
    shard: str = ""
    """i/n scores every n-th piece only, from the i-th on; a run without it writes the result"""
    merge: bool = False
    """write the result from finished shards alone; all must be there"""
    report: bool = True
    """write report.html"""
    verify: Path | None = None
    """manifest.json of an earlier run: do it again in a folder of its own, and compare"""
    cache: Path = Path("cache")
    """folder for cached features"""
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

    def __post_init__(self):
        require_ranges({"views": self.views, "prefetch": self.prefetch}, least=1)
        require_ranges({"seed": self.seed, "workers": self.workers}, least=0)
        if self.shard and self.merge:
            raise ValueError("shard and merge exclude each other: run all shards, then merge")

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """The lock of the folder in which one run at a time may write; shards have their own."""
        return (self.out / (f".lock.{self.shard.replace('/', 'of')}" if self.shard else ".lock"),)


def true_labels(items: list[Sample], labels: Path | None) -> np.ndarray | None:
    """labels[N] from the file, else from a layout that gives them, else None."""
    if labels:
        known = read_labels(labels)
        missing = [item.name for item in items if item.name not in known]
        if missing:
            more = f" and {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise ValueError(f"{labels}: no label for {missing[0]}{more}")
        return np.array([known[item.name] for item in items])
    if all(item.label is not None for item in items):
        return np.array([item.label for item in items])
    return None


def encoders_of(config: Config, weights: Path, parts: Parts) -> list[Encoder]:
    """CLIP as it came, CLIP with LoRA merged and, where the parts need it, the auxiliary encoder.

    Raises ValueError where a weight file is not the one that the parts were trained with.
    """
    device = use_device(config.device, config.precision, config.kernels)
    encoder = Encoder(weights, device, config.cache, config.workers, config.prefetch)
    if encoder.weights_sha256 != parts["text"]["meta"]["inputs"]["weights"]:
        raise ValueError(f"{config.parts}: trained with another weight file than {weights}")
    encoders = [encoder, tuned_encoder(encoder, parts["lora"])]
    if "auxiliary" in parts:
        file = find_auxiliary(config.auxiliary)
        remedy = f"put it there, or delete {config.parts / 'auxiliary.pkl'} to do without"
        if file is None:
            raise ValueError(f"the parts need the auxiliary weights {config.auxiliary}: {remedy}")
        encoders.append(encoder.with_auxiliary_weights(file))
        if encoders[-1].weights_sha256 != parts["auxiliary"]["weights"]:
            raise ValueError(f"{file}: not the auxiliary weights of these parts: {remedy}")
    return encoders


def looks_of(config: Config, parts: Parts) -> InferenceConfig:
    """How to look at an image; crops are the shots' where the configuration says nothing."""
    crops = parts["head"]["meta"]["inputs"]["crops"]
    scale = config.scale or tuple(crops["scale"])
    flip = crops["flip"] if config.flip is None else config.flip
    count = 1 if config.tta == "none" else config.views
    return InferenceConfig(
        config.tta, Views(count, Crops(scale, flip), config.seed), config.ood, config.routing
    )


def score_pieces(config: Config, items: list[Sample], scorer: Scorer, store: ChunkStore) -> int:
    """Scores this shard's and this rank's pieces that are not there yet; returns how many images
    they have.
    """
    pieces = select_shard(split_into_chunks(items), config.shard)[rank() :: world_size()]
    total = sum(map(len, pieces))
    done = 0
    with single_process(), tqdm(total=total, desc="test", unit="image", disable=None) as bar:
        for piece in pieces:
            path = store.path(piece)
            if not path.exists():
                names, paths = [item.name for item in piece], [item.path for item in piece]
                with report_progress_on_stop(f"{done} of {total} images"):
                    outcome = scorer(names, paths, bar.update)
                if store.path(piece) != path:
                    raise ValueError(
                        f"{paths[0]} or one of the {len(piece) - 1} images behind it changed while "
                        "it was scored: run again, what is finished is kept"
                    )
                store.save(path, outcome)
            done += len(piece)
            bar.update(done - bar.n)
    barrier()
    return total


def write_result(out: Path, outcome: Predictions, num_classes: int) -> None:
    """result.txt and result.zip, each read back and held to its form."""
    submission.write(out / "result.txt", outcome.names, outcome.ids, num_classes)
    submission.zip_result(out / "result.txt", out / "result.zip")
    submission.validate(out / "result.txt", outcome.names, num_classes)
    submission.validate_zip(out / "result.zip", outcome.names, num_classes)


def run(config: Config) -> None:
    """Scores, writes and validates the result; with labels, prints the tables too."""
    tree, weights = open_inputs(config.data, config.weights)
    items = list_test_images(tree, config.images)
    submission.require_names(config.images, [item.name for item in items])
    trained = (config.parts / "auxiliary.pkl").exists()
    parts = read_parts(config.parts, NEEDED + ("auxiliary",) * trained)
    if parts["text"]["class_names"] != list(tree.label_space.names):
        raise ValueError(f"{config.parts}: trained for other classes than those of {config.data}")
    hashes = {f"{stage}.pkl": sha256_of(config.parts / f"{stage}.pkl") for stage in parts}
    scorer = Scorer(encoders_of(config, weights, parts), parts, hashes, looks_of(config, parts))
    store = ChunkStore(config.out / "shards", scorer.setup())
    if not config.merge:
        count = score_pieces(config, items, scorer, store)
    if config.shard:
        print(f"test: shard {config.shard}, {count} of {len(items)} images -> {store.folder}")
        return
    if not is_main_process():
        return
    outcome = joined(list(store.found(split_into_chunks(items))))
    for stale in ("scores.json", "report.html"):  # of another result
        (config.out / stale).unlink(missing_ok=True)
    write_result(config.out, outcome, len(tree.label_space.names))
    trained_on = write_manifest(config.out, as_plain(config), scorer, items, outcome)
    print(f"test: {len(outcome)} images -> {config.out / 'result.txt'}, valid")
    if outcome.skipped:
        print(summarize_skipped(outcome.skipped))
    if trained_on:
        print(f"{trained_on} of these images are among the shots that the parts were trained on")
    truth, rows = true_labels(items, config.labels), None
    if truth is not None:
        record = read_record(config.parts)
        scores = scores_of(outcome, truth, tree.label_space, parts, record, scorer.threshold)
        source = scored_from(config.out / "result.txt", config.labels)
        write_scores(
            config.out / "scores.json", scores | {"trained_on": trained_on, "made_from": source}
        )
        rows = scores["rows"]
        print(f"\n{as_text(scores)}")
    if config.report:
        write_report(
            config.out / "report.html",
            outcome,
            tree.label_space,
            threshold=scorer.threshold,
            truth=truth,
            rows=rows,
            seconds=seconds_of(config, scorer),
            settings=settings_of(config, scorer),
            picture=lambda index, view: scorer.picture(items[index].path, view),
        )


def seconds_of(config: Config, scorer: Scorer) -> dict[str, float | None]:
    """Seconds of each stage of training and of this run's own work."""
    record = read_record(config.parts)
    seconds = {f"training: {stage}": entry["seconds"] for stage, entry in record.items()}
    return seconds | {f"this test: {what}": value for what, value in scorer.seconds.items()}


def settings_of(config: Config, scorer: Scorer) -> dict:
    """What the report says of a run."""
    looks = scorer.looks
    settings = {"test images": config.images, "weights": config.weights, "views": looks.views.count}
    settings |= {
        "share of the image in a crop": looks.views.crops.scale,
        "mirrored crops": looks.views.crops.flip,
    }
    settings |= {"views become one by": looks.tta, "score of base": looks.ood}
    return settings | {"routing": looks.routing, "device": scorer.encoders[0].device}


def verify(manifest: Path, arguments: list[str]) -> None:
    """Does again what the manifest describes, but for what the arguments say, and compares.

    Nothing of the first run is used but the inputs. Ends with status 1 where results differ.
    """
    recorded = from_plain(Config, read_manifest(manifest)["config"], "test.py")
    recorded = replace(recorded, shard="", merge=False)
    given = parse(Config, arguments, "test.py", recorded)
    with tempfile.TemporaryDirectory(prefix="verify") as name:
        folder = Path(name)
        alone: dict[str, Any] = {"out": folder, "cache": folder / "cache"}
        alone |= {"labels": None, "report": False}
        run(replace(given, verify=None, shard="", merge=False, **alone))
        lines = verdict(manifest, folder)
    if lines:
        sys.exit("\n  ".join([f"verify: {manifest}: the result is another one", *lines]))
    print(f"verify: {manifest}: identical")
