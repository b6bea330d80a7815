"""``python -m data.build [STEP ...]`` renews the derived files of ``data/``, by default in all these steps.

registry     registry/{models,model_shapes,devices,tasks}.csv, from the facts and registry/overrides
tokens       tokens/names.npz, from the registry; with --images also tokens/images.npz
provenance   checksums.sha256, croissant.json and the generated parts of README.md
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data.build import provenance, registry, tokens

STEPS = ("registry", "tokens", "provenance")


def main() -> int:
    """Run the steps asked for, all of them by default; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m data.build", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)}; default: all of them")
    parser.add_argument("--images", type=Path, help="folder of data sets, each with one sub-folder a class")
    options = parser.parse_args()
    if unknown := sorted(set(options.step) - set(STEPS)):
        parser.error(f"step '{unknown[0]}' is unknown (allowed: {', '.join(STEPS)})")
    steps = options.step or STEPS
    try:
        if "registry" in steps:
            registry.write()
        if "tokens" in steps:
            tokens.write_names()
            if options.images:
                tokens.write_images(options.images)
        if "provenance" in steps:
            provenance.write()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
