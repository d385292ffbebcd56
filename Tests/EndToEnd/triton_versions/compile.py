"""Has Triton compile a kernel for each target named, such as cuda:80 or hip:gfx942, or find it in its cache. Prints a line
of JSON for each: how often Triton compiled and how many files it put into the cache, and what kernel it then has."""

import hashlib
import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.cache import FileCacheManager

from kernels import add_kernel

VERSION = tuple(map(int, triton.__version__.split(".")[:2]))
SIGNATURE = {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32"}
CONSTANTS = {"BLOCK": 1024}


def source():
    """The kernel with the types of its arguments. Each era of Triton wants them in another form."""
    index = add_kernel.arg_names.index
    if VERSION <= (3, 1):
        signature = {index(name): type for name, type in SIGNATURE.items()}
        return ASTSource(add_kernel, signature=signature, constants={index(name): value for name, value in CONSTANTS.items()})
    if VERSION == (3, 2):
        return ASTSource(add_kernel, signature=SIGNATURE, constants=CONSTANTS)
    signature = SIGNATURE | {name: "constexpr" for name in CONSTANTS}
    return ASTSource(add_kernel, signature=signature, constexprs={(index(name),): value for name, value in CONSTANTS.items()})


def target(text):
    backend, arch = text.split(":")
    return GPUTarget("cuda", int(arch), 32) if backend == "cuda" else GPUTarget("hip", arch, 64)


class Counter:
    """Counts the calls of a method."""

    def __init__(self, owner, name):
        self.count = 0
        method = getattr(owner, name)

        def counted(*arguments, **options):
            self.count += 1
            return method(*arguments, **options)

        setattr(owner, name, counted)


# Each compilation begins with the kernel's first IR.
compiled = Counter(ASTSource, "make_ir")
stored = Counter(FileCacheManager, "put")

for name in sys.argv[1:]:
    compiled.count = stored.count = 0
    kernel = triton.compile(source(), target=target(name))
    print(json.dumps({
        "target": name, "key": kernel.hash, "compiled": compiled.count, "stored": stored.count, "stages": sorted(kernel.asm),
        "binary": hashlib.sha256(kernel.kernel).hexdigest()}))
