#!/bin/sh
# A component in plain sh: JSON lines on the descriptor that every component is given (PAAS_FD=3).
#
# The shell has no JSON parser.  This script relies on two facts about what it is sent: one object
# a line without blanks between members, and `"id"` a whole number.  That is enough to greet; a
# component that must understand any input uses a language that can.

say() { printf '%s\n' "$1" >&3; }

answer() { say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$1}"; }

echo "hello-shell is about to be ready"
say '{"jsonrpc":"2.0","id":1,"method":"component.ready"}'

while IFS= read -r line <&3; do
    case $line in *'"method":"component.'*) ;; *) continue ;; esac
    id=$(printf '%s\n' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\)[,}].*/\1/p')
    [ -n "$id" ] || continue
    case $line in
    *'"method":"component.invoke"'*'"operation":"greet"'*)
        name=$(printf '%s\n' "$line" | sed -n 's/.*"name":"\([^"\\]*\)".*/\1/p')
        answer "{\"outputs\":{\"text\":\"Hello, ${name:-world}!\",\"pid\":$$}}"
        ;;
    *'"method":"component.invoke"'*)
        say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32000,\"message\":\"the only operation is greet\",\"data\":{\"code\":\"no-such-operation\"}}}"
        ;;
    *'"method":"component.terminate"'*)
        answer '{"accepted":true}'
        exit 0
        ;;
    *)
        answer '{}'
        ;;
    esac
done
