"""Pretrain a BERT, as the tutorial does: `python bert_pretraining.py [args] data_text [args]`.

This is the same as `nemo-bert pretrain`. The pipeline, which is short enough to read, is in
`nemo/collections/nlp/nm/pretraining_model.py`. `--help` lists all options.
"""

import sys

from nemo.cli.main import program

if __name__ == "__main__":
    program(["pretrain", *sys.argv[1:]])
