# SPDX-License-Identifier: Apache-2.0
"""The compute host: its inventory, its CPUs and its engine's events."""
