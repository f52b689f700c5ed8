"""Loops of assembly, as given: what a CPU makes of them no compiler changes.                    x86-64."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

MEMORY = 1 << 14
"""Bytes that a loop may read, aligned to 64: they fit the first-level cache of every CPU."""

_REGISTERS = ",".join(["~{rax}", *(f"~{{xmm{i}}}" for i in range(16))])


def assembled(instructions: Sequence[str]) -> Callable[[int], None]:
    """A function that executes these instructions so many times, without the GIL.

    AT&T syntax as LLVM takes it ("$$7" is the number 7). They may use rax, vector registers 0 to 15, and
    "($0)" for `MEMORY` bytes of zeros. Any number of threads may call it.
    """
    from llvmlite import binding as llvm

    initialise()
    module = llvm.parse_assembly(_MODULE.format(body="; ".join(instructions), clobbered=_REGISTERS))
    machine = llvm.Target.from_default_triple().create_target_machine(
        jit=True, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    # A foreign function: ctypes releases the GIL while it runs.
    run = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_void_p)(engine.get_function_address("run"))
    memory = ctypes.create_string_buffer(MEMORY + 64)
    start = -(-ctypes.addressof(memory) // 64) * 64

    def repeat(times: int, keep: object = (engine, memory)) -> None:
        run(times, start)

    return repeat


_MODULE = """
define void @run(i64 %count, i8* %memory) {{
entry:
  br label %loop
loop:
  %left = phi i64 [ %count, %entry ], [ %less, %loop ]
  call void asm sideeffect "{body}", "r,{clobbered},~{{memory}}"(i8* %memory)
  %less = sub i64 %left, 1
  %more = icmp ne i64 %less, 0
  br i1 %more, label %loop, label %exit
exit:
  ret void
}}
"""


@cache
def initialise() -> None:
    """What LLVM wants to be told once."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
