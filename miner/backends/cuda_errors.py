"""What CuPy raises, in a sentence that says what to do.

Numbers: CUDA Runtime API, "Data types used by CUDA Runtime", cudaError; the driver API's CUresult differs
below 100 alone, and where both have a number they mean the same.
"""

_DRIVER = "update the NVIDIA driver, or install the CuPy extra for its CUDA version (cuda12 or cuda13)"
_NVRTC = "pip install nvidia-cuda-nvrtc-cu12 (for CUDA 13: nvidia-cuda-nvrtc)"
_AGAIN = "close other programs on the card, lower its clocks if it is overclocked, and start again"

ADVICE = {
    2: "the card has no memory left: close other programs that use it",
    3: f"the CUDA runtime did not start: {_DRIVER}",
    34: f"this is the driver's stub library, without a driver: {_DRIVER}",
    35: f"the driver is too old for CuPy's CUDA runtime, or missing: {_DRIVER}",
    46: "the card is used exclusively by another program (compute mode): stop that one",
    100: "the driver finds no card: is CUDA_VISIBLE_DEVICES empty, or the card off the bus?",
    101: "there is no card of that number",
    200: f"the driver refuses the compiled kernel: {_DRIVER}",
    209: "the kernel was compiled for another kind of card: delete ~/.cupy/kernel_cache and start again",
    218: f"the driver cannot compile PTX this new: {_DRIVER}",
    222: f"the driver cannot compile PTX this new: {_DRIVER}",
    214: f"the card's memory reports an error that it could not correct: {_AGAIN}",
    700: "the kernel used memory that is not its own: please report this with the card's model",
    701: "the kernel needs more registers than a launch may have: please report this with the card's model",
    702: f"the display driver stopped a launch that took too long: {_AGAIN}",
    710: "the kernel stopped at an assertion: please report this with the card's model",
    715: f"the card met an instruction that it does not know: {_AGAIN}",
    716: "the kernel used a misaligned address: please report this with the card's model",
    719: f"a launch failed on the card, for no reason that it tells: {_AGAIN}",
    802: "the system is not ready yet: on NVSwitch machines start nvidia-fabricmanager",
    803: "driver and CUDA libraries do not fit each other: reboot after the driver update",
    804: f"this card does not take the forward-compatible driver libraries: {_DRIVER}",
    999: f"the driver reports an unknown error: {_AGAIN}; if it stays, reboot",
}
"""cudaError -> what happened and what to do."""

_THEIRS = ("cupy", "cupy_backends", "cuda")
"""Packages whose exceptions come from a card, its driver or its compiler."""

_COMPILER = ("CompileException", "NVRTCError")


def is_from_device(error: Exception) -> bool:
    """Whether CuPy or a library under it raised this, rather than a mistake of ours."""
    theirs = type(error).__module__.partition(".")[0] in _THEIRS
    # A library that cannot be loaded is a plain RuntimeError, from CuPy's loader.
    return theirs or isinstance(error, (MemoryError, OSError, ImportError)) or type(error) is RuntimeError


def sentence(error: Exception) -> str:
    """What happened and what to do, with the library's own words."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return f"{_advice(error, words)} ({words})"


def _advice(error: Exception, words: str) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, MemoryError):
        return ADVICE[2]
    if type(error).__name__ in _COMPILER:  # NVRTC's own numbers, from 1
        return f"the kernel does not compile here: {_DRIVER}"
    if status in ADVICE:
        return ADVICE[status]
    if "nvrtc" in words.lower():
        return f"NVRTC, the compiler, is missing: {_NVRTC}"
    return f"CuPy reports {type(error).__name__}"
