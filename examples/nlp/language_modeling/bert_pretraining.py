"""Pretrain a BERT, as the tutorial does: `python bert_pretraining.py [args] data_text [args]`.

The same function behind another door is `nemo-bert pretrain`; the pipeline itself, short enough to read, is
`nemo/collections/nlp/nm/pretraining_model.py`. `--help` lists every option.
"""

import sys

from nemo.cli.main import program

if __name__ == "__main__":
    program(["pretrain", *sys.argv[1:]])
