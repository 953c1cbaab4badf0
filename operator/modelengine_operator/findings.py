"""Why is a ModelEngine (not) ready? One list of checks, run in order: the first that finds something is the reason.

Pure. The reasons are constants that users can search for; `about` narrows one down for the column of `kubectl get`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelengine_kube import resources
from modelengine_operator import plan, podstate
from modelengine_operator.observed import Observed, Progress
from modelengine_operator.settings import Settings
from modelengine_operator.spec import Engine
from modelengine_operator.status import MAX_REASON

SERVING = "Serving"
SCALED_TO_ZERO = "ScaledToZero"
INVALID_SPEC = "InvalidSpec"
DELETING = "Deleting"
NAME_CONFLICT = "NameConflict"
IMAGE_NOT_ALLOWED = "ImageNotAllowed"
OBJECT_CONFLICT = "ObjectConflict"
REPLACING = "Replacing"
WRITE_REFUSED = "WriteRefused"
QUOTA_EXCEEDED = "QuotaExceeded"
POD_SECURITY = "PodSecurityRefused"
PODS_REFUSED = "PodsRefused"
NO_IMAGE_VOLUMES = "ImageVolumesUnsupported"
REGISTRY_FULL = "RegistryFull"
SCHEDULING = "Scheduling"
STARTING = "Starting"
ROLLING_OUT = "RollingOut"
SCALING_DOWN = "ScalingDown"
REGISTERING = "Registering"

# Nothing but a person can end these.
STALLED = {
    INVALID_SPEC,
    NAME_CONFLICT,
    IMAGE_NOT_ALLOWED,
    OBJECT_CONFLICT,
    NO_IMAGE_VOLUMES,
    REGISTRY_FULL,
    podstate.INVALID_IMAGE,
}
# In the order in which a user should hear of them, where the pods of one engine have several.
WORST_FIRST = (
    podstate.INVALID_IMAGE,
    podstate.IMAGE_PULL_FAILED,
    podstate.MODEL_LOAD_FAILED,
    podstate.FETCH_FAILED,
    podstate.OUT_OF_MEMORY,
    podstate.CRASH_LOOP,
    podstate.CONFIG_ERROR,
    podstate.EVICTED,
    podstate.NODE_SILENT,
    podstate.PROBE_FAILED,
    podstate.RESTARTED,
    podstate.UNSCHEDULABLE,
)
QUOTA = re.compile(r"(?:exceeded|failed) quota: ([^\s,:]+)")
UNREFINED = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Finding:
    reason: str
    message: str
    about: str = ""
    is_ready: bool = False

    @property
    def column(self) -> str:
        whole = f"{self.reason}: {self.about}" if self.about else self.reason
        return whole if len(whole) <= MAX_REASON else f"{whole[: MAX_REASON - 1]}…"

    @property
    def is_stalled(self) -> bool:
        return self.reason in STALLED


Check = Callable[[Observed, Settings], Finding | None]


def first(observed: Observed, settings: Settings) -> Finding:
    """The reason of the condition Ready."""
    return next(found for check in CHECKS if (found := check(observed, settings)) is not None)


def _is_readable(observed: Observed, settings: Settings) -> Finding | None:
    return Finding(INVALID_SPEC, observed.invalid) if observed.engine is None else None


def _stays(observed: Observed, settings: Settings) -> Finding | None:
    if _engine(observed).is_deleting:
        return Finding(DELETING, "it is being deleted; answers that have begun may go on for the grace period")
    return None


def _has_its_name(observed: Observed, settings: Settings) -> Finding | None:
    if observed.name_owner is None:
        return None
    name = _engine(observed).served_name
    return Finding(
        NAME_CONFLICT,
        f"ModelEngine {observed.name_owner!r} is older and serves {name!r} in this namespace; "
        "set another spec.model.name here, or delete that one",
        observed.name_owner,
    )


def _has_an_allowed_image(observed: Observed, settings: Settings) -> Finding | None:
    image = _engine(observed).spec.runtime.image
    if image is None or settings.allows(image):
        return None
    return Finding(
        IMAGE_NOT_ALLOWED,
        f"spec.runtime.image {image!r} is none of the operator's allowed images "
        f"({', '.join((settings.engine_image, *settings.allowed_images))}); "
        "remove it, or add it to engine.allowedImages of the chart",
        image,
    )


def _owns_its_objects(observed: Observed, settings: Settings) -> Finding | None:
    engine = _engine(observed)
    for resource, child in observed.children.items():
        match plan.ownership(engine, child):
            case plan.Ownership.FOREIGN:
                name = child["metadata"]["name"]
                return Finding(
                    OBJECT_CONFLICT,
                    f"there is a {resource.kind} {name!r} that does not belong to this ModelEngine, and it is left "
                    "alone; delete or rename it, or give the ModelEngine another name",
                    f"{resource.kind} {name}",
                )
            case plan.Ownership.PREDECESSOR:
                return Finding(REPLACING, f"waits until the {resource.kind} of its deleted predecessor is gone")
    return None


def _may_write(observed: Observed, settings: Settings) -> Finding | None:
    if not observed.refusal:
        return None
    if quota := QUOTA.search(observed.refusal):
        return Finding(QUOTA_EXCEEDED, observed.refusal, quota[1])
    return Finding(WRITE_REFUSED, observed.refusal)


def _has_image_volumes(observed: Observed, settings: Settings) -> Finding | None:
    """An API server that does not know them drops them without a word."""
    deployment = observed.children.get(resources.DEPLOYMENTS)
    if deployment is None or _engine(observed).source.kind != "image":
        return None
    if any("image" in volume for volume in deployment["spec"]["template"]["spec"].get("volumes", ())):
        return None
    return Finding(
        NO_IMAGE_VOLUMES,
        "this cluster has no image volumes (feature gate ImageVolume), which an oci:// source needs; use hf:// or pvc://",
    )


def _may_have_pods(observed: Observed, settings: Settings) -> Finding | None:
    deployment = observed.children.get(resources.DEPLOYMENTS, {})
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return _refused(condition.get("message", ""))
    return None


def _refused(message: str) -> Finding:
    if quota := QUOTA.search(message):
        advice = "ask for less, have the quota raised, or set spec.rollout: InPlace if it is full only during a change"
        return Finding(QUOTA_EXCEEDED, f"{message}; {advice}", quota[1])
    if "violates PodSecurity" in message:
        return Finding(POD_SECURITY, message)
    return Finding(PODS_REFUSED, message or "the pods are refused, and nobody says why")


def _is_wanted(observed: Observed, settings: Settings) -> Finding | None:
    if _engine(observed).spec.replicas == 0 and not _staying(observed):
        return Finding(SCALED_TO_ZERO, "no replicas are wanted, and there are none", is_ready=True)
    return None


def _has_no_trouble(observed: Observed, settings: Settings) -> Finding | None:
    staying = _staying(observed)
    # What has ended for good counts until another has taken its place.
    over = observed.pods if len(staying) < _engine(observed).spec.replicas else ()
    troubles = [pod.trouble for pod in (*staying, *over) if pod.trouble is not None]
    if not troubles:
        return None
    worst = min(troubles, key=lambda trouble: WORST_FIRST.index(trouble.reason))
    return Finding(worst.reason, worst.message, worst.about)


def _has_started(observed: Observed, settings: Settings) -> Finding | None:
    wanted = _engine(observed).spec.replicas
    pods = _staying(observed)
    ready = sum(pod.is_ready for pod in pods)
    if ready >= wanted and len(pods) <= wanted:
        return None
    count = f"{ready} of {wanted} replicas answer"
    waiting = [pod for pod in pods if not pod.is_ready]
    if ready >= wanted and not waiting:
        return Finding(SCALING_DOWN, f"{count}; too many, and about to stop: {len(pods) - wanted}")
    if not waiting:
        return Finding(SCHEDULING, f"{count}; pods that are not there yet: {wanted - len(pods)}")
    if observed.progress is not None:
        return _told(observed.progress, count)
    if unplaced := sum(not pod.node for pod in waiting):
        return Finding(SCHEDULING, f"{count}; pods that wait for a node: {unplaced}")
    return Finding(STARTING, f"{count}; pods that get their volumes, images and containers: {len(waiting)}")


def _told(progress: Progress, count: str) -> Finding:
    """What the pod says itself: its stage as a reason, `warming up` as WarmingUp."""
    if progress.stage == "ready":
        return Finding(STARTING, f"{count}; a replica has loaded the model and is about to answer")
    reason = "".join(word.capitalize() for word in UNREFINED.split(progress.stage)) or STARTING
    if progress.bytes is None or not progress.total:
        return Finding(reason, f"{count}; a replica is {progress.stage}")
    percent = f"{min(100 * progress.bytes // progress.total, 100)} %"
    done, total = (f"{amount / 1e9:.2f}" for amount in (progress.bytes, progress.total))
    return Finding(reason, f"{count}; a replica is {progress.stage}, {done} of {total} GB", percent)


def _is_rolled_out(observed: Observed, settings: Settings) -> Finding | None:
    deployment = observed.children.get(resources.DEPLOYMENTS)
    if deployment is None:
        return Finding(STARTING, "its Deployment is not there yet")
    wanted, status = _engine(observed).spec.replicas, deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    updated = status.get("updatedReplicas", 0)
    if not seen or updated < wanted or status.get("replicas", 0) > wanted:
        return Finding(ROLLING_OUT, f"{updated if seen else 0} of {wanted} replicas run the newest spec")
    return None


def _is_registered(observed: Observed, settings: Settings) -> Finding | None:
    if observed.is_left_out:
        return Finding(
            REGISTRY_FULL,
            "the namespace's registry is full (four fifths of 1 MiB), and older names stay; "
            "use another namespace, or fewer replicas",
        )
    listed = {service.uid for service in observed.listed}
    ready = {pod.uid for pod in observed.pods if pod.is_ready}
    if ready - listed:
        return Finding(REGISTERING, f"{len(ready & listed)} of {len(ready)} ready replicas are in the registry")
    return None


def _serves(observed: Observed, settings: Settings) -> Finding | None:
    engine = _engine(observed)
    count = len(observed.listed)
    answers = "1 replica answers" if count == 1 else f"{count} replicas answer"
    return Finding(SERVING, f"{answers} for {engine.served_name!r}", is_ready=True)


CHECKS: Sequence[Check] = (
    _is_readable,
    _stays,
    _has_its_name,
    _has_an_allowed_image,
    _owns_its_objects,
    _may_write,
    _has_image_volumes,
    _may_have_pods,
    _is_wanted,
    _has_no_trouble,
    _has_started,
    _is_rolled_out,
    _is_registered,
    _serves,
)


def _engine(observed: Observed) -> Engine:
    assert observed.engine is not None, "the first check sees to it"
    return observed.engine


def _staying(observed: Observed) -> list[podstate.PodState]:
    return [pod for pod in observed.pods if not pod.is_leaving]
