# SPDX-License-Identifier: Apache-2.0
"""OpenStack resources of the cloud: users, networks, flavors, the first server, …

These modules run in the virtual environment, because they use openstacksdk. Each
creates what is missing and leaves the rest alone.
"""
