"""Every name that NeMo 0.10's users type is where they type it."""

import json
import subprocess
import sys

import pytest

# Address -> names, after `import nemo`.
NEMO = {
    "nemo": ["logging", "logging_mode"],
    "nemo.utils": ["logging", "logging_mode"],
    "nemo.utils.lr_policies": ["get_lr_policy"],
    "nemo.utils.decorators": ["add_port_docs", "deprecated"],
    "nemo.core": [
        "ActionCallback",
        "AxisKind",
        "AxisType",
        "Backend",
        "CheckpointCallback",
        "DeploymentFormat",
        "DeviceType",
        "EvaluatorCallback",
        "ModelMode",
        "ModuleSaverCallback",
        "NeuralModule",
        "NeuralModuleFactory",
        "NeuralType",
        "NmTensor",
        "Optimization",
        "SimpleLossLoggerCallback",
        "UnfreezeCallback",
        "ValueSetterCallback",
        "WandbCallback",
        "WeightShareTransform",
    ],
    "nemo.core.callbacks": ["EvaluatorCallback"],
    "nemo.core.neural_factory": ["NeuralModuleFactory"],
    "nemo.core.neural_modules": ["NeuralModule", "NmTensor", "WeightShareTransform"],
    "nemo.core.neural_types": ["NeuralPortNmTensorMismatchError", "NeuralType", "NmTensor"],
    "nemo.backends.pytorch.nm": ["DataLayerNM", "LossNM", "NonTrainableNM", "TrainableNM"],
    "nemo.backends.pytorch.actions": ["PtActions"],
    "nemo.backends.pytorch.common": [
        "CrossEntropyLossNM",
        "DataCombination",
        "LossAggregatorNM",
        "MSELoss",
        "MultiDataLayer",
        "SequenceEmbedding",
        "SequenceLoss",
        "ZerosDataLayer",
    ],
    "nemo.backends.pytorch.common.other": ["SequenceEmbedding", "ZerosLikeNM"],
    "nemo.backends.pytorch.common.losses": ["CrossEntropyLossNM", "LossAggregatorNM"],
    "nemo.backends.pytorch.tutorials": ["MSELoss", "RealFunctionDataLayer", "TaylorNet"],
    "nemo.backends.pytorch.tutorials.toys": ["TaylorNet"],
    "nemo.tutorials": ["MSELoss", "RealFunctionDataLayer", "TaylorNet"],
    "nemo.collections.nlp.nm.trainables.common.huggingface": ["BERT"],
}

# Address -> names, after `import nemo.collections.nlp as nemo_nlp`.
NEMO_NLP = {
    "nemo_nlp": ["BertPretrainingPreprocessedDataLayer"],
    "nemo_nlp.data": [
        "BERTPretrainingDataDesc",
        "NemoBertTokenizer",
        "SentencePieceTokenizer",
        "get_bert_special_tokens",
    ],
    "nemo_nlp.data.lm_bert_dataset": ["BERTPretrainingDataDesc", "BertPretrainingDataset"],
    "nemo_nlp.data.datasets.lm_bert_dataset": ["BERTPretrainingDataDesc", "BertPretrainingDataset"],
    "nemo_nlp.nm.trainables": ["BertTokenClassifier", "SequenceClassifier", "TokenClassifier"],
    "nemo_nlp.nm.trainables.huggingface": ["BERT"],
    "nemo_nlp.nm.trainables.common.huggingface": ["BERT"],
    "nemo_nlp.nm.trainables.common.token_classification_nm": ["ACT2FN"],
    "nemo_nlp.huggingface": ["BERT"],
    "nemo_nlp.huggingface.BERT": ["list_pretrained_models"],
    "nemo_nlp.nm.losses": ["SmoothedCrossEntropyLoss"],
    "nemo_nlp.nm.data_layers": ["BertPretrainingDataLayer", "BertPretrainingPreprocessedDataLayer"],
    "nemo_nlp.callbacks.lm_bert_callback": ["eval_epochs_done_callback", "eval_iter_callback"],
}

# Every address is followed in a child of its own, which has nothing of nemo but that import.
FOLLOW = """
import json, os, sys
{statement}
loaded = sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "transformers"}})
import torch, transformers  # slow to import, and not what is looked at
for address, names in {addresses!r}.items():
    child = os.fork()
    if child == 0:
        start, *path = address.split(".")
        found = globals()[start]
        for name in path:
            found = getattr(found, name)
        missing = [name for name in names if not hasattr(found, name)]
        os._exit(1 if missing else 0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{{address}} is not there, or has not all of {{names}}")
print(json.dumps(loaded))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "addresses"),
    [("import nemo", NEMO), ("import nemo.collections.nlp as nemo_nlp", NEMO_NLP)],
)
def test_every_address_can_be_followed_after_the_import_alone(statement, addresses):
    script = FOLLOW.format(statement=statement, addresses=addresses)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [], "importing a package is to cost nothing"
