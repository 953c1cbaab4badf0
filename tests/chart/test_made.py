"""What `make chart` makes is what is checked in, and says the same as its sources."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from charts import render

from chart.rendering import Helm, Object
from modelengine import kinds

CHART = yaml.safe_load((render.CHART / "Chart.yaml").read_text())


def test_the_chart_has_the_crd_byte_for_byte() -> None:
    assert render.CRD_COPY.read_bytes() == render.CRD.read_bytes(), "run `make chart`"


def test_the_plain_manifests_are_those_of_the_chart(helm: Helm) -> None:
    assert render.PLAIN.read_text() == render.plain(helm.path), "run `make chart`"


def test_the_documented_values_are_those_of_the_chart() -> None:
    assert render.INSTALL.read_text() == render.install_page(), "run `make chart`"
    assert "| `frontDoor.replicas` | `2` |" in render.INSTALL.read_text()


@pytest.mark.parametrize("keep", [True, False])
def test_helm_installs_the_crd_as_it_is_and_keeps_it_if_told(helm: Helm, keep: bool) -> None:
    objects = helm.template(f"crds.keep={str(keep).lower()}")
    [crd] = [obj for obj in objects if obj["kind"] == "CustomResourceDefinition"]
    source = yaml.safe_load(render.CRD.read_text())
    assert crd["spec"] == source["spec"]
    assert crd["metadata"]["name"] == source["metadata"]["name"] == f"{kinds.PLURAL}.{kinds.GROUP}"
    added = {"helm.sh/resource-policy": "keep"} if keep else {}
    assert (crd["metadata"].get("annotations") or {}) == (source["metadata"].get("annotations") or {}) | added


def test_the_plain_manifests_hold_nothing_of_helms(helm: Helm) -> None:
    objects: list[Object] = [*yaml.safe_load_all(render.PLAIN.read_text())]
    text = render.PLAIN.read_text()
    assert "helm.sh" not in text
    assert "managed-by: Helm" not in text
    kept = {(obj["kind"], obj["metadata"]["name"]) for obj in helm.template() if not is_hook(obj)}
    assert {(obj["kind"], obj["metadata"]["name"]) for obj in objects} == kept | {("Namespace", render.NAMESPACE)}
    assert {obj["metadata"]["namespace"] for obj in objects if "namespace" in obj["metadata"]} == {render.NAMESPACE}
    assert objects[0]["kind"] == "Namespace"


def is_hook(obj: Object) -> bool:
    return "helm.sh/hook" in (obj["metadata"].get("annotations") or {})


def test_the_command_that_puts_a_registry_into_the_plain_manifests_finds_the_images_and_nothing_else() -> None:
    [pattern] = re.findall(r"sed -E 's#(.*?)#REGISTRY/&#'", render.INSTALL.read_text())
    found = [line.strip() for line in render.PLAIN.read_text().splitlines() if re.search(pattern, line)]
    version = CHART["appVersion"]
    assert found == [
        f"image: modelengine-operator:{version}",
        f"image: modelengine-operator:{version}",
        f"value: modelengine-engine:{version}",
    ]


def test_chart_images_and_package_have_one_version() -> None:
    version = tomllib.loads((render.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CHART["version"] == CHART["appVersion"] == version
    images = yaml.safe_load(CHART["annotations"]["artifacthub.io/images"])
    assert [image["image"] for image in images] == [f"modelengine-operator:{version}", f"modelengine-engine:{version}"]


def test_what_the_catalogue_is_told_of_the_crd_is_so() -> None:
    crd = yaml.safe_load(render.CRD.read_text())
    [told] = yaml.safe_load(CHART["annotations"]["artifacthub.io/crds"])
    assert (told["kind"], told["version"], told["name"]) == (kinds.KIND, kinds.VERSION, crd["metadata"]["name"])
    [example] = yaml.safe_load(CHART["annotations"]["artifacthub.io/crdsExamples"])
    assert (example["apiVersion"], example["kind"]) == (kinds.API_VERSION, kinds.KIND)
