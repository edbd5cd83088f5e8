"""The charts of `deploy/helm`: Helm renders them, Kubernetes' schemas accept them, and they mean
what they should. There is no cluster here: what a pod would run, runs as a process."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from eventferry.cli import main
from eventferry.embedded import EmbeddedServer
from eventferry.projection import Projection
from tests import kubernetes
from tests.databases import Databases
from tests.deployed import Deployed
from tests.environment import require
from tests.helm import CHARTS, NAMESPACE, HelmError, Values, linted, rendered
from tests.kubernetes import Manifest, container, only
from tests.probed import HANDLERS, SERVICE, free_port, runs_until_told

pytestmark = pytest.mark.once

SERVICE_NEEDS: dict[str, Any] = {
    "image": {"repository": "registry.example.org/boilerplate", "tag": "1"},
    "urls": {"local": {"secret": "boilerplate"}, "shared": {"secret": "shared-store"}},
}
EVERYTHING: dict[str, Any] = SERVICE_NEEDS | {
    "imagePullSecrets": [{"name": "registry"}],
    "urls": SERVICE_NEEDS["urls"]
    | {"localListen": {"secret": "boilerplate"}, "sharedListen": {"secret": "shared-store"}},
    "config": "/service/config/projections.toml",
    "worker": {"replicas": 5, "queue": "mails", "concurrency": 8, "background": False},
    "migrate": {"urls": {"local": {"secret": "owner"}, "shared": {"secret": "owner"}}},
    "podDisruptionBudget": {"enabled": True, "maxUnavailable": "20%"},
    "serviceAccount": {"create": True, "annotations": {"example.org/role": "worker"}},
    "podAnnotations": {"example.org/scraped": "true"},
    "podLabels": {"team": "shop"},
    "extraEnv": [{"name": "MAIL_HOST", "value": "smtp"}],
    "extraEnvFrom": [{"secretRef": {"name": "mail"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"team": "shop"}},
        }
    ],
    "priorityClassName": "high",
}
STORE_OF_A_TEAM = {
    "image": {"tag": "15-alpine"},
    "auth": {"existingSecret": "postgres"},
    "service": {"port": 6432, "nodePort": None},
    "persistence": {"storageClass": "fast"},
    "settings": {"wal_level": "logical"},
}
CASES = {
    "service, as little as needed": ("service", SERVICE_NEEDS),
    "service, everything": ("service", EVERYTHING),
    "service, no migration": ("service", SERVICE_NEEDS | {"migrate": {"enabled": False}}),
    "shared-store, by default": ("shared-store", {}),
    "shared-store, with a password": ("shared-store", {"auth": {"password": "s3cret-"}}),
    "shared-store, of a team": ("shared-store", STORE_OF_A_TEAM),
}
EVERY_CASE = pytest.mark.parametrize(("chart", "values"), CASES.values(), ids=CASES)
VERSIONS_OF_KUBERNETES = ("1.25", "1.37")
"""The oldest that the charts ask for, and the newest that the schemas know."""


def manifests(chart: str, values: Values, **options: str) -> list[Manifest]:
    """What Helm would send to Kubernetes."""
    require(find_spec("yaml"), "PyYAML: make charts")
    import yaml

    files = rendered(chart, values, **options)
    return [
        manifest
        for name, text in files.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


# As linters see them


@EVERY_CASE
def test_helm_finds_nothing_to_mend(chart: str, values: Values) -> None:
    assert [said for said in linted(chart, values) if said["severity"] > 1] == []


@pytest.mark.parametrize("version", VERSIONS_OF_KUBERNETES)
@EVERY_CASE
def test_kubernetes_takes_what_they_render(chart: str, values: Values, version: str) -> None:
    require(find_spec("kubernetes_validate"), "Kubernetes' schemas: make charts")
    import kubernetes_validate

    found = manifests(chart, values)
    assert found
    for manifest in found:
        kubernetes_validate.validate(manifest, version, strict=True)  # no unknown keys either


@EVERY_CASE
def test_no_key_of_a_manifest_stands_there_twice(chart: str, values: Values) -> None:
    """The second one would win without a word."""
    texts = [text for name, text in rendered(chart, values).items() if name.endswith(".yaml")]
    assert problems_of_yaml("\n---\n".join(texts), "{rules: {key-duplicates: enable}}") == []


@pytest.mark.parametrize("path", sorted(CHARTS.glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_their_yaml_is_tidy(path: Path) -> None:
    rules = "{document-start: disable, line-length: {max: 100}}"
    assert problems_of_yaml(path.read_text(), f"{{extends: default, rules: {rules}}}") == []


def problems_of_yaml(text: str, configuration: str) -> list[str]:
    require(find_spec("yamllint"), "yamllint: make charts")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    return [str(problem) for problem in linter.run(text, YamlLintConfig(configuration))]


# What they refuse


@pytest.mark.parametrize(
    ("chart", "values", "message"),
    [
        ("service", {}, "/image/repository"),
        ("service", SERVICE_NEEDS | {"urls": {}}, "/urls/local/secret"),
        ("service", SERVICE_NEEDS | {"image": {"repository": "a", "tag": "latest"}}, "/image/tag"),
        ("service", SERVICE_NEEDS | {"worker": {"replica": 1}}, "'replica' not allowed"),
        ("service", SERVICE_NEEDS | {"worker": {"concurrency": 0}}, "/worker/concurrency"),
        ("shared-store", {"service": {"nodePort": 5432}}, "/service/nodePort"),
        ("shared-store", {"auth": {"password": "a@b"}}, "/auth/password"),
        ("shared-store", {"settings": {"max_connections": 200}}, "/settings/max_connections"),
    ],
)
def test_a_mistake_in_the_values_is_named(chart: str, values: Values, message: str) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        rendered(chart, values)


# A service


def test_its_pods_migrate_answer_the_probes_and_end_when_told(
    databases: Databases, tmp_path: Path
) -> None:
    """The command lines, variables, ports and paths of the manifests, with real processes."""
    port = free_port()
    found = manifests("service", SERVICE_NEEDS | {"worker": {"port": port}})
    secrets = {
        "boilerplate": {"local-url": databases.make_empty()},
        "shared-store": {"shared-url": databases.make_empty()},
    }
    deployed = Deployed(tmp_path, SERVICE, HANDLERS)

    job = container(only(found, "Job"))
    program, *arguments = job["args"]
    assert program == "eventferry"
    assert deployed.run(*arguments, **kubernetes.environ(job, secrets)) == 0, deployed.log

    worker = container(only(found, "Deployment"))
    program, *arguments = worker["args"]
    assert program == "eventferry"
    urls = [kubernetes.probed_url(worker, probe) for probe in ("startup", "liveness", "readiness")]
    runs_until_told(deployed, arguments, kubernetes.environ(worker, secrets), urls)


def test_no_url_of_a_store_stands_in_a_manifest() -> None:
    for manifest in manifests("service", EVERYTHING):
        assert "postgresql://" not in json.dumps(manifest)
        for name in urls(manifest):
            assert urls(manifest)[name].keys() == {"secretKeyRef"}, name


def test_the_migration_may_have_another_role() -> None:
    found = manifests("service", EVERYTHING)
    for kind, secret in (("Deployment", "boilerplate"), ("Job", "owner")):
        reference = urls(only(found, kind))["EVENTFERRY_LOCAL_URL"]["secretKeyRef"]
        assert reference == {"name": secret, "key": "local-url"}


def urls(manifest: Manifest) -> Mapping[str, Manifest]:
    """Where a pod's URLs come from."""
    if manifest["kind"] not in ("Deployment", "Job"):
        return {}
    variables = container(manifest)["env"]
    return {v["name"]: v["valueFrom"] for v in variables if v["name"].endswith("_URL")}


