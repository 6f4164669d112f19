"""A tuned loop with transformers and PyTorch, which `recipes.py` compares the recipe with.

    python benchmarks/recipes_theirs.py DATA OUT (--minutes M | --num_iters N) [--lr RATE] ...

DATA is the output of `nemo-bert prepare`. Our data layer draws the samples from it, and a batch is padded to
its longest sample. The model is `BertForPreTraining`, trained with bf16 autocast where the processor
multiplies bf16, torch.compile, fused AdamW, the gradient clipped to 1, and linear warm-up and decay to zero
within the minutes. OUT receives the model, and `status.json` with its figures on the held-out documents.
"""

import argparse
import json
import time
from itertools import count
from pathlib import Path

import torch
from transformers import BertConfig, BertForPreTraining

from nemo.backends.pytorch.ops.hardware import has_bf16_units
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.nm.data_layers import BertPretrainingDataLayer

WARM_UP = 0.1
SECONDS_TO_SAVE = 1.0


def main() -> None:
    began = time.monotonic()
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tokenizer = load_tokenizer(args.data / "bert")
    model = make_model(args, tokenizer.vocab_size)
    data = BertPretrainingDataLayer(
        tokenizer, args.data / "train", 128, batch_size=args.batch_size, shuffle=True, seed=args.seed
    )
    step, tokens = train(args, model, data, began)
    model.save_pretrained(args.out)
    held_out = BertPretrainingDataLayer(
        tokenizer, args.data / "test", 128, batch_size=32, seed=args.evaluation_seed
    )
    status = {"step": step, "tokens": tokens, **evaluated(model, held_out)}
    (args.out / "status.json").write_text(json.dumps(status))


def arguments() -> argparse.Namespace:
    """What was given on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--num_iters", type=int)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch_size", type=int, default=16, help="sequences per batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluation_seed", type=int, default=0, help="seed of the masks of held-out text")
    parser.add_argument("--threads", type=int, default=1)
    for name, default in (("num_hidden_layers", 4), ("hidden_size", 256), ("num_attention_heads", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens_per_batch", help="not used: --batch_size counts sequences here")
    return parser.parse_args()


def make_model(args: argparse.Namespace, vocab_size: int) -> BertForPreTraining:
    """A new model."""
    return BertForPreTraining(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=args.hidden_size,
            num_hidden_layers=args.num_hidden_layers,
            num_attention_heads=args.num_attention_heads,
            intermediate_size=4 * args.hidden_size,
            max_position_embeddings=128,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def train(
    args: argparse.Namespace, model: BertForPreTraining, data: BertPretrainingDataLayer, began: float
) -> tuple[int, int]:
    """Train until the time or the steps are used up; returns the numbers of steps and tokens."""
    compiled = torch.compile(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)

    def progress(step: int) -> float:
        if args.minutes is None:
            return step / args.num_iters
        return (time.monotonic() - began) / (60 * args.minutes - SECONDS_TO_SAVE)

    step = tokens = 0
    batches = (batch for epoch in count() for batch in data.batches(epoch))
    while (share := progress(step)) < 1:
        ids, types, mask, targets, chosen, labels = next(batches)
        rate = args.lr * min(share / WARM_UP, (1 - share) / (1 - WARM_UP))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 1e-3 * args.lr)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16_units(torch.device("cpu"))):
            loss = compiled(
                input_ids=ids,
                token_type_ids=types,
                attention_mask=mask,
                labels=targets.masked_fill(chosen == 0, -100),
                next_sentence_label=labels,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, tokens = step + 1, tokens + int(mask.sum())
    return step, tokens


@torch.no_grad()
def evaluated(model: BertForPreTraining, data: BertPretrainingDataLayer) -> dict[str, float]:
    """MLM loss in nats and accuracy, over all masked tokens; the entropy of these tokens' frequencies."""
    model.eval()
    losses, hits, targets = [], [], []
    for ids, types, mask, output_ids, chosen, _ in data.batches(0):
        scores = model(input_ids=ids, token_type_ids=types, attention_mask=mask).prediction_logits
        target = output_ids[chosen == 1]
        losses.append(torch.nn.functional.cross_entropy(scores[chosen == 1], target, reduction="none"))
        hits.append(scores[chosen == 1].argmax(-1) == target)
        targets.append(target)
    shares = torch.cat(targets).bincount().double() / sum(map(len, targets))
    return {
        "mlm_loss": float(torch.cat(losses).double().mean()),
        "mlm_accuracy": float(torch.cat(hits).double().mean()),
        "unigram_entropy": float(torch.special.entr(shares).sum()),
    }


if __name__ == "__main__":
    main()
