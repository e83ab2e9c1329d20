# SPDX-License-Identifier: Apache-2.0
"""Make this package importable as ``nova.virt.nova_docker``.

Nova only imports drivers by the name ``"nova.virt." + compute_driver``. Installing a
directory below ``nova/virt`` would not work with a Nova in editable mode, whose files
are elsewhere. Instead, ``nova_docker.pth`` imports this module whenever Python starts
with the environment's site-packages, and a finder adds that one name.

This module therefore runs in every program of the environment. It imports only what
Python has already loaded by then.
"""

import sys

_ALIAS = "nova.virt.nova_docker"


class AliasFinder:
    """Finder and loader of ``nova.virt.nova_docker`` and its submodules.

    These names refer to the modules of :mod:`nova_docker`, not to copies of them, so
    that classes and options exist once.
    """

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Find the alias and its submodules; see importlib.abc.MetaPathFinder."""
        if not name.startswith(_ALIAS):
            return None
        if name != _ALIAS and not name.startswith(_ALIAS + "."):
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, cls)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec):
        """Let Python create a placeholder; see importlib.abc.Loader."""

    @staticmethod
    def exec_module(module):
        """Replace the placeholder with the real module."""
        from importlib import import_module

        name = module.__name__
        sys.modules[name] = import_module("nova_docker" + name[len(_ALIAS) :])


def install():
    """Add the finder, unless it is there already.

    It comes before the finder that searches directories, which would load the
    submodules a second time.
    """
    if AliasFinder not in sys.meta_path:
        sys.meta_path.insert(0, AliasFinder)
