# SPDX-License-Identifier: Apache-2.0
"""Make this package importable as ``nova.virt.nova_docker``.

Nova imports ``"nova.virt." + compute_driver`` and nothing else. A directory
put below an installed ``nova/virt`` would serve it, but not a Nova that is
installed in editable mode, whose files are elsewhere. So the import system is
taught the one name instead: ``nova_docker.pth`` imports this module whenever
Python starts with the environment's site-packages.

It therefore runs in every program of that environment, which is why it imports
nothing that Python has not loaded by then.
"""

import sys

_ALIAS = "nova.virt.nova_docker"


class AliasFinder:
    """Finder and loader of ``nova.virt.nova_docker`` and what is below it.

    The name gets the module that :mod:`nova_docker` is, not a second copy of
    it, and so do its submodules: classes and options exist once.
    """

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Claim the alias alone; see importlib.abc.MetaPathFinder."""
        if not name.startswith(_ALIAS):
            return None
        if name != _ALIAS and not name.startswith(_ALIAS + "."):
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, cls)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec):
        """Leave the placeholder to Python; see importlib.abc.Loader."""

    @staticmethod
    def exec_module(module):
        """Put the real module in the place of the placeholder."""
        from importlib import import_module

        name = module.__name__
        sys.modules[name] = import_module("nova_docker" + name[len(_ALIAS) :])


def install():
    """Add the finder, once, before the one that searches directories.

    That one would find the submodules too, and load them a second time.
    """
    if AliasFinder not in sys.meta_path:
        sys.meta_path.insert(0, AliasFinder)
