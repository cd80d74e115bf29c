"""lm-eval's command line with the model ``vevals`` in it: ``python -m vevals.harness run --model vevals ...``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from vevals.errors import MissingExtra, VevalsError

TARGET = "vevals.harness.model:VevalsLM"


def main() -> int:
    """Run lm-eval; what vevals refuses is one sentence. The exit code."""
    try:
        if find_spec("lm_eval") is None:
            raise MissingExtra("--model vevals", "lm-eval")
        _run()
    except VevalsError as error:
        print(f"vevals: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _run() -> None:
    import lm_eval.models  # noqa: F401  # before registering: lm-eval loads its own models only into an empty registry
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import model_registry

    if "vevals" not in model_registry:
        model_registry.register("vevals", target=TARGET)
    cli_evaluate()


if __name__ == "__main__":
    sys.exit(main())
