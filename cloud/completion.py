# SPDX-License-Identifier: Apache-2.0
"""Completion of the command line of ``./quickstart`` in bash."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

_SCRIPT = """\
_nova_docker_quickstart() {{
    local words
    case $COMP_CWORD:${{COMP_WORDS[1]}} in
    1:*) words="{verbs}" ;;
{cases}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -F _nova_docker_quickstart quickstart ./quickstart {path}"""


def script(path: str, verbs: Mapping[str, Sequence[str]]) -> str:
    """Return a script that a shell evaluates.

    :param path: of the program
    :param verbs: the words that may follow each verb
    """
    cases = [
        f'    *:{verb}) words="{" ".join(words)}" ;;'
        for verb, words in verbs.items()
        if words
    ]
    return _SCRIPT.format(verbs=" ".join(verbs), cases="\n".join(cases), path=path)
