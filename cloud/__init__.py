# SPDX-License-Identifier: Apache-2.0
"""The quickstart: an OpenStack on one machine, its servers Docker containers.

Everything but :mod:`cloud.contents` runs with Debian's Python and its standard
library alone. To read it, begin with :mod:`cloud.steps`, what ``up`` does, and
:mod:`cloud.services`, what then runs.
"""
