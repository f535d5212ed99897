"""`deploy/compose.yaml`: every name in it is one that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployed_files import DEPLOY, Document, documents, unknown

from gateway.cli.root import COMMANDS
from gateway.settings import Settings

OURS = ("gateway", "worker", "migrate", "backup")
MADE = "./backups"
"""The folder that an operator makes."""


def compose() -> Document:
    (document,) = documents(DEPLOY / "compose.yaml")
    return document


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("name", OURS)
def test_each_of_our_services_runs_a_command_with_settings_that_there_are(name: str) -> None:
    service = compose()["services"][name]
    assert service["command"][0] in COMMANDS
    assert not unknown(service["environment"])
    assert "MOTION_GATEWAY_SECRET_KEY_FILE" in service["environment"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert seconds(service["stop_grace_period"]) > Settings().worker.stop_s + 10


def test_secrets_are_files_that_the_settings_name() -> None:
    document = compose()
    for name in OURS:
        service = document["services"][name]
        files = {path for key, path in service["environment"].items() if key.endswith("_FILE")}
        assert files == {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert set(service["secrets"]) <= set(document["secrets"])


def test_services_wait_for_what_there_is_and_volumes_are_declared() -> None:
    document = compose()
    services = document["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("./") or source in document["volumes"]
        for config in service.get("configs", ()):
            assert config["source"] in document["configs"]


def test_nothing_is_reached_from_outside_the_machine() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_a_backup_goes_to_the_machine_and_waits_for_no_migration() -> None:
    service = compose()["services"]["backup"]
    assert service["profiles"], "it is not started with the rest"
    assert service["volumes"] == [f"{MADE}:/backup"]
    assert set(service["depends_on"]) == {"postgres"}, "what is restored into must be empty"


def mounted() -> list[str]:
    services = compose()["services"].values()
    volumes = [volume for service in services for volume in service.get("volumes", ())]
    sources = [volume.partition(":")[0] for volume in volumes if volume.startswith("./")]
    return [source for source in sources if source != MADE]


@pytest.mark.parametrize("path", mounted())
def test_the_files_that_are_mounted_are_there(path: str) -> None:
    file = DEPLOY / path
    if not file.parent.exists():
        pytest.skip(f"deploy/{Path(path).parent} is not in this tree")
    assert file.is_file()


def test_prometheus_scrapes_names_that_the_services_answer_to() -> None:
    config = DEPLOY / "prometheus" / "prometheus.yml"
    if not config.exists():
        pytest.skip("deploy/prometheus is not in this tree")
    (document,) = documents(config)
    services = compose()["services"]
    names = set(services)
    for service in services.values():
        names |= set(service.get("networks", {}).get("default", {}).get("aliases", ()))
    (scrape,) = document["scrape_configs"]
    (static,) = scrape["static_configs"]
    assert {target.partition(":")[0] for target in static["targets"]} <= names
    keys = [secret["target"] for secret in services["prometheus"]["secrets"]]
    assert keys == [scrape["authorization"]["credentials_file"]]
