# SPDX-License-Identifier: Apache-2.0
"""Files for ``openstack_dashboard/local/enabled``, which enable the plug-in."""
