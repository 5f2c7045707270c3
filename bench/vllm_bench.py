"""`python -m bench.vllm_bench ARGUMENTS` is `vllm bench serve ARGUMENTS`.

The `vllm` command asks for the metadata of a package named `vllm`. The CPU build of vLLM is packaged under another
name, so the command fails where that is installed. This calls the same code of vLLM's without asking.
"""

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser


def run() -> None:
    """Read the command line as `vllm bench serve` does, and do what it does."""
    parser = FlexibleArgumentParser(prog="vllm bench serve")
    add_cli_args(parser)
    main(parser.parse_args())


if __name__ == "__main__":
    run()
