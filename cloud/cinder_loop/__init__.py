# SPDX-License-Identifier: Apache-2.0
"""The back end of the cloud's volumes: files that servers use through loop devices.

cinder-volume imports a copy of this package, which has no other module of the
quickstart beside it.
"""
