"""The text stage: class vectors of hand-made sentences."""

from engine.plain_data import to_plain
from fewshot.stages.parts import TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.task import Task
from fewshot.text.class_texts import TextConfig, compute_class_vectors, load_texts, weigh_sentences


def text_stage(task: Task, config: TextConfig) -> Stage:
    """Returns the stage that reads prompts/ and encodes the sentences of every class."""
    texts = load_texts(task.label_space, config)

    def make() -> TextPart:
        vectors = task.encoder.encode_sentences([s for group in texts.sentences for s in group])
        weights = weigh_sentences(texts, vectors, config)
        print(f"text: {len(vectors)} sentences from {', '.join(texts.files)}", flush=True)
        return TextPart(
            label_space=task.label_space,
            shots=task.shots.pairs,
            weights_sha256=task.encoder.weights_sha256,
            logit_scale=task.encoder.logit_scale,
            names=texts.names,
            sentences=texts.sentences,
            sentence_weights=[of_class.tolist() for of_class in weights],
            text_features=compute_class_vectors(vectors, weights),
        )

    inputs = {"classes": list(task.label_space.names), "text": to_plain(config)}
    inputs |= {"prompts": texts.files}
    return Stage("text", TextPart, task.inputs | inputs, make)
