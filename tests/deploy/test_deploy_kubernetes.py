"""`deploy/kubernetes`: paths, settings, labels and times are those of the gateway."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from deployed_files import DEPLOY, Document, documents, unknown

from gateway.api.openapi import OPERATIONS
from gateway.cli.root import COMMANDS
from gateway.settings import Settings
from gateway.telemetry import Metrics

FOLDER = DEPLOY / "kubernetes"
(KUSTOMIZATION,) = documents(FOLDER / "kustomization.yaml")
APPLIED = [one for name in KUSTOMIZATION["resources"] for one in documents(FOLDER / name)]
PATHS = {operation.path for operation in OPERATIONS}


def of_kind(*kinds: str) -> list[Document]:
    return [one for one in APPLIED if one["kind"] in kinds]


def pods() -> Iterator[tuple[str, Document]]:
    for one in of_kind("Deployment", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]
    for one in of_kind("CronJob"):
        yield one["metadata"]["name"], one["spec"]["jobTemplate"]["spec"]["template"]


PODS = dict(pods())


@pytest.mark.parametrize("name", PODS)
def test_each_pod_is_an_ordinary_users_and_writes_nowhere(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["args"][0] in COMMANDS


DEPLOYED = [one["metadata"]["name"] for one in of_kind("Deployment")]


def linger_s(name: str) -> float:
    """How long a pod waits before it is told to end."""
    (container,) = PODS[name]["spec"]["containers"]
    if "lifecycle" not in container:
        return 0.0
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return float(seconds)


@pytest.mark.parametrize("name", [*DEPLOYED, "motion-gateway-migrate"])
def test_each_pod_may_take_longer_to_end_than_its_worker_does(name: str) -> None:
    set_s = [float(one.partition("=")[2]) for one in literals() if "WORKER__STOP_S" in one]
    least_s = linger_s(name) + max(Settings().worker.stop_s, *set_s) + 10
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] >= least_s


def test_a_pod_that_a_service_leads_to_goes_on_until_nobody_sends_requests_there() -> None:
    for service in of_kind("Service"):
        led_to = [
            name
            for name, pod in PODS.items()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        assert led_to
        assert all(linger_s(name) >= 5 for name in led_to)


def test_an_upgrade_resets_nobodys_number() -> None:
    assert not [one["metadata"]["name"] for one in of_kind("Deployment") if "replicas" in one["spec"]]


def test_a_backup_goes_to_a_volume_that_is_claimed_and_mounted() -> None:
    (claim,) = of_kind("PersistentVolumeClaim")
    pod = PODS["motion-gateway-backup"]["spec"]
    (container,) = pod["containers"]
    command, file = container["args"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert command == "backup"
    claimed = volumes[mounts[str(PurePosixPath(file).parent)]]["persistentVolumeClaim"]["claimName"]
    assert claimed == claim["metadata"]["name"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert {one["name"] for one in container["env"]} == set(re.findall(r"\$\((\w+)\)", file))


def test_what_is_scraped_is_the_gateways_under_the_name_that_the_alerts_go_by() -> None:
    (monitor,) = documents(FOLDER / "monitoring.yaml")
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    scraped = {
        name for name, pod in PODS.items() if pod["metadata"]["labels"][wanted["key"]] in wanted["values"]
    }
    assert scraped == set(DEPLOYED)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = [PODS[name]["spec"]["containers"][0]["ports"] for name in scraped]
    assert all(endpoint["port"] in {port["name"] for port in one} for one in ports)
    assert endpoint["path"] in PATHS
    (prometheus,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    (scrape,) = prometheus["scrape_configs"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": scrape["job_name"]}]


@pytest.mark.parametrize("name", DEPLOYED)
def test_probes_ask_for_paths_that_there_are(name: str) -> None:
    (container,) = PODS[name]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in PATHS
        assert asked["port"] in ports
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live", (
        "a database away is no reason to die"
    )


def literals() -> list[str]:
    (config,) = KUSTOMIZATION["configMapGenerator"]
    found: list[str] = config["literals"]
    return found


def test_settings_are_those_there_are() -> None:
    assert not unknown(literal.partition("=")[0] for literal in literals())
    (config,) = KUSTOMIZATION["configMapGenerator"]
    for pod in PODS.values():
        (container,) = pod["spec"]["containers"]
        assert next(one.get("configMapRef") for one in container["envFrom"]) == {"name": config["name"]}


def test_what_selects_pods_selects_one_kind_of_them() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for one in of_kind("Service", "PodDisruptionBudget", "Deployment"):
        selector = one["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert sum(wanted.items() <= has.items() for has in labels) == 1, one["metadata"]["name"]
    budgets = {one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
               for one in of_kind("PodDisruptionBudget")}  # fmt: skip
    assert budgets == {"api", "worker"}


def test_what_scales_names_a_deployment_and_a_metric_that_there_are() -> None:
    (scaled,) = documents(FOLDER / "autoscaling.yaml")
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in (scaled, *of_kind("HorizontalPodAutoscaler"))]
    assert set(targets) <= {one["metadata"]["name"] for one in of_kind("Deployment")}
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    (name,) = re.findall(r"motion_gateway_\w+", query)
    exported = Metrics(version="0", providers=["acme"], models=["m"], routes=[]).render()[0].decode()
    assert f"# TYPE {name} gauge" in exported


def test_kustomize_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on the PATH")
    done = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nkind: ") == len(APPLIED) + 1
