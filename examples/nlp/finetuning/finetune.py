"""Recognize named entities with a BERT: `python finetune.py BERT TRAIN TEST`.

BERT is a run's work folder, an export of `nemo-bert export`, or another Hugging Face folder. TRAIN and TEST
have a word and its label (O, B-<type>, I-<type>) on each line, and a blank line after each sentence. Prints
the metrics on TEST, and the entities in its first sentences.
"""

import argparse

from transformers import pipeline

from nemo.collections.nlp.finetuning.report import summary
from nemo.collections.nlp.finetuning.run import finetune
from nemo.collections.nlp.finetuning.sentences import read_sentences
from nemo.collections.nlp.options import FinetuningOptions


def main(bert, train, test, work_dir, lr):
    options = FinetuningOptions(model=bert, task="ner", train=train, test=test, work_dir=work_dir, lr=lr)
    result = finetune(options)
    print(summary(result))
    find = pipeline("token-classification", model=str(result.folder), aggregation_strategy="first")
    for sentence in read_sentences(test)[:3]:
        text = " ".join(sentence.words)
        found = ", ".join(f"{entity['word']} ({entity['entity_group']})" for entity in find(text))
        print(f"{text}\n    {found or 'nothing'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bert", "train", "test"):
        parser.add_argument(name)
    parser.add_argument("--work_dir", default="outputs/finetune")
    parser.add_argument("--lr", default="3e-5,1e-4,3e-4")
    main(**vars(parser.parse_args()))
