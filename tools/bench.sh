#!/bin/sh
# Measure a cloud of its own: bench.sh BIN-DIRECTORY [polycell up arguments]. JSON files in bench/results/.
set -eu
bin=$1
shift
state=$(mktemp -d)
results=bench/results
mkdir -p "$results"
trap '"$bin/polycell" down --state "$state" >/dev/null; rm -rf "$state"' EXIT
"$bin/polycell" up --state "$state" --port-base 19700 --cells 8 --hosts-per-cell 2 --processes --workers 2 \
    --driver simulated --detach "$@"
for name in show boot list; do
    "$bin/python" -m "bench.$name" --state "$state" --out "$results/$name.json" >/dev/null
done
"$bin/python" -m bench.startup --out "$results/startup.json" >/dev/null
"$bin/python" -m bench.consoles --out "$results/consoles.json" >/dev/null
"$bin/python" -m bench.host --out "$results/host.json" >/dev/null || echo "no figures of real guests" >&2
"$bin/python" -m bench.table "$results"/*.json
