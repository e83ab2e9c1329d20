# SPDX-License-Identifier: Apache-2.0
"""What the quickstart installs: Debian packages, Python packages, one user."""
