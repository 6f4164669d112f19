"""Strict JSON and YAML: ambiguous input is an error."""

import json
import math
from pathlib import Path
from typing import Any

from nemo.utils.errors import UsageError

MAX_YAML_BYTES = 1 << 19  # PyYAML takes seconds to parse this much


def parse_json(content: bytes | str) -> Any:
    """Parse JSON; bytes may begin with a byte order mark.

    Raises:
        ValueError: not JSON, a duplicate key, a number that is not finite, or nesting that is too deep.
    """
    try:
        return json.loads(
            content, object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def has_shape(value: Any, shape: Any) -> bool:
    """Whether a JSON value has the given shape.

    A shape is a type (a bool is not an int); a list of one shape, for any number of items of that shape; or a
    dict of shapes, for an object that has at least these keys.
    """
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            key in value and has_shape(value[key], of_key) for key, of_key in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(has_shape(item, shape[0]) for item in value)
    return isinstance(value, shape) and not (isinstance(value, bool) and shape is not bool)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return unique


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def read_yaml(path: Path, error: type[UsageError] = UsageError) -> Any:
    """Read a YAML file with plain types only.

    Raises:
        UsageError: not YAML, a duplicate key, nested too deeply, or too large; names the line if known.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if (key.tag, key.value) in seen:
                    problem = f"{key.value!r} appears twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
            return super().construct_mapping(node, deep)

    if (size := path.stat().st_size) > MAX_YAML_BYTES:
        expected = f"{MAX_YAML_BYTES:,} or fewer"
        raise error("too large for a configuration", where=path, found=f"{size:,} bytes", expected=expected)
    where = str(path)
    try:
        return Loader(path.read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as problem:
        if problem.problem_mark:
            where += f":{problem.problem_mark.line + 1}"
        message = problem.problem or ""
    except (yaml.YAMLError, ValueError) as problem:
        message = " ".join(str(problem).split())
    except RecursionError:
        message = "nested too deeply"
    raise error(f"not YAML: {message}", where=where)
