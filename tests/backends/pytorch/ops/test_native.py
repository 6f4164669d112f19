"""Whatever keeps the kernels from being built costs one line and speed, never the training."""

import os
import re

import pytest
import torch

from nemo.backends.pytorch.ops import check, native


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nemo-bert"


def problem_of_build() -> str:
    library = native.Library()
    library.build()
    assert library.kernels is None
    assert library.problem is not None
    return library.problem


def compiler_that(does: str, folder, monkeypatch):
    script = folder / "compiler"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))


def test_a_missing_compiler_is_named(cache, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert problem_of_build() == "no C++ compiler: g++ or clang++ not found"


def test_a_missing_compiler_in_cxx_is_named(cache, monkeypatch):
    monkeypatch.setenv("CXX", "ccache no-such-compiler")
    monkeypatch.setenv("PATH", "/nowhere")
    assert problem_of_build() == "no C++ compiler: ccache no-such-compiler not found"


def test_a_compiler_that_fails(cache, tmp_path, monkeypatch):
    compiler_that("echo 'kernels.cpp:3: error: no such thing' >&2; exit 1", tmp_path, monkeypatch)
    assert problem_of_build().endswith("failed: kernels.cpp:3: error: no such thing")
    assert list(cache.iterdir()) == []  # nothing is left of it


def test_a_compiler_that_hangs(cache, tmp_path, monkeypatch):
    compiler_that("exec sleep 60", tmp_path, monkeypatch)
    monkeypatch.setattr(native, "MOST_SECONDS", 0.2)
    assert problem_of_build().endswith("did not end within 0.2 s")


def test_kernels_that_do_not_pass_their_check_are_not_built_again(cache, monkeypatch):
    monkeypatch.setattr(native, "_problem", lambda command: "failed: x" if "-m" in command else None)
    assert problem_of_build() == "the check of the kernels on this machine failed: x"
    monkeypatch.setattr(native, "_problem", lambda command: pytest.fail("built again"))
    assert problem_of_build().startswith("the check of the kernels on this machine failed: x (delete ")
    assert not list(cache.glob("*.so"))


def test_only_the_libraries_used_last_are_kept(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_problem", lambda command: None)
    monkeypatch.setattr(native, "_load", lambda path: path)
    cache.mkdir(parents=True)
    for age in range(9):
        for suffix in (".sha256", ".refused") if age == 7 else (".so", ".sha256"):
            path = cache / f"kernels-{age}{suffix}"
            path.write_text("")
            os.utime(path, (10**9 - age, 10**9 - age))
    (killed := cache / "building-x.so").write_text("")
    os.utime(killed, (10**9, 10**9))
    library = native.Library()
    library.build()
    kept = {path.stem for path in cache.iterdir()}
    assert kept == {library.kernels.stem, "kernels-0", "kernels-1", "kernels-2"}


def test_every_kernel_is_held_to_its_reference(kernels, monkeypatch):
    checked = set()
    call = native.call

    def record(name, dtype, *arguments):
        checked.add(f"{name}_{native.SUFFIXES[dtype]}")
        call(name, dtype, *arguments)

    monkeypatch.setattr(native, "call", record)
    assert check.first_difference() is None
    sources = "".join(path.read_text() for path in native.SOURCES.glob("*.cpp"))
    exported = set(re.findall(r'extern "C" void (\w+)\b', sources)) - {"use_matrix_products"}
    for name in re.findall(r"^FOR_BOTH_TYPES\((\w+)", sources, re.MULTILINE):
        exported |= {f"{name}_f32", f"{name}_bf16"}
    assert checked == exported


@pytest.mark.parametrize("kernel", ["adamw", "norm", "round_all", "transpose", "cross_entropy_by_class"])
def test_a_kernel_that_does_nothing_is_detected(kernel, kernels, monkeypatch):
    call = native.call
    monkeypatch.setattr(native, "call", lambda name, *rest: None if name == kernel else call(name, *rest))
    # New memory is then NaN; otherwise it may hold the same result of an earlier check.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert check.first_difference() is not None
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "Not a directory" in problem_of_build()


@pytest.mark.parametrize("checksum", [None, "of what was built"])
def test_a_library_that_was_cut_off_is_not_loaded(cache, tmp_path, monkeypatch, checksum):
    compiler_that("exit 0", tmp_path, monkeypatch)
    monkeypatch.setattr(native, "_load", lambda path: pytest.fail("loading it would end the process"))
    path = native._library_path(native._compiler())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF" * 1000)
    if checksum is not None:
        path.with_suffix(".sha256").write_text(checksum)
    library = native.Library()
    library.find()
    assert library.kernels is None


def test_kernels_can_be_switched_off(cache, monkeypatch):
    monkeypatch.setenv("NEMO_BERT_NATIVE", "0")
    assert problem_of_build() == "NEMO_BERT_NATIVE=0"
