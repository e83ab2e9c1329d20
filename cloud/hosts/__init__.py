# SPDX-License-Identifier: Apache-2.0
"""More compute hosts on this machine: ``./quickstart up --hosts N``.

The first host is the machine itself. Each other one is a network and a mount namespace
with an engine, a virtual switch and a nova-compute of its own. It has two networks: one
on which it reaches the control services, and one for OVN's tunnels between hosts.

- :mod:`cloud.hosts.host`: what the hosts are called, and where their files are
- :mod:`cloud.hosts.networks`: the two networks
- :mod:`cloud.hosts.namespaces`: the namespaces
- :mod:`cloud.hosts.processes`: the processes in them
- :mod:`cloud.hosts.life`: a host comes, goes, loses its power and gets it back
"""
