// What the modes of `skerry bench` share: the options, and one function per mode.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/client_tls.h"
#include "cli/url.h"
#include "mqtt/packet.h"

enum { BENCH_NS_PER_MS = 1000000, BENCH_NS_PER_S = 1000000000 };

// Filled by the option table of bench.c. Text lives as long as argv or the options.
struct bench_options {
  struct url url;  // of -L; memory is NULL when not given
  const char *host;
  const char *unix_path;       // NULL: TCP
  const char *websocket_path;  // NULL: plain
  const char *user_name;
  const char *password;
  const char *password_file;
  char *password_read;  // heap: from the file
  struct client_tls_options tls_options;
  bool use_tls;
  struct tls_client *tls;  // NULL: plain
  const char *prefix;      // first levels of every topic
  enum mqtt_version version;
  uint64_t port;
  uint64_t publishers;
  uint64_t subscribers;
  uint64_t topics;
  uint64_t filters;
  uint64_t qos;
  uint64_t window;
  uint64_t ahead;  // 0: chosen from the shape
  uint64_t payload_bytes;
  uint64_t messages;  // 0: until the time is over
  uint64_t rate;      // messages/s of all publishers together; 0: as fast as they come back
  uint64_t duration_ms;
  uint64_t warm_up_ms;
  uint64_t timeout_ms;
  uint64_t connections;
  uint64_t at_once;
  uint64_t sources;
  uint64_t idle_ms;
  uint64_t broker_pid;  // 0: unknown
  bool subscribe;       // connections mode: one subscription each
  bool keep;            // backlog mode: the messages stay where they are
  bool raw;             // no MQTT handshake: for the bare forwarder
  bool quiet;
};

// Each runs its mode to the end, prints one line of JSON to stdout and returns an exit code (commands.h).
int bench_throughput(const struct bench_options *options);
int bench_connections(const struct bench_options *options);
int bench_backlog(const struct bench_options *options);
