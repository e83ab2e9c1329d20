# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine API, divided as its reference is: one method for each endpoint.

Thin on purpose: arguments and results are the engine's own (Engine API reference,
v1.41 and later). Only errors become exceptions, those of :mod:`docker_engine.errors`.
Calls that have no further effect when repeated are repeated if the engine closes
the connection; others are not.
"""
