# SPDX-License-Identifier: Apache-2.0
"""What the container of a server looks like: pure functions, without an engine."""
