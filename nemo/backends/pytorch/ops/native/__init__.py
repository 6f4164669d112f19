"""Native CPU kernels: built for this machine on first use, cached, and called through ctypes.

They are optional: without a C++ compiler, with `NEMO_BERT_NATIVE=0`, or if a kernel's results differ from its
PyTorch reference's, the references run instead, and a line in the log says why.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.backends.pytorch.ops.hardware import has_bf16_units
from nemo.utils.errors import StorageError
from nemo.utils.files import write_atomically
from nemo.utils.logging import logging
from nemo.utils.progress import working
from nemo.utils.user_cache import user_cache

SOURCES = Path(__file__).parent
FLAGS = [
    *("-std=c++17", "-shared", "-fPIC", "-fopenmp", "-O3", "-march=native", "-mprefer-vector-width=512"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
]
MOST_SECONDS = 300  # time limit of the compiler, and of the check
KEPT = 4  # libraries kept in the cache, for different sources, compilers, torch versions or processors
CHECK = "nemo.backends.pytorch.ops.check"  # imports the operations, which import this module
SUFFIXES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Library:
    """The kernels of this process.

    Attributes:
        kernels: the loaded library; None if there is none.
        problem: the reason why there is none; None if not known yet.
    """

    def __init__(self) -> None:
        self.kernels: ctypes.CDLL | None = None
        self.problem: str | None = None
        self._looked = False

    def find(self) -> None:
        """Load the kernels if an earlier process has built them."""
        if not self._looked:
            self._looked = True
            if os.environ.get("NEMO_BERT_NATIVE") == "0":
                self.problem = "NEMO_BERT_NATIVE=0"
                return
            with contextlib.suppress(_Unusable, OSError):  # `build` tries again and reports the problem
                path = _library_path(_compiler())
                if _is_whole(path):
                    self.kernels = _load(path)
                    path.touch()

    def use(self, path: Path) -> None:
        """Load the kernels at `path`."""
        self._looked, self.kernels = True, _load(path)

    def build(self) -> None:
        """Load the kernels; build and check them first if needed, which is logged."""
        self.find()
        if self.kernels is not None or self.problem is not None:
            return
        began = time.monotonic()
        try:
            compiler = _compiler()
            path = _library_path(compiler)
            logging.info("building native kernels for this CPU with %s (only once)", shlex.join(compiler))
            self.kernels = _build(compiler, path)
        except (_Unusable, OSError, StorageError) as problem:
            self.problem = str(problem)
            logging.warning("native kernels are unavailable, so training is slower: %s", self.problem)
        else:
            logging.info(
                "built native kernels in %.0f s, cached in %s", time.monotonic() - began, path.parent
            )


class _Unusable(Exception):
    pass


library = Library()


def build() -> bool:
    """Build the kernels if needed; if that fails, log a warning and return False."""
    library.build()
    return library.kernels is not None


def available() -> bool:
    """Whether the kernels are loaded or can be loaded."""
    library.find()
    return library.kernels is not None


def usable(*tensors: Tensor) -> bool:
    """Whether kernels can take these tensors: all float32 or all bf16, on the CPU, and not being traced."""
    dtype = tensors[0].dtype
    if dtype not in SUFFIXES:
        return False
    for tensor in tensors:
        if not tensor.is_cpu or tensor.dtype != dtype:
            return False
    return available() and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    """Run the kernel `name` for activations of `dtype`.

    Args:
        arguments: the arguments after the number of threads: contiguous tensors (passed as pointers, None as
            null), integers (int64_t) and floats (double).
    """
    kernel = getattr(library.kernels, f"{name}_{SUFFIXES[dtype]}")
    if kernel.argtypes is None:
        kernel.restype, kernel.argtypes = None, [ctypes.c_int64, *map(_c_type, arguments)]
    kernel(torch.get_num_threads(), *[x.data_ptr() if isinstance(x, Tensor) else x for x in arguments])


def _c_type(argument: Any) -> Any:
    """The C type of a kernel's argument, which is the same in all calls; None may take a tensor's place."""
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p
    return ctypes.c_double if isinstance(argument, float) else ctypes.c_int64


def _compiler() -> list[str]:
    """The C++ compiler: CXX, else g++ or clang++."""
    commands = [shlex.split(os.environ["CXX"])] if os.environ.get("CXX") else [["g++"], ["clang++"]]
    for command in commands:
        if command and shutil.which(command[0]):
            return command
    raise _Unusable(f"no C++ compiler: {' or '.join(map(shlex.join, commands))} not found")


def _library_path(compiler: list[str]) -> Path:
    """The file of the kernels; its name depends on sources, compiler, torch and processor."""
    identity = hashlib.sha256()
    for source in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        identity.update(source.name.encode() + source.read_bytes())
    stat = os.stat(shutil.which(compiler[0]) or compiler[0])
    identity.update(repr((compiler, stat.st_size, stat.st_mtime_ns, FLAGS, torch.__version__)).encode())
    identity.update(_processor().encode())
    try:
        return user_cache() / f"kernels-{identity.hexdigest()[:16]}.so"
    except StorageError as problem:
        raise _Unusable(str(problem)) from None


def _is_whole(path: Path) -> bool:
    """Whether the library is complete: loading a truncated one would crash the process."""
    checksum = path.with_suffix(".sha256")
    return (
        checksum.exists() and checksum.read_bytes() == hashlib.sha256(path.read_bytes()).hexdigest().encode()
    )


def _processor() -> str:
    """The processor model and flags, on which `-march=native` depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in dict.fromkeys(lines) if line.startswith(("model", "flags", "Features")))


