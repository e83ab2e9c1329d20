# SPDX-License-Identifier: Apache-2.0
"""Nova's own test case for virt drivers, in fake mode."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from nova import exception
from nova import test
from nova.tests.unit.virt import test_virt_drivers
from nova.virt import driver as nova_driver

from nova_docker.driver import DockerDriver
from tests.unit.nova_docker import fake_mode

# Methods that raise NotImplementedError, as Nova expects of drivers without a feature.
# Only remove entries; the support matrix in doc/ describes what they mean for users.
NOT_IMPLEMENTED = """
    block_stats
    check_can_live_migrate_destination check_can_live_migrate_source
    cleanup_live_migration_destination_check
    default_device_names_for_instance get_device_name_for_instance
    get_instance_disk_info host_maintenance_mode host_power_action
    live_migration live_migration_abort
    live_migration_force_complete
    poll_rebooting_instances post_live_migration_at_destination
    post_live_migration_at_source power_update_event pre_live_migration
    restore
    rollback_live_migration_at_destination set_host_enabled
    soft_delete
    volume_snapshot_create volume_snapshot_delete
""".split()


def test_only_these_methods_are_not_implemented():
    missing = {
        name
        for name, method in inspect.getmembers(DockerDriver, inspect.isfunction)
        if not name.startswith("_")
        and method.__module__ == nova_driver.__name__
        and "raise NotImplementedError" in inspect.getsource(method)
    }
    known = {
        name for name in NOT_IMPLEMENTED if hasattr(nova_driver.ComputeDriver, name)
    }
    assert missing == known


class DockerDriverTestCase(test_virt_drivers._VirtDriverTestCase, test.TestCase):
    REQUIRES_LOCKING = True

    def __delattr__(self, name: str) -> None:
        # pytest deletes the test method that it has set on the instance, but testtools
        # has reset the instance by then.
        if name in self.__dict__:
            super().__delattr__(name)

    def setUp(self) -> None:
        self.driver_module = "nova_docker.DockerDriver"
        self.enterContext(fake_mode.engine())
        super().setUp()
        self.connection.init_host("myhostname")
        self.addCleanup(self.connection.cleanup_host, "myhostname")

    def test_get_vnc_console(self) -> None:
        """Override Nova's test, which expects a console or NotImplementedError."""
        self._assert_no_console(self.connection.get_vnc_console)

    def test_get_spice_console(self) -> None:
        self._assert_no_console(self.connection.get_spice_console)

    def test_get_mks_console(self) -> None:
        self._assert_no_console(self.connection.get_mks_console)

    def _assert_no_console(self, get: Callable[..., Any]) -> None:
        instance, _network_info = self._get_running_instance()
        with pytest.raises(exception.ConsoleTypeUnavailable):
            get(self.ctxt, instance)

    def test_migrate_disk_and_power_off(self) -> None:
        """Override Nova's test, whose destination is another host."""
        with mock.patch("nova_docker.migration.cold.ColdMigration.leave") as leave:
            super().test_migrate_disk_and_power_off()
        [call] = leave.mock_calls
        assert call.args[2] == "dest_host"

    def test_live_migration(self) -> None:
        """Override Nova's test, which expects this feature of every driver."""
        instance, _network_info = self._get_running_instance()
        with pytest.raises(NotImplementedError):
            self.connection.live_migration(
                self.ctxt, instance, "otherhost", lambda *a: None, lambda *a: None
            )

    def test_live_migration_force_complete(self) -> None:
        instance, _network_info = self._get_running_instance()
        with pytest.raises(NotImplementedError):
            self.connection.live_migration_force_complete(instance)
