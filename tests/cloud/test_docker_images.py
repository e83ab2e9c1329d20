# SPDX-License-Identifier: Apache-2.0
"""Images of the engine and of a registry, listed in Glance and booted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import psutil
import pytest
from oslo_utils import uuidutils

from cloud import settings
from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud import cloud
from tests.cloud import services
from tests.cloud.conftest import eventually
from tests.functional.registry_server import RegistryServer

# Large compared to what Glance writes for other reasons.
SIZE = 16 * 1024 * 1024
# Seconds for what takes less than one on an idle machine.
SOON = 5
GLANCE_CONF = settings.ETC / "glance/glance-api.conf"


def run(*command, user="admin", check=True):
    """Run a command in the environment that ``./quickstart env`` exports."""
    exported = cloud.environment()
    env = {
        "HOME": os.environ["HOME"],
        "PATH": f"{settings.PATH}:/usr/local/bin",
        "DOCKER_HOST": exported["DOCKER_HOST"],
        "OS_CLIENT_CONFIG_FILE": exported["OS_CLIENT_CONFIG_FILE"],
        "OS_CLOUD": user,
    }
    return subprocess.run(
        command, env=env, check=check, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def build(tmp_path, engine):
    """Builds an image with docker build, and returns its name."""
    built = []

    def docker_build(content=b"built", size=0, labels=None):
        name = f"test-{uuidutils.generate_uuid()}"
        shutil.copy("/bin/busybox", tmp_path)
        (tmp_path / "content").write_bytes(content)
        (tmp_path / "large").write_bytes(os.urandom(size))
        (tmp_path / "Dockerfile").write_text(
            "FROM scratch\n"
            "COPY busybox /bin/sh\nCOPY busybox /bin/cat\nCOPY content large /\n"
            'CMD ["/bin/sh"]\n'
            + "".join(f"LABEL {k}={v}\n" for k, v in (labels or {}).items())
        )
        built.append(f"{name}:latest")
        run("docker", "build", "-q", "-t", name, str(tmp_path))
        return built[-1]

    yield docker_build
    for name in built:
        run("docker", "rmi", name, check=False)


def listed(user, name):
    return next(iter(user.image.images(name=f"eq:{name}")), None)


@contextlib.contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def await_listed(user, name):
    assert eventually(
        lambda: (found := listed(user, name)) and found.size, interval=0.1
    )
    return listed(user, name)


def await_active(user, name):
    assert eventually(
        lambda: (found := listed(user, name)) and found.status == "active", interval=0.1
    )
    # Glance removes this property only when the task is over.
    eventually(lambda: "os_glance_import_task" not in listed(user, name).properties)
    return user.image.get_image(listed(user, name).id)


def written_by_glance():
    """Return how many bytes Glance's processes have written anywhere."""
    return sum(
        process.io_counters().write_chars
        for process in psutil.process_iter(["cmdline"])
        if "glance.wsgi.api:application" in (process.info["cmdline"] or ())
    )


def test_an_image_built_on_the_host_boots_without_being_copied(
    boot, build, demo, engine
):
    name = build(size=SIZE)
    with within(SOON):
        image = await_listed(demo, name)
    assert (image.container_format, image.disk_format) == ("docker", "raw")
    assert image.is_protected
    await_active(demo, name)
    before = written_by_glance()
    server = boot(name)
    assert written_by_glance() - before < SIZE / 16
    assert server.run("cat /content") == "built"
    container = engine.inspect_container(name_of(server.id))
    assert container["Image"] == engine.inspect_image(name)["Id"]
    with io.BytesIO() as saved:
        demo.image.download_image(image, output=saved)
        # Shows that the counter would have noticed a copy.
        assert written_by_glance() - before > SIZE
        assert len(saved.getvalue()) == image.size
        loaded = engine.load_image([saved.getvalue()])
    assert name in str(loaded)


def test_removing_a_tag_removes_the_image_from_glance(build, demo):
    name = build()
    await_listed(demo, name)
    run("docker", "rmi", name)
    with within(SOON):
        assert eventually(lambda: not listed(demo, name), interval=0.1)


def test_the_openstack_command_finds_an_image_by_its_name(build, demo):
    name = build(labels={"org.example.team": "a"})
    await_active(demo, name)
    shown = json.loads(run("openstack", "image", "show", "-f", "json", name).stdout)
    properties = shown["properties"]
    assert json.loads(properties["docker_cmd"]) == ["/bin/sh"]
    assert json.loads(properties["docker_labels"]) == {"org.example.team": "a"}
    assert properties["architecture"] == os.uname().machine
    refused = run("openstack", "image", "delete", name, check=False)
    assert refused.returncode
    assert "is protected and cannot be deleted" in refused.stderr
    assert listed(demo, name)


def test_a_user_cannot_change_an_image_of_the_engine(build, demo):
    name = build()
    image = await_active(demo, name)
    url = f"/images/{image.id}"
    patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    octets = {"Content-Type": "application/octet-stream"}
    place = {"url": "docker://local/a:1?id=sha256:" + "0" * 64 + "&size=1"}
    for path, operation in (
        ("/docker_cmd", {"op": "replace", "value": "x"}),
        ("/new", {"op": "add", "value": "x"}),
        ("/protected", {"op": "replace", "value": False}),
        ("/locations/-", {"op": "add", "value": {**place, "metadata": {}}}),
    ):
        body = json.dumps([{"path": path, **operation}])
        assert demo.image.patch(url, data=body, headers=patch).status_code == 403
    assert demo.image.delete(url).status_code == 403
    upload = demo.image.put(f"{url}/file", data=b"mine", headers=octets)
    assert 400 <= upload.status_code < 500
    assert 400 <= demo.image.post(f"{url}/locations", json=place).status_code < 500
    assert demo.image.get_image(image.id).to_dict() == image.to_dict()


