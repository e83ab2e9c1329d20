# SPDX-License-Identifier: Apache-2.0
"""The quickstart: an OpenStack cloud on one machine, with containers as servers.

Start reading with :mod:`cloud.steps`, the steps of ``./quickstart up``, and
:mod:`cloud.services`, the processes that run afterwards.

The modules need only Debian's Python and its standard library, except those that run
in the virtual environment: :mod:`cloud.resources`, :mod:`cloud.tempest` and
:mod:`cloud.patched_supervisord`.
"""
