#!/usr/bin/env bash
# answers.sh PORT [PATH [TEXT]]: a health check for images that have neither Python nor curl. Exit code 0 when this machine's PORT
# takes connections and, given a PATH, answers it over HTTP with a TEXT in the answer (default: status 200).
set -euo pipefail
port=$1 path=${2:-} text=${3:-" 200 "} host=${ANSWERS_HOST:-127.0.0.1}
exec 3<>"/dev/tcp/$host/$port"
[[ -n $path ]] || exit 0
printf 'GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
answer=$(timeout 5 cat <&3)
[[ $answer == *"$text"* ]]
