"""Classify texts with a BERT: `python text_classification.py TRAIN TEST BERT`.

Each line of TRAIN and TEST is a JSON object with `text` and `label`; BERT is an export of `nemo-bert export`,
or another Hugging Face folder. Prints the accuracy on TEST.
"""

import argparse
import json
from pathlib import Path

import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.common import CrossEntropyLossNM
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.trainables import SequenceClassifier, huggingface
from nemo.core import LabelsType, NeuralModuleFactory, NeuralType, SimpleLossLoggerCallback

ENCODED = huggingface.BERT.input_ports  # input_ids, token_type_ids, attention_mask


class LabeledTexts(DataLayerNM):
    output_ports = {**ENCODED, "label": NeuralType(("B",), LabelsType())}
    batch_size, shuffle = 16, True

    def __init__(self, examples, classes, tokenizer):
        labels = torch.tensor([classes.index(example["label"]) for example in examples])
        rows = tokenizer([e["text"] for e in examples], padding=True, truncation=True, return_tensors="pt")
        self.dataset = torch.utils.data.TensorDataset(*(rows[port] for port in ENCODED), labels)


def main(train, test, bert, lr, epochs):
    factory = NeuralModuleFactory(random_seed=0)
    examples = {path: [json.loads(line) for line in path.open(encoding="utf-8")] for path in (train, test)}
    classes = sorted({example["label"] for example in examples[train] + examples[test]})
    tokenizer = load_tokenizer(bert).to_huggingface()
    encoder = huggingface.BERT(pretrained_model_name=str(bert))
    tokenizer.model_max_length = min(128, encoder.config.max_position_embeddings)
    head = SequenceClassifier(encoder.hidden_size, len(classes), log_softmax=False)

    def wire(path):
        data = LabeledTexts(examples[path], classes, tokenizer)()
        hidden_states = encoder(**{port: getattr(data, port) for port in ENCODED})
        return head(hidden_states=hidden_states), data.label

    logits, labels = wire(train)
    loss = CrossEntropyLossNM()(logits=logits, labels=labels)
    factory.train([loss], "adam_w", {"lr": lr, "num_epochs": epochs}, [SimpleLossLoggerCallback(loss)])
    logits, labels = (torch.cat(batches) for batches in factory.infer(wire(test), verbose=False))
    print(f"accuracy on {test}: {(logits.argmax(-1) == labels).float().mean():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "test", "bert"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--epochs", type=int, default=3)
    main(**vars(parser.parse_args()))
