"""What is answered to the calls with which Ollama's clients change which models there are. Pure.

Models are what somebody deployed: whoever may chat may not fetch, replace or remove them.
"""

from __future__ import annotations

from collections.abc import Mapping

_ADD = "on a cluster `kubectl apply` a ModelEngine that names it, on one machine run `modelengine up MODEL`"
_REMOVE = "on a cluster `kubectl delete modelengine NAME`, on one machine stop its `modelengine up`"

INSTEAD: Mapping[str, str] = {
    "/api/pull": f"models are not pulled through this API; to add one, {_ADD}",
    "/api/create": f"models are not created through this API; to add one, {_ADD}",
    "/api/copy": f"models are not copied through this API; to serve one under another name, {_ADD}",
    "/api/push": f"models are not pushed through this API; to serve one, {_ADD}",
    "/api/delete": f"models are not deleted through this API; to remove one, {_REMOVE}",
    "/api/blobs/{digest:path}": f"model files are not uploaded through this API; to add a model, {_ADD}",
}
