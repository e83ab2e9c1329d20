# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder: block devices that os-brick connects to the host."""
