"""Recognizes weights for TensorFlow, Flax and others, which are not read here, and how to convert them."""

from pathlib import Path

from nemo.utils.errors import CheckpointError

# `transformers` could read them until version 4.
_CONVERT = (
    "convert it, where transformers 4 and {needed} are installed: "
    'python -c "from transformers import BertConfig as C, BertForPreTraining as B; '
    "B.from_pretrained({arguments}).save_pretrained('{folder}')\""
)
_CONVERTED = {
    ".h5": ("TensorFlow", "tensorflow", "'{folder}', from_tf=True"),
    ".msgpack": ("Flax", "flax", "'{folder}', from_flax=True"),
}
_NOT_CONVERTED = {
    ".onnx": "ONNX",
    ".gguf": "GGUF",
    ".ot": "Rust",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
}
OTHER_SUFFIXES = (*_CONVERTED, *_NOT_CONVERTED)


def refuse_other_framework(path: Path) -> None:
    """Refuse a file, folder or checkpoint prefix that has weights for another framework only.

    Raises:
        CheckpointError: it has; names the framework and how to convert them.
    """
    found = _file_of_other_framework(path)
    if found is None:
        return
    folder, fix = found.parent, ""
    if _is_tensorflow_1(found):
        index = found.name if found.suffix == ".index" else f"{found.stem}.index"
        framework, arguments = (
            "TensorFlow",
            (f"'{folder / index}', from_tf=True, config=C.from_json_file('{folder / 'bert_config.json'}')"),
        )
        fix = _CONVERT.format(needed="tensorflow", arguments=arguments, folder=folder)
    elif found.suffix in _CONVERTED:
        framework, needed, arguments = _CONVERTED[found.suffix]
        fix = _CONVERT.format(needed=needed, arguments=arguments.format(folder=folder), folder=folder)
    else:
        framework = _NOT_CONVERTED[found.suffix]
        fix = "use the model it was made from"
    raise CheckpointError(
        f"weights for {framework}, not for PyTorch",
        where=path,
        found=found.name,
        expected="model.safetensors or pytorch_model.bin",
        fix=fix,
    )


def _file_of_other_framework(path: Path) -> Path | None:
    if path.is_dir():
        return next((file for file in sorted(path.iterdir()) if _is_of_other_framework(file)), None)
    if path.is_file():
        return path if _is_of_other_framework(path) else None
    index = path.with_name(f"{path.name}.index")  # `bert_model.ckpt` is the prefix of several files
    return index if index.is_file() else None


def _is_of_other_framework(file: Path) -> bool:
    return file.suffix in OTHER_SUFFIXES or _is_tensorflow_1(file)


def _is_tensorflow_1(file: Path) -> bool:
    """Whether it belongs to a checkpoint such as `bert_model.ckpt` or `model.ckpt-1000`."""
    return ".ckpt" in file.stem and (file.suffix in (".index", ".meta") or file.suffix.startswith(".data-"))
