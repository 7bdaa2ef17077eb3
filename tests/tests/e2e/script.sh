# Everything a program needs, with jq and nc alone: one JSON text per line over a Unix socket.
#   SOCK   the daemon's socket
#   MODEL  a GGUF file
set -euo pipefail

# One call on a connection of its own; prints the result, or fails with the error.
call() {
    local params='{}'
    [ $# -lt 2 ] || params=$2
    jq -cn --arg method "$1" --argjson params "$params" \
        '{jsonrpc: "2.0", id: 1, method: $method, params: $params}' |
        nc -NU "$SOCK" |
        jq -ce 'if .error then error(.error.message) else .result end'
}

# What can it do?
call rpc.discover | jq -r '.methods[].name' | sort > methods
grep -qx model.add methods
grep -qx server.follow methods
echo "methods: $(wc -l < methods)"

# A model.
call model.add "$(jq -cn --arg path "$MODEL" '{path: $path, name: "m", settings: {"ctx-size": 512}}')" |
    jq -r '"added: \(.model.name)"'

# Start it, and wait for ready by subscription rather than by asking again and again.
coproc STATES { nc -U "$SOCK"; }
states=$STATES_PID
echo '{"jsonrpc":"2.0","id":1,"method":"server.follow","params":{"model":"m"}}' >&"${STATES[1]}"
call server.start '{"model": "m"}' | jq -r '"accepted: \(.changed)"'
while read -r line <&"${STATES[0]}"; do
    state=$(jq -r '.params.result.data.state // empty' <<< "$line")
    case $state in
        ready) break ;;
        failed) echo "$line" >&2; exit 1 ;;
    esac
done
echo "state: $state"
kill "$states"
wait "$states" || true

# One item of a stream.
coproc SAMPLES { nc -U "$SOCK"; }
samples=$SAMPLES_PID
echo '{"jsonrpc":"2.0","id":1,"method":"metrics.follow"}' >&"${SAMPLES[1]}"
while read -r line <&"${SAMPLES[0]}"; do
    case $line in *'"method":"metrics.item"'*) break ;; esac
done
echo "cpus: $(jq .params.result.data.host.cpus <<< "$line")"
kill "$samples"
wait "$samples" || true

call server.stop '{"model": "m"}' > /dev/null
until [ "$(call server.show '{"model": "m"}' | jq -r .state)" = stopped ]; do sleep 0.05; done
call model.remove '{"model": "m"}' | jq -r '"removed: \(.name)"'
