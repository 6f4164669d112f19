"""Add the words of a field to a BERT: `python extend_vocabulary.py BERT TEXT`.

BERT is a run's work folder, an export of `nemo-bert export`, or another Hugging Face folder with WordPieces;
TEXT is plain text, a file or a folder. `nemo-bert pretrain data_text --bert_checkpoint OUT --train_data TEXT`
continues training the new model.
"""

import argparse

from nemo.collections.nlp.extension.report import summary
from nemo.collections.nlp.extension.run import extend_vocabulary
from nemo.collections.nlp.options import ExtensionOptions


def main(bert, text, out, pieces):
    result = extend_vocabulary(ExtensionOptions(model=bert, text=(text,), out=out, pieces=pieces))
    print(summary(result))
    for piece, tokens in list(result.extension.saved.items())[:5]:
        print(f"{piece} saved {tokens} tokens of the text")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bert")
    parser.add_argument("text")
    parser.add_argument("--out", default="outputs/extended")
    parser.add_argument("--pieces", type=int)
    main(**vars(parser.parse_args()))
