"""Completion of `quaymaster db` for three shells: commands, options, and the names of databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def script(shell: str, options: Mapping[str, Sequence[str]]) -> str:
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options)


def _bash(options: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f'        {name}) words="{" ".join(words)}" ;;' for name, words in options.items())
    return f"""_quaymaster_db() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    [ "${{COMP_WORDS[1]}}" = db ] || return
    if [ "$COMP_CWORD" = 2 ]; then
        words="{" ".join(options)}"
    elif [ "$before" = -d ] || [ "$before" = --database ]; then
        words=$(for each in db/*/; do [ -d "$each" ] && basename "$each"; done)
    else
        case "${{COMP_WORDS[2]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -F _quaymaster_db quaymaster"""


def _zsh(options: Mapping[str, Sequence[str]]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(options)}"


def _fish(options: Mapping[str, Sequence[str]]) -> str:
    inside = "__fish_seen_subcommand_from"
    lines = [
        "complete -c quaymaster -n '__fish_use_subcommand' -a db",
        f"complete -c quaymaster -f -n '{inside} db; and not {inside} {' '.join(options)}' -a '{' '.join(options)}'",
        f"complete -c quaymaster -f -n '{inside} db' -s d -l database -r -a '(path basename db/*/)'",
    ]
    for name, words in options.items():
        lines += [
            f"complete -c quaymaster -f -n '{inside} db; and {inside} {name}' -l {word.removeprefix('--')}"
            for word in words
            if word != "--database"
        ]
    return "\n".join(lines)
