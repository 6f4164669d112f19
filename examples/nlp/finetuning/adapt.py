"""Adapt a BERT to a field: `python adapt.py BERT TEXT TRAIN TEST`.

BERT is a run's work folder, an export of `nemo-bert export`, or another Hugging Face folder; TEXT is text of
the field; TRAIN and TEST have a word and its label on each line. Prints the gain.
"""

import argparse
from pathlib import Path

from nemo.collections.nlp.adaptation.page import in_words, write_page
from nemo.collections.nlp.adaptation.run import adapt
from nemo.collections.nlp.options import AdaptationOptions


def main(bert, text, train, test, minutes, seeds, work_dir):
    task = {"task": "ner", "train": train, "test": test, "seeds": seeds}
    options = AdaptationOptions(model=bert, text=(text,), minutes=minutes, work_dir=work_dir, **task)
    adaptation = adapt(options)
    for name, score in adaptation.scores.items():
        print(f"{name}: {adaptation.figure} {in_words(score)}")
    print(adaptation.verdict)
    print(f"more in {write_page(adaptation, Path(work_dir))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bert", "text", "train", "test"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work_dir", default="outputs/adapt")
    main(**vars(parser.parse_args()))
