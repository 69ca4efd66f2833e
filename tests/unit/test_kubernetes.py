"""deploy/kubernetes: valid for Kubernetes' own schemas, and the same commands and settings as docker-compose.yml.

The schemas of Kubernetes come with kubernetes-validate. KEDA's and the Prometheus Operator's are in no package that
works here, so their kinds are checked against what their documentation names.
"""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.config.variables import PREFIX

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
DOCUMENTS: list[dict[str, Any]] = [
    document
    for file in sorted(FOLDER.glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
#: One that is a year old, and the newest that the schemas are there for.
VERSIONS = ("1.33", kubernetes_validate.latest_version())
OTHERS = ("keda.sh/", "monitoring.coreos.com/")
STOCK = [document for document in DOCUMENTS if not document["apiVersion"].startswith(OTHERS)]
WORKLOADS = {document["metadata"]["name"]: document for document in STOCK if document["kind"] in ("Deployment", "Job")}
COMPONENTS = {"worker", "imports", "beat", "relay", "flower", "migrate"}


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in DOCUMENTS if document["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    template: dict[str, Any] = WORKLOADS[name]["spec"]["template"]
    return template


def container(name: str) -> dict[str, Any]:
    [only] = pod(name)["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", STOCK, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_knows_every_field(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_an_unknown_field_would_be_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(of("ServiceAccount")["pattern-storage"] | {"more": 1}, VERSIONS[1], strict=True)


def test_keda_knows_every_field() -> None:
    [scaled] = of("ScaledObject").values()
    [login] = of("TriggerAuthentication").values()
    assert scaled["apiVersion"] == login["apiVersion"] == "keda.sh/v1alpha1"
    assert set(scaled["spec"]) <= {
        "scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount", "triggers",
    }  # fmt: skip
    assert set(scaled["spec"]["scaleTargetRef"]) == {"kind", "name"}
    for trigger in scaled["spec"]["triggers"]:
        assert set(trigger) == {"type", "metadata", "authenticationRef"}
        assert trigger["type"] == "redis"
        assert set(trigger["metadata"]) <= {"address", "listName", "listLength", "activationListLength"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert int(trigger["metadata"]["listLength"]) > 0
        assert trigger["authenticationRef"] == {"name": login["metadata"]["name"]}
    assert set(login["spec"]) == {"secretTargetRef"}
    assert all(set(one) == {"parameter", "name", "key"} for one in login["spec"]["secretTargetRef"])


def test_scaling_follows_the_queues_of_the_worker() -> None:
    [scaled] = of("ScaledObject").values()
    target = WORKLOADS[scaled["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"], "it would be set back at every apply"
    consumed = container(target["metadata"]["name"])["command"][5].split(",")
    assert [trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]] == consumed
    assert set(consumed) < set(QUEUES)
    assert scaled["spec"]["minReplicaCount"] >= 1


def test_prometheus_gives_pods_the_names_that_our_alerts_know() -> None:
    """Who is scraped, where, and as which job: what the operator makes of it, by its rules."""
    [monitor] = of("PodMonitor").values()
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    [wanted] = monitor["spec"]["selector"]["matchExpressions"]
    assert (set(wanted), wanted["operator"]) == ({"key", "operator", "values"}, "In")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert set(endpoint) == {"port", "interval", "relabelings"}
    [rule] = endpoint["relabelings"]
    assert set(rule) == {"sourceLabels", "regex", "replacement", "targetLabel"}
    assert rule["targetLabel"] == "job"
    jobs = set()
    for name in WORKLOADS:
        labels = pod(name)["metadata"]["labels"]
        ports = [port["name"] for port in container(name).get("ports", [])]
        chosen = monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        chosen = chosen and labels[wanted["key"]] in wanted["values"]
        assert chosen == (endpoint["port"] in ports), name
        if chosen:
            meta = {f"__meta_kubernetes_pod_label_{re.sub('[^A-Za-z0-9_]', '_', key)}": labels[key] for key in labels}
            joined = ";".join(meta[label] for label in rule["sourceLabels"])
            jobs.add(re.fullmatch(rule["regex"], joined).expand(rule["replacement"].replace("$", "\\")))  # type: ignore[union-attr]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert jobs == {job["job_name"] for job in scraped}
    alerts = (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    named = set(re.findall(r'job="([^"]+)"', alerts))
    assert named
    assert named <= jobs


def test_the_same_commands_as_in_compose() -> None:
    assert {name.removeprefix("pattern-storage-") for name in WORKLOADS} == COMPONENTS
    for component in COMPONENTS:
        assert container(f"pattern-storage-{component}")["command"] == COMPOSE[component]["command"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_settings_and_secrets_are_ours(name: str) -> None:
    shared = of("ConfigMap")["pattern-storage"]["data"]
    own = {variable["name"] for variable in container(name).get("env", [])}
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert shared.keys() | own - {"REMAP_SIGTERM", "TMPDIR"} <= known
    [secret] = [volume["secret"] for volume in pod(name)["spec"]["volumes"] if "secret" in volume]
    files = [item["path"] for item in secret["items"]]
    component = name.removeprefix("pattern-storage-")
    assert files == [given["target"] for given in COMPOSE[component]["secrets"]]
    # Only who changes the schema has the role that may.
    assert secret["secretName"] == ("pattern-storage-owner" if component == "migrate" else "pattern-storage")
    mounted = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert mounted["secrets"] == shared["PATTERN_STORAGE_SECRETS_DIR"]


def test_imports_write_to_their_volume() -> None:
    name = "pattern-storage-imports"
    given = {one["name"]: one["value"] for one in container(name)["env"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert given["PATTERN_STORAGE_DATA_DIR"] == given["TMPDIR"] == mounted["data"]
    [claim] = [one["persistentVolumeClaim"] for one in pod(name)["spec"]["volumes"] if one["name"] == "data"]
    assert claim["claimName"] in of("PersistentVolumeClaim")


def test_no_secret_is_in_the_repository() -> None:
    assert "Secret" not in {document["kind"] for document in DOCUMENTS}


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_have_least_privilege(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"USER {spec['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert spec["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert set(container(name)["resources"]) == {"requests", "limits"}


def test_probes() -> None:
    probed = {name.removeprefix("pattern-storage-"): container(name) for name in WORKLOADS}
    for component in COMPONENTS - {"migrate"}:
        assert "pattern-storage health" in " ".join(probed[component]["readinessProbe"]["exec"]["command"])
    for component in ("worker", "imports", "beat", "flower"):
        assert "livenessProbe" in probed[component]


@pytest.mark.parametrize("name", ["pattern-storage-worker", "pattern-storage-imports"])
def test_a_stopping_worker_has_time_to_finish(name: str) -> None:
    assert pod(name)["spec"]["terminationGracePeriodSeconds"] > Settings.model_fields["soft_shutdown_timeout"].default
    assert {"name": "REMAP_SIGTERM", "value": "SIGQUIT"} in container(name)["env"]


def test_selectors_find_their_pods() -> None:
    labels = {name: pod(name)["metadata"]["labels"] for name in WORKLOADS}
    for name, deployment in of("Deployment").items():
        assert deployment["spec"]["selector"]["matchLabels"] == labels[name]
    for kind in ("PodDisruptionBudget", "Service"):
        for name, document in of(kind).items():
            selector = document["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels[name]
    assert set(of("PodDisruptionBudget")) == {f"pattern-storage-{name}" for name in ("worker", "imports", "relay")}


def test_everything_is_applied() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    files = sorted(path.name for path in FOLDER.glob("*.yaml"))
    assert sorted([*listed["resources"], "kustomization.yaml"]) == files
    images = {container(name)["image"].split(":")[0] for name in WORKLOADS}
    assert images == {image["name"] for image in listed["images"]}
