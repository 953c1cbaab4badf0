"""Who of several operators may write: the one that holds the Lease, and only while it surely does.

A Lease of the coordination API, as Kubernetes' own controllers use it. It is renewed every RENEW_S; whoever could not
renew it for VALID_S stops writing, well before another may take it over after LEASE_S. Each measures with its own
monotonic clock, from the moment it saw the Lease change, so no two machines' clocks are ever compared.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Callable

from modelengine_kube import errors, resources
from modelengine_kube.api import KubeApi, Object

log = logging.getLogger(__name__)

LEASE_NAME = "modelengine-operator"
LEASE_S = 15.0
VALID_S = 10.0
RENEW_S = 3.0


class NotLeading(Exception):
    """A write was asked for without the Lease; whoever holds it will do it."""


class Leadership:
    """`run_forever` takes and keeps the Lease; `check` stands before every write."""

    def __init__(
        self, api: KubeApi, namespace: str, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._valid_until = float("-inf")
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = float("-inf")
        self._leading = asyncio.Event()

    @property
    def is_leading(self) -> bool:
        return self._clock() < self._valid_until

    def check(self) -> None:
        """Raises NotLeading."""
        if not self.is_leading:
            raise NotLeading

    async def wait(self) -> None:
        while not self.is_leading:
            self._leading.clear()
            await self._leading.wait()

    async def run_forever(self) -> None:
        while True:
            was_leading = self.is_leading
            try:
                async with asyncio.timeout(RENEW_S * 2):
                    await self._take_or_renew()
            except (errors.KubeError, TimeoutError) as failure:
                log.warning("the lease could not be renewed: %s", failure)
            if self.is_leading:
                self._leading.set()
            if self.is_leading is not was_leading:
                log.info("%s the lease", "leading: we hold" if self.is_leading else "not leading: lost")
            await asyncio.sleep(RENEW_S)

    async def release(self) -> None:
        """Gives the Lease back, so that a successor need not wait for its end."""
        if not self.is_leading:
            return
        self._valid_until = float("-inf")
        lease = await self._api.get(resources.LEASES, self._namespace, LEASE_NAME)
        if lease.get("spec", {}).get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            await self._api.replace(resources.LEASES, lease)

    async def _take_or_renew(self) -> None:
        # From before the request: the answer may be slow, the holder must not think it has longer than others grant.
        asked_at = self._clock()
        try:
            lease = await self._api.get(resources.LEASES, self._namespace, LEASE_NAME)
        except errors.NotFound:
            await self._api.create(resources.LEASES, self._lease({}))
            self._valid_until = asked_at + VALID_S
            return
        if not self._may_take(lease):
            return
        try:
            # With its resourceVersion: of two that take it, one gets a Conflict.
            await self._api.replace(resources.LEASES, self._lease(lease))
        except errors.Conflict:
            return
        self._valid_until = asked_at + VALID_S

    def _may_take(self, lease: Object) -> bool:
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        seen = (holder, spec.get("renewTime") or "")
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        return holder in ("", self._identity) or self._clock() - self._seen_at > LEASE_S

    def _lease(self, known: Object) -> Object:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = known.get("spec", {})
        changes_hands = spec.get("holderIdentity") != self._identity
        return {
            "apiVersion": resources.LEASES.api_version,
            "kind": resources.LEASES.kind,
            "metadata": known.get("metadata") or {"namespace": self._namespace, "name": LEASE_NAME},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(LEASE_S),
                "acquireTime": now if changes_hands else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if known and changes_hands else 0),
            },
        }
