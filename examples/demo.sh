#!/bin/bash
# A broker with the example configuration, fed with this host's readings, watched live. Needs only the built binary.
#
#   SKERRY        the binary; default: build/skerry
#   DEMO_SECONDS  ends the demo after that many seconds with exit code 0; default: it runs until q or Ctrl-C
#
# Ports that are taken are left alone: the demo looks for the next free ones. It leaves nothing behind.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
skerry=${SKERRY:-$here/../build/skerry}
seconds=${DEMO_SECONDS:-}
work=$(mktemp -d "${TMPDIR:-/tmp}/skerry-demo.XXXXXX") || exit 1
broker_pid=
sense_pid=

stop() {
  local pid=$1
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
}

clean_up() {
  trap - EXIT INT TERM HUP
  stop "$sense_pid"
  stop "$broker_pid"
  rm -rf "$work"
}

trap clean_up EXIT
# Ctrl-C is how one ends a demo.
trap 'clean_up; exit 0' INT
trap 'clean_up; exit 143' TERM HUP

is_taken() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The port itself, or the next free one above it, up to 100 further.
free_port() {
  local port=$1
  while is_taken "$port" && [ "$port" -lt $(($1 + 100)) ]; do port=$((port + 1)); done
  echo "$port"
}

fail() {
  echo "demo: $1" >&2
  [ -s "$work/broker.log" ] && cat "$work/broker.log" >&2
  exit 1
}

[ -x "$skerry" ] || fail "$skerry is not there; run \"make\" first"

port=$(free_port 1883)
ws_port=$(free_port 8083)
metrics_port=$(free_port 9100)

# A session of their own for what runs in the background: Ctrl-C is for the live view, which ends first and in peace.
setsid "$skerry" broker -c "$here/broker.yaml" \
  --set "listeners[0].url=mqtt://127.0.0.1:$port" \
  --set "listeners[1].url=ws://127.0.0.1:$ws_port/mqtt" \
  --set "listeners[2].url=unix://$work/skerry.sock" \
  --set "metrics.listen=127.0.0.1:$metrics_port" \
  --set "broker.data=$work/data" \
  --set "sys.interval=1s" 2>"$work/broker.log" >&2 &
broker_pid=$!

# It is ready when it confirms a subscription.
ready=
for _ in $(seq 100); do
  "$skerry" sub -h 127.0.0.1 -p "$port" -t demo/ready -E -W 2 --quiet && { ready=yes; break; }
  kill -0 "$broker_pid" 2>/dev/null || break
  sleep 0.1
done
[ -n "$ready" ] || fail "the broker does not start"

setsid "$skerry" sense -h 127.0.0.1 -p "$port" --quiet 2>"$work/sense.log" &
sense_pid=$!

cat <<TEXT
A broker runs at mqtt://127.0.0.1:$port, and this host's readings are published to it. Join in with any MQTT client:

  mosquitto_sub -h 127.0.0.1 -p $port -t '#' -v
  $skerry sub -p $port -t 'host/#' -v
  $skerry pub -p $port -t hello -m world -r

WebSocket: ws://127.0.0.1:$ws_port/mqtt    Unix socket: $work/skerry.sock
Metrics:   http://127.0.0.1:$metrics_port/metrics

TEXT
# On a terminal the live view takes the screen in a moment; without one, or after it, the text above stays.
if [ -t 0 ] && [ -t 1 ]; then
  echo "The live view comes in 5 seconds; press Enter to see it now, q in it to end the demo."
  read -r -t 5 _
fi

"$skerry" top -h 127.0.0.1 -p "$port" --metrics "127.0.0.1:$metrics_port" ${seconds:+--seconds "$seconds"}
result=$?
kill -0 "$broker_pid" 2>/dev/null || fail "the broker has ended"
exit "$result"
