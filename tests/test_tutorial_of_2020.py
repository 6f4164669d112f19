"""The calls of NeMo 0.10's tutorial, in its order and with its arguments, where its text could run at all.

Its slips (names used before they are there, unbalanced brackets, `args` hidden by `**args`) are put right;
everything else is as people have it in their scripts.
"""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import nemo
import nemo.collections.nlp as nemo_nlp
from nemo import logging
from nemo.cli.main import main
from nemo.collections.nlp.nm.trainables.common.token_classification_nm import ACT2FN
from nemo.utils.lr_policies import get_lr_policy
from tests.conftest import write_wikitext
from tests.test_tutorials import held_out, last_step, write_pretrained_bert

args = SimpleNamespace(
    data_dir="data/wikitext-2",
    dataset_name="wikitext-2",
    vocab_size=300,
    sample_size=10_000_000,
    mask_probability=0.15,
    short_seq_prob=0.1,
    max_predictions_per_seq=20,
    max_seq_length=32,
    num_hidden_layers=1,
    hidden_size=32,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_act="gelu",
    local_rank=None,
    amp_opt_level="O0",
    num_gpus=1,
    batch_size=16,
    batches_per_step=2,
    num_iters=6,
    num_epochs=1,
    optimizer="novograd",
    lr=0.01,
    lr_policy="CosineAnnealing",
    lr_warmup_proportion=0.05,
    beta1=0.95,
    beta2=0.25,
    weight_decay=0,
    load_dir=None,
    train_step_freq=2,
    eval_step_freq=10,
    save_epoch_freq=1,
    save_step_freq=10,
)


@pytest.fixture
def work_dir(tmp_path, monkeypatch) -> str:
    """A folder in the working folder, which has the corpus, and two models where the hub would have them."""
    monkeypatch.chdir(tmp_path)
    write_wikitext(Path(args.data_dir))
    for name in ("bert-base-uncased", "bert-base-cased"):
        write_pretrained_bert(Path(name), Path(args.data_dir, "train.txt"))
    return "outputs/bert_lm"


def make_data_desc(special_tokens):
    return nemo_nlp.data.BERTPretrainingDataDesc(
        dataset_name=args.dataset_name,
        train_data=args.data_dir,
        vocab_size=args.vocab_size,
        sample_size=args.sample_size,
        special_tokens=special_tokens,
    )


def make_factory(work_dir):
    return nemo.core.NeuralModuleFactory(
        backend=nemo.core.Backend.PyTorch,
        local_rank=args.local_rank,
        optimization_level=args.amp_opt_level,
        log_dir=work_dir,
        create_tb_writer=True,
        files_to_copy=[__file__],
    )


def write_shards() -> str:
    """Prepare the text; returns the folder with the shards for training and those that are held out."""
    phase = f"{args.max_seq_length}/{args.max_predictions_per_seq}"
    words = ["prepare", f"{args.data_dir}/train.txt", "--out", "data/prepared", "--workers", "1"]
    assert main([*words, "--tokenizer", "bert-base-cased", "--phases", phase, "--test_fraction", "0.2"]) == 0
    (folder,) = Path("data/prepared").glob("hdf5_*")
    return str(folder)


def make_bert():
    return nemo_nlp.nm.trainables.huggingface.BERT(
        vocab_size=args.vocab_size,
        num_hidden_layers=args.num_hidden_layers,
        hidden_size=args.hidden_size,
        num_attention_heads=args.num_attention_heads,
        intermediate_size=args.intermediate_size,
        max_position_embeddings=args.max_seq_length,
        hidden_act=args.hidden_act,
    )


def make_model(bert_model, hidden_size, vocab_size):
    """The classifiers, tied, and the losses: bert_model and what the pipeline calls."""
    mlm_classifier = nemo_nlp.nm.trainables.BertTokenClassifier(
        hidden_size, num_classes=vocab_size, activation=ACT2FN[args.hidden_act], log_softmax=True
    )
    mlm_loss_fn = nemo_nlp.nm.losses.SmoothedCrossEntropyLoss()
    nsp_classifier = nemo_nlp.nm.trainables.SequenceClassifier(
        hidden_size, num_classes=2, num_layers=2, activation="tanh", log_softmax=False
    )
    nsp_loss_fn = nemo.backends.pytorch.common.CrossEntropyLossNM()
    bert_loss = nemo.backends.pytorch.common.losses.LossAggregatorNM(num_inputs=2)
    mlm_classifier.tie_weights_with(
        bert_model,
        weight_names=["mlp.last_linear_layer.weight"],
        name2name_and_transform={
            "mlp.last_linear_layer.weight": (
                "bert.embeddings.word_embeddings.weight",
                nemo.core.WeightShareTransform.SAME,
            )
        },
    )
    return bert_model, mlm_classifier, mlm_loss_fn, nsp_classifier, nsp_loss_fn, bert_loss