def _build(compiler: list[str], path: Path) -> ctypes.CDLL:
    """Compile the kernels, check them against the references, and cache them if they pass."""
    refused = path.with_suffix(".refused")
    if refused.exists():
        raise _Unusable(
            f"{refused.read_text(encoding='utf-8', errors='replace')} (delete {refused} to try again)"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_BUILDING, suffix=".so", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        sources = map(str, sorted(SOURCES.glob("*.cpp")))
        with working("compiling the CPU kernels, once on this machine"):
            wrong = _problem([*compiler, *FLAGS, *sources, *_openmp(), "-o", name])
        if wrong is not None:
            raise _Unusable(f"{compiler[0]} {wrong}")
        # In a separate process, as a bad kernel may crash it.
        with working("checking the CPU kernels"):
            wrong = _problem([sys.executable, "-m", CHECK, name])
        if wrong is not None:
            reason = f"the check of the kernels on this machine {wrong}"
            refused.write_text(reason, encoding="utf-8")
            raise _Unusable(reason)
        built = new.read_bytes()
    finally:
        new.unlink(missing_ok=True)
    write_atomically(path, built)
    write_atomically(path.with_suffix(".sha256"), hashlib.sha256(built).hexdigest().encode())
    _delete_old(path.parent)
    return _load(path)


def _delete_old(folder: Path) -> None:
    """Delete all but the most recently used libraries, and the leftovers of killed builds."""
    newest: dict[str, float] = {}
    for path in folder.glob("kernels-*"):
        newest[path.stem] = max(newest.get(path.stem, 0), path.stat().st_mtime)
    old = sorted(newest, key=lambda stem: newest[stem], reverse=True)[KEPT:]
    for path in [path for stem in old for path in folder.glob(f"{stem}.*")]:
        path.unlink(missing_ok=True)
    for path in folder.glob(f"{_BUILDING}*"):
        if path.stat().st_mtime < time.time() - 2 * MOST_SECONDS:
            path.unlink(missing_ok=True)


_BUILDING = "building-"


def _problem(command: list[str]) -> str | None:
    """Run a command; return why it failed, or None if it succeeded."""
    try:
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {MOST_SECONDS} s"
    return None if result.returncode == 0 else f"failed: {_first_error(result.stderr)}"


def _first_error(messages: str) -> str:
    lines = messages.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line.lower()), lines[-1])


def _torch_libraries() -> Path:
    return Path(torch.__file__).parent / "lib"


def _openmp() -> list[str]:
    """Link torch's own OpenMP: a second thread pool would compete with the first for the cores."""
    return [str(path) for path in sorted(_torch_libraries().glob("libgomp*.so*"))[:1]]


def _load(path: Path) -> ctypes.CDLL:
    kernels = ctypes.CDLL(str(path))
    use_matrix_products_of_torch(kernels)
    return kernels


def use_matrix_products_of_torch(kernels: ctypes.CDLL) -> None:
    """Let the kernels multiply small blocks with torch's own functions."""
    torch_cpu = ctypes.CDLL(str(_torch_libraries() / "libtorch_cpu.so"))
    if not hasattr(torch_cpu, SGEMM):
        raise _Unusable(f"this build of torch has no {SGEMM}")
    products = [getattr(torch_cpu, SGEMM), None, None]
    has_units = has_bf16_units(torch.device("cpu"))
    if has_units and all(hasattr(torch_cpu, name) for name in BF16_PRODUCT):
        products[1:] = (getattr(torch_cpu, name) for name in BF16_PRODUCT)
    kernels.use_matrix_products(*(ctypes.cast(product, ctypes.c_void_p) for product in products))


# torch's own matrix products, used by the attention kernel for small blocks: the sgemm of its BLAS and, on
# processors with bf16 units, oneDNN's bf16 product and its cleanup, by their mangled C++ names.
SGEMM = "sgemm_"
BF16_PRODUCT = (
    "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb",
    "_ZN2at6native7cpublas14brgemm_releaseEb",
)
