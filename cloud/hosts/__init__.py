# SPDX-License-Identifier: Apache-2.0
"""More compute hosts on this machine: ``./quickstart up --hosts N``.

The first host is the machine itself. Each other one consists of a network namespace and
a mount namespace, with an engine, a virtual switch and a nova-compute of its own. It is
on two networks: that of the control services, and that of OVN's tunnels between hosts.

- :mod:`cloud.hosts.host`: the hosts' names, files, addresses and ranges of ids
- :mod:`cloud.hosts.networks`: the two networks
- :mod:`cloud.hosts.namespaces`: the namespaces
- :mod:`cloud.hosts.processes`: the services in them
- :mod:`cloud.hosts.life`: how a host is added and removed, loses its power and gets it
  back
"""
