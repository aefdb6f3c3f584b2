// A broker process: configuration → listeners, loops, metrics, $SYS. Runs on the thread that calls it (the control thread),
// which handles signals, reloads and the admin HTTP server, and never touches a client's connection.
#pragma once

#include "broker/config.h"

struct broker_options {
  struct config_source source;
  const char *version;  // "0.1.0"
};

// Exit codes of the process.
enum broker_exit { BROKER_OK = 0, BROKER_FAILED = 1, BROKER_CONFIGURATION = 2 };

// Runs until SIGTERM or SIGINT. SIGHUP reloads the configuration: all of it or nothing.
enum broker_exit broker_run(const struct broker_options *options);