def make_pipeline(model, data_layer):
    """What is the same for both kinds of data."""
    bert_model, mlm_classifier, mlm_loss_fn, nsp_classifier, nsp_loss_fn, bert_loss = model
    steps_per_epoch = len(data_layer) // (args.batch_size * args.num_gpus * args.batches_per_step)
    input_data = data_layer()
    hidden_states = bert_model(
        input_ids=input_data.input_ids,
        token_type_ids=input_data.input_type_ids,
        attention_mask=input_data.input_mask,
    )
    mlm_logits = mlm_classifier(hidden_states=hidden_states)
    mlm_loss = mlm_loss_fn(
        logits=mlm_logits, labels=input_data.output_ids, output_mask=input_data.output_mask
    )
    nsp_logits = nsp_classifier(hidden_states=hidden_states)
    nsp_loss = nsp_loss_fn(logits=nsp_logits, labels=input_data.labels)
    loss = bert_loss(loss_1=mlm_loss, loss_2=nsp_loss)
    return loss, mlm_loss, nsp_loss, steps_per_epoch


def train(nf, bert_model, train_loss, eval_loss, lr_policy_fn, **length):
    """The three callbacks, the configuration's file, and `nf.train`."""
    train_callback = nemo.core.SimpleLossLoggerCallback(
        tensors=[train_loss],
        print_func=lambda x: logging.info("Loss: {:.3f}".format(x[0].item())),  # noqa: UP032
        step_freq=args.train_step_freq,
    )
    eval_callback = nemo.core.EvaluatorCallback(
        eval_tensors=[eval_loss],
        user_iter_callback=nemo_nlp.callbacks.lm_bert_callback.eval_iter_callback,
        user_epochs_done_callback=nemo_nlp.callbacks.lm_bert_callback.eval_epochs_done_callback,
        eval_step=args.eval_step_freq,
    )
    ckpt_callback = nemo.core.CheckpointCallback(
        folder=nf.checkpoint_dir,
        epoch_freq=args.save_epoch_freq,
        load_from_folder=args.load_dir,
        step_freq=args.save_step_freq,
    )
    config_path = f"{nf.checkpoint_dir}/bert-config.json"
    if not os.path.exists(config_path):
        bert_model.config.to_json_file(config_path)
    nf.train(
        tensors_to_optimize=[train_loss],
        lr_policy=lr_policy_fn,
        callbacks=[train_callback, eval_callback, ckpt_callback],
        optimizer=args.optimizer,
        optimization_params={
            "batch_size": args.batch_size,
            **length,
            "lr": args.lr,
            "betas": (args.beta1, args.beta2),
            "weight_decay": args.weight_decay,
        },
    )


@pytest.mark.slow
def test_raw_text(work_dir, capsys):
    special_tokens = nemo_nlp.data.get_bert_special_tokens("bert")
    data_desc = make_data_desc(special_tokens)
    shutil.copy(data_desc.tokenizer_model, "tokenizer.model")
    tokenizer = nemo_nlp.data.SentencePieceTokenizer(model_path="tokenizer.model")
    tokenizer.add_special_tokens(special_tokens)

    nf = make_factory(work_dir)
    bert_model = make_bert()
    nemo.core.CheckpointCallback(folder=nf.checkpoint_dir, load_from_folder=args.load_dir)
    model = make_model(bert_model, args.hidden_size, args.vocab_size)

    def create_pipeline(
        data_file,
        preprocessed_data,
        max_seq_length,
        mask_probability,
        short_seq_prob,
        batch_size,
        batches_per_step,
        mode,
    ):
        data_layer = nemo_nlp.nm.data_layers.BertPretrainingDataLayer(
            tokenizer, data_file, max_seq_length, mask_probability, short_seq_prob, batch_size
        )
        return make_pipeline(model, data_layer)

    shared = {
        "preprocessed_data": False,
        "max_seq_length": args.max_seq_length,
        "mask_probability": args.mask_probability,
        "short_seq_prob": args.short_seq_prob,
        "batch_size": args.batch_size,
        "batches_per_step": args.batches_per_step,
    }
    train_loss, _, _, steps_per_epoch = create_pipeline(
        data_file=data_desc.train_file, mode="train", **shared
    )
    eval_loss, _, _, _ = create_pipeline(data_file=data_desc.eval_file, mode="eval", **shared)
    lr_policy_fn = get_lr_policy(
        args.lr_policy,
        total_steps=args.num_epochs * steps_per_epoch,
        warmup_ratio=args.lr_warmup_proportion,
    )
    train(nf, bert_model, train_loss, eval_loss, lr_policy_fn, num_epochs=args.num_epochs)

    log = capsys.readouterr().out
    assert "Loss: " in log
    mlm_losses = held_out(log, "MLM loss")
    assert mlm_losses[-1] < mlm_losses[0]
    assert last_step(work_dir) >= steps_per_epoch
    assert Path(nf.checkpoint_dir, "bert-config.json").is_file()
    copies = [path.name for path in Path(work_dir).glob(f"{Path(__file__).stem}_*.py")]
    assert len(copies) == 1


