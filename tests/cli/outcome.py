"""What a command line left behind: on stderr, and in a checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file


def error_of(capsys) -> str:
    """The one line that a refusal is."""
    errors = [line for line in capsys.readouterr().err.splitlines() if " warning: " not in line]
    assert len(errors) == 1, errors
    assert errors[0].startswith("error[")
    return errors[0]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, the optimizer's too."""
    return {
        f"{path.stem}.{name}": tensor
        for path in checkpoint.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }
