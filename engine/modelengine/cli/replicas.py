"""What the name server lists and what each replica says of itself: for `ls`, `ps`, `run` and `up`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelengine import errors, flows
from modelengine.client import NameServerClient
from modelengine.protocol import EngineMethod, ServerInfo

INFO_TIMEOUT_S = 3.0
AT_ONCE = 16


class Replicas(NameServerClient):
    """A name server client that also asks the engines behind the names."""

    def all(self) -> list[ServerInfo]:
        """Every service of every protocol, in one call."""
        with self.watch() as snapshots:
            return next(snapshots)

    def replica_info(self, service: ServerInfo) -> dict[str, Any]:
        """Facts about one replica, from itself."""
        return dict(self._run(_info(service)))

    def infos(self, services: Sequence[ServerInfo]) -> list[dict[str, Any] | None]:
        """The facts of each; None for one that does not answer."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._info_if_any, services))

    def _info_if_any(self, service: ServerInfo) -> dict[str, Any] | None:
        try:
            return self.replica_info(service)
        except errors.ModelEngineError:
            return None


def _info(service: ServerInfo) -> flows.Flow[Any]:
    return (yield flows.Send(f"{service.url}/engine/{EngineMethod.INFO}", {}, INFO_TIMEOUT_S))