@pytest.mark.slow
@pytest.mark.parametrize("address", ["nm.data_layers", "the old one"])
def test_preprocessed_data_over_a_pretrained_model(address, work_dir, capsys):
    shards = write_shards()
    nf = make_factory(work_dir)
    names = [known.pretrained_model_name for known in nemo_nlp.huggingface.BERT.list_pretrained_models()]
    assert "bert-base-cased" in names
    bert_model = nemo_nlp.nm.trainables.huggingface.BERT(pretrained_model_name="bert-base-cased")
    model = make_model(bert_model, bert_model.config.hidden_size, bert_model.config.vocab_size)

    def create_pipeline(
        data_file, preprocessed_data, max_predictions_per_seq, batch_size, batches_per_step, mode
    ):
        if address == "the old one":
            data_layer = nemo_nlp.BertPretrainingPreprocessedDataLayer(
                data_file, max_predictions_per_seq, batch_size, mode
            )
        else:  # 0.10's own signature
            data_layer = nemo_nlp.nm.data_layers.BertPretrainingPreprocessedDataLayer(
                data_file, max_predictions_per_seq, mode, batch_size
            )
        return make_pipeline(model, data_layer)

    shared = {
        "preprocessed_data": True,
        "max_predictions_per_seq": args.max_predictions_per_seq,
        "batch_size": args.batch_size,
        "batches_per_step": args.batches_per_step,
    }
    train_loss, _, _, _ = create_pipeline(data_file=shards, mode="train", **shared)
    eval_loss, _, _, _ = create_pipeline(data_file=shards, mode="eval", **shared)
    lr_policy_fn = get_lr_policy(
        args.lr_policy, total_steps=args.num_iters, warmup_ratio=args.lr_warmup_proportion
    )
    train(nf, bert_model, train_loss, eval_loss, lr_policy_fn, max_steps=args.num_iters)
    assert last_step(work_dir) == args.num_iters
    assert len(held_out(capsys.readouterr().out, "NSP loss")) == 2


@pytest.mark.slow
def test_each_tokenizer_line_by_itself(work_dir):
    special_tokens = nemo_nlp.data.get_bert_special_tokens("bert")
    make_data_desc(special_tokens=None)  # which leaves tokenizer.model and vocab.txt in [data_dir]/bert
    for name in ("tokenizer.model", "vocab.txt"):
        shutil.copy(Path(args.data_dir, "bert", name), name)

    by_model = nemo_nlp.data.SentencePieceTokenizer(model_path="tokenizer.model")
    by_model.add_special_tokens(special_tokens)
    by_vocabulary = nemo_nlp.data.NemoBertTokenizer(vocab_file="vocab.txt")
    pretrained = nemo_nlp.data.NemoBertTokenizer(pretrained_model="bert-base-uncased")
    assert by_model.vocab_size == by_vocabulary.vocab_size
    for tokenizer in (by_model, by_vocabulary, pretrained):
        first, *_, last = tokenizer.text_to_ids("[CLS] the [MASK]")
        assert (first, last) == (tokenizer.cls_id, tokenizer.mask_id)


def test_a_vocabulary_of_another_size_cannot_be_tied():
    nemo.core.NeuralModuleFactory()
    bert_model = nemo_nlp.nm.trainables.huggingface.BERT(
        vocab_size=290, num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=64
    )
    with pytest.raises(ValueError, match=r"\(300, 32\), expected \(290, 32\); fix: give both"):
        make_model(bert_model, args.hidden_size, args.vocab_size)
