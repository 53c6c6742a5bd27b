"""Completion of `quaymaster db` for three shells: commands, options, what an option may be, and the names of databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """Of one command: its long options, and what may stand after an option (or after the command itself)."""

    options: Sequence[str]
    after: Mapping[str, Sequence[str]]


def script(shell: str, commands: Mapping[str, Words]) -> str:
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _bash(commands: Mapping[str, Words]) -> str:
    after = "\n".join(
        f'        "{name} {before}") words="{" ".join(words)}" ;;'
        for name, each in commands.items()
        for before, words in each.after.items()
    )
    options = "\n".join(
        f'        "{name} "*) words="{" ".join(each.options)}" ;;' for name, each in commands.items()
    )
    return f"""_quaymaster_db() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    [ "${{COMP_WORDS[1]}}" = db ] || return
    if [ "$COMP_CWORD" = 2 ]; then
        words="{" ".join(commands)}"
    elif [ "$before" = -d ] || [ "$before" = --database ]; then
        words=$(for each in db/*/; do [ -d "$each" ] && basename "$each"; done)
    else
        case "${{COMP_WORDS[2]}} $before" in
{after}
{options}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -F _quaymaster_db quaymaster"""


def _zsh(commands: Mapping[str, Words]) -> str:
    return f"autoload -Uz compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n{_bash(commands)}"


def _fish(commands: Mapping[str, Words]) -> str:
    inside, names = "__fish_seen_subcommand_from", " ".join(commands)
    lines = [
        "complete -c quaymaster -f -n '__fish_use_subcommand' -a db",
        f"complete -c quaymaster -f -n '{inside} db; and not {inside} {names}' -a '{names}'",
        f"complete -c quaymaster -f -n '{inside} db' -s d -l database -r -a '(path basename db/*/)'",
    ]
    for name, each in commands.items():
        here = f"complete -c quaymaster -f -n '{inside} db; and {inside} {name}'"
        lines += [f"{here} {_fish_option(word, each.after)}" for word in each.options if word != "--database"]
        if name in each.after:
            lines.append(f"{here} -a '{' '.join(each.after[name])}'")
        lines += [
            f"{here} -s {before.removeprefix('-')} -x -a '{' '.join(words)}'"
            for before, words in each.after.items()
            if before.startswith("-") and not before.startswith("--")
        ]
    return "\n".join(lines)


def _fish_option(word: str, after: Mapping[str, Sequence[str]]) -> str:
    values = f" -x -a '{' '.join(after[word])}'" if word in after else ""
    return f"-l {word.removeprefix('--')}{values}"
