"""miner kernel: the source that runs on a GPU, as one text."""

import argparse


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "kernel",
        help="print the GPU kernel's source",
        description="Print one complete source text; its entry point is `scan`.",
    )
    parser.add_argument("language", choices=("cuda", "opencl"), help="CUDA C or OpenCL C")
    parser.add_argument(
        "--versions", type=int, default=1, metavar="N", help="sibling headers per nonce: 1, 2, 4, 8"
    )
    parser.add_argument(
        "--placement", default=None, metavar="P", help="which operations go to the multiply-add pipe"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """ValueError for a number of versions or a placement that does not exist."""
    from kernels.device_source import source

    print(source(arguments.language, versions=arguments.versions, placement=arguments.placement))
    return 0
