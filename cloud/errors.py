# SPDX-License-Identifier: Apache-2.0
"""The error that the quickstart reports to the operator."""

from __future__ import annotations


class QuickstartError(Exception):
    """A failure whose message tells the operator what happened and what to do."""
