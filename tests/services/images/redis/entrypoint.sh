#!/bin/sh
# Entry point of the stand-in Redis image: arguments as the public image takes them, root given up.
set -e
case "${1:-}" in '' | -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
    # no `bind` in the default configuration: reachable from other containers
    [ "$#" -gt 1 ] || set -- redis-server --protected-mode no
    if [ "$(id -u)" = 0 ]; then
        chown -R redis:redis . 2>/dev/null || true
        exec setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
    fi
fi
exec "$@"
