"""`python -m cluster.harness.up`: a cluster to play with, until Ctrl-C. Called by `make cluster`."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack

from . import control_plane, images, network, node, places

_CLUSTER = """
export KUBECONFIG={plane.kubeconfig}
The cluster has a network of its own. A shell in it, with kubectl and helm:
  nsenter --net={network} env PATH={plane.bin}:$PATH KUBECONFIG={plane.kubeconfig} bash"""
_NODE = """\
It has {gpus} GPUs in name only, and these images: {images}"""
_END = """\
Ctrl-C ends it."""
_GPUS = 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.harness.up", description=__doc__)
    parser.add_argument("--control-plane", action="store_true", help="no node: pods stay Pending")
    chosen = parser.parse_args(argv)
    # SIGTERM takes the same road as Ctrl-C; a shell's background jobs ignore SIGINT until told otherwise.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as undo:
            plane = undo.enter_context(control_plane.running())
            words = [_CLUSTER.format(plane=plane, network=network.path(plane.name))]
            if not chosen.control_plane:
                undo.enter_context(node.running(plane)).advertise_gpus(_GPUS)
                words.append(_NODE.format(gpus=_GPUS, images=" ".join(image.reference for image in images.ALL)))
            print("\n".join([*words, _END]), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except places.Missing as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