def test_copied_properties_do_not_select_another_image(
    boot, build, demo, admin, upload
):
    """A user copies all properties of a listed image to an image of their own."""
    name = build(content=b"secret")
    listed_image = await_active(admin, name)
    copied = {
        k: v for k, v in listed_image.properties.items() if k.startswith("docker_")
    }
    assert copied["docker_image_id"]
    mine = upload(
        archives.busybox_archive(files={"content": b"mine"}),
        architecture=listed_image.architecture,
        **copied,
    )
    assert demo.image.find_image(mine).properties["docker_tag"] == name
    assert boot(mine).run("cat /content") == "mine"


def test_a_user_cannot_set_the_location_of_an_image(build, demo, admin):
    name = build(content=b"secret")
    listed_image = await_active(admin, name)
    [place] = re.findall(r"docker://local/[^\"]+", locations(admin, listed_image.id))
    body = {"container_format": "docker", "disk_format": "raw", "name": "thief"}
    image_id = demo.image.post("/images", json=body).json()["id"]
    try:
        url = f"/images/{image_id}/locations"
        assert demo.image.post(url, json={"url": place}).status_code == 403
        assert demo.image.get(url).status_code == 403
        patch = [{"op": "add", "path": "/locations/-", "value": {"url": place}}]
        answer = demo.image.patch(
            f"/images/{image_id}",
            data=json.dumps(patch),
            headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        )
        assert 400 <= answer.status_code < 500
        assert demo.image.get_image(image_id).status == "queued"
    finally:
        demo.image.delete_image(image_id)


def locations(admin, image_id):
    return admin.image.get(f"/images/{image_id}/locations").text


def test_an_image_is_pushed_from_the_engine(boot, build, demo):
    name = build()
    command = [settings.BIN / "nova-docker-image", "push"]
    image_id = run(*command, "--name", "pushed", name, user="demo").stdout.strip()
    try:
        image = demo.image.get_image(image_id)
        assert (image.name, image.status) == ("pushed", "active")
        assert image.owner == demo.current_project_id
        assert boot("pushed").run("cat /content") == "built"
    finally:
        demo.image.delete_image(image_id)
    refused = run(*command, "not-there:1", check=False)
    assert refused.stderr == "nova-docker-image: the engine has no image not-there:1\n"


def test_metadata_definitions_are_available(demo):
    described = demo.image.metadef_namespaces()
    assert {"OS::Compute::Docker", "OS::Compute::DockerFlavor"} <= {
        namespace.namespace for namespace in described
    }


@pytest.fixture
def registry():
    """A registry, for which nova-compute, the engine and Glance are configured."""
    # The functional tests, which may run at the same time, have the first place.
    with RegistryServer(place=1) as server, contextlib.ExitStack() as stack:
        auth_file = settings.ETC / "registry-auth.json"
        server.write_auth_file(auth_file)
        auth_file.chmod(0o644)
        stack.callback(auth_file.unlink)
        ca_file = settings.ETC / "registry-ca.pem"
        ca_file.write_text(pathlib.Path(server.ca_file).read_text())
        stack.callback(ca_file.unlink)
        trusted = pathlib.Path("/etc/docker/certs.d", server.host)
        trusted.mkdir(parents=True)
        stack.callback(trusted.rmdir)
        (trusted / "ca.crt").write_text(ca_file.read_text())
        stack.callback((trusted / "ca.crt").unlink)
        stack.enter_context(
            services.configured(
                GLANCE_CONF,
                "engine:docker\n",
                "engine:docker, registry:docker\n"
                "[registry]\n"
                f"docker_registry = {server.host}\n"
                f"docker_registry_auth_file = {auth_file}\n"
                f"docker_ca_file = {ca_file}\n"
                "[DEFAULT]\n",
                "glance",
            )
        )
        stack.enter_context(
            services.configured(
                services.NOVA_CONF,
                "[docker]\n",
                f"[docker]\nregistry_auth_file = {auth_file}\n",
                "nova-compute",
            )
        )
        yield server


def test_a_registry_image_boots_and_glance_stores_nothing(
    registry, boot, admin, engine
):
    # The content is new, so the engine has none of the layers.
    content = uuidutils.generate_uuid()
    parts = archives.members(
        archives.busybox_archive(files={"content": content.encode()})
    )
    [manifest] = json.loads(parts["manifest.json"])
    layers = [parts[name] for name in manifest["Layers"]]
    digest = registry.push("team/app", "1", parts[manifest["Config"]], layers)
    stored = set((settings.DATA / "glance").rglob("*"))
    registered = run(
        settings.BIN / "nova-docker-image",
        "register",
        "--public",
        f"--auth-file={settings.ETC / 'registry-auth.json'}",
        f"--ca-file={settings.ETC / 'registry-ca.pem'}",
        f"{registry.host}/team/app:1",
    )
    image_id = registered.stdout.strip()
    try:
        assert admin.image.get_image(image_id).status == "active"
        place = f"docker://{registry.host}/team/app@{digest}"
        assert place in locations(admin, image_id)
        assert set((settings.DATA / "glance").rglob("*")) == stored
        before = len(registry.requests)
        name = f"{registry.host}/team/app:1"
        server = boot(name)
        assert server.run("cat /content") == content
        fetched = [line for line in registry.requests[before:] if "/blobs/" in line]
        assert len(fetched) == len(set(fetched)) == 1 + len(layers)
        # Glance's name is the only one, so the image cache can remove the image.
        found = engine.inspect_image(f"nova-glance/{image_id}:latest")
        assert not found["RepoDigests"]
        before = len(registry.requests)
        boot(name)
        assert len(registry.requests) == before
    finally:
        admin.image.delete_image(image_id)
