"""Language: text -> tokens -> sequences -> batches -> graph -> loss.

Sub-packages load when they are first touched, so that the command line's help is quick.
"""

from nemo.utils.collections import register_collection
from nemo.utils.lazy import lazy_parts

__getattr__ = lazy_parts(
    __name__,
    {
        "callbacks": "nemo.collections.nlp.callbacks",
        "data": "nemo.collections.nlp.data",
        "nm": "nemo.collections.nlp.nm",
        # 0.9's addresses, which the tutorial uses
        "huggingface": "nemo.collections.nlp.nm.trainables.common.huggingface",
        "BertPretrainingPreprocessedDataLayer": (
            "nemo.collections.nlp.nm.data_layers:BertPretrainingPreprocessedDataLayer"
        ),
    },
)

register_collection(
    "nemo_nlp",
    "nemo.collections.nlp.nm.trainables",
    "nemo.collections.nlp.nm.trainables.common.huggingface",
    "nemo.collections.nlp.nm.losses",
    "nemo.collections.nlp.nm.data_layers",
)