def test_a_worker_has_longer_to_end_than_a_handler_may_take() -> None:
    pod = only(manifests("service", SERVICE_NEEDS), "Deployment")["spec"]["template"]["spec"]
    (timeout,) = (f.default for f in fields(Projection) if f.name == "handler_timeout")
    assert isinstance(timeout, timedelta)
    assert pod["terminationGracePeriodSeconds"] > timeout.total_seconds()


def test_an_upgrade_takes_no_worker_away_before_a_new_one_is_ready() -> None:
    strategy = only(manifests("service", SERVICE_NEEDS), "Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_the_migration_comes_first_with_what_exists_by_then() -> None:
    """A hook before an installation runs when no account of the chart has been created yet."""
    found = manifests("service", EVERYTHING)
    job = only(found, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    assert account != only(found, "ServiceAccount")["metadata"]["name"]


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget"])
def test_selectors_find_the_workers_and_not_the_migration(kind: str) -> None:
    found = manifests("service", EVERYTHING)
    selected = only(found, kind)["spec"]["selector"]["matchLabels"]
    for workload, is_selected in (("Deployment", True), ("Job", False)):
        labels = only(found, workload)["spec"]["template"]["metadata"]["labels"]
        assert (selected.items() <= labels.items()) is is_selected


def test_what_its_notes_advise_are_commands() -> None:
    advised = re.findall(r"(eventferry .*)", rendered("service", SERVICE_NEEDS)["NOTES.txt"])
    assert advised
    for words in advised:
        assert main([*words.split()[1:], "--help"]) == 0, words


# The shared store


def test_its_databases_are_made_once_however_often_it_is_asked(own_server: EmbeddedServer) -> None:
    psql = own_server.programs / "psql"
    require(psql.exists(), "psql")
    script = CHARTS / "shared-store" / "files" / "databases.sql"
    for _ in range(2):
        strictly = ("--no-psqlrc", "--set=ON_ERROR_STOP=1")
        subprocess.run([psql, *strictly, "--file", script, own_server.url()], check=True)
    with psycopg.connect(own_server.url()) as conn:
        found = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'event%'")
        assert sorted(name for (name,) in found) == ["event-store", "event-store_test"]


def test_the_image_finds_the_script() -> None:
    found = manifests("shared-store", {})
    script = (CHARTS / "shared-store" / "files" / "databases.sql").read_text()
    assert only(found, "ConfigMap")["data"]["databases.sql"].strip() == script.strip()
    spec = only(found, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = (v["name"] for v in spec["volumes"] if "configMap" in v)
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts[volume] == "/docker-entrypoint-initdb.d"


def test_a_server_takes_its_settings(own_server: EmbeddedServer) -> None:
    args = container(only(manifests("shared-store", {}), "StatefulSet"))["args"]
    assert args[0] == "postgres"
    settings = [arg.split("=", 1) for arg in args[1:] if arg != "-c"]
    assert settings
    with psycopg.connect(own_server.url(), autocommit=True) as conn:
        for name, value in settings:
            statement = psycopg.sql.SQL("ALTER SYSTEM SET {} = {}")
            conn.execute(statement.format(psycopg.sql.Identifier(name), value))


def test_it_is_reached_from_inside_and_at_port_31578_of_a_node() -> None:
    found = manifests("shared-store", {})
    pod = only(found, "StatefulSet")["spec"]["template"]
    services = [manifest["spec"] for manifest in found if manifest["kind"] == "Service"]
    assert {spec["type"] for spec in services} == {"ClusterIP", "NodePort"}
    for spec in services:
        assert spec["selector"].items() <= pod["metadata"]["labels"].items()
        (port,) = spec["ports"]
        assert port["targetPort"] in {p["name"] for p in pod["spec"]["containers"][0]["ports"]}
        assert port.get("nodePort") == (31578 if spec["type"] == "NodePort" else None)


def test_nothing_outside_reaches_it_where_nobody_asked_for_that() -> None:
    service = only(manifests("shared-store", STORE_OF_A_TEAM), "Service")
    assert service["spec"]["type"] == "ClusterIP"


def test_its_secret_holds_the_urls_of_both_databases() -> None:
    values = {"auth": {"password": "s3cret-"}, "service": {"port": 6432}}
    found = manifests("shared-store", values, release="store")
    secret = only(found, "Secret")["stringData"]
    for key, database in (("shared-url", "event-store"), ("test-url", "event-store_test")):
        assert conninfo_to_dict(secret[key]) == {
            "user": "postgres",
            "password": "s3cret-",
            "host": f"store.{NAMESPACE}.svc",
            "port": "6432",
            "dbname": database,
        }
    assert "store" in {m["metadata"]["name"] for m in found if m["kind"] == "Service"}


def test_a_password_is_made_once_and_kept() -> None:
    """An upgrade that made a new one would lock everybody out, as the data know the old one."""
    with kubernetes.api(NAMESPACE, {"store": {"password": "kept"}}) as kubeconfig:
        for release, expected in (("store", "kept"), ("another", r"\w{24}")):
            found = manifests("shared-store", {}, release=release, kubeconfig=kubeconfig)
            assert re.fullmatch(expected, only(found, "Secret")["stringData"]["password"])
            keep = only(found, "Secret")["metadata"]["annotations"]["helm.sh/resource-policy"]
            assert keep == "keep"


def test_a_service_in_its_namespace_finds_its_url() -> None:
    """The charts fit together: the Secret of the one is what the other one asks for."""
    secret = only(manifests("shared-store", {}, release="shared-store"), "Secret")
    secrets = {
        secret["metadata"]["name"]: secret["stringData"],
        "boilerplate": {"local-url": "postgresql://db/boilerplate"},
    }
    worker = container(only(manifests("service", SERVICE_NEEDS), "Deployment"))
    environ = kubernetes.environ(worker, secrets)
    assert environ["EVENTFERRY_SHARED_URL"] == secret["stringData"]["shared-url"]


def test_it_is_ready_only_when_its_databases_are_made() -> None:
    """While the image's first scripts run, PostgreSQL listens on its socket alone."""
    store = container(only(manifests("shared-store", {}), "StatefulSet"))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = store[probe]["exec"]["command"]
        assert command[0] == "pg_isready"
        assert "--host=127.0.0.1" in command
