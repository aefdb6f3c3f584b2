// What people read about the configuration, made from the table of keys.
#pragma once

#include <stdio.h>

#include "base/error.h"

// All sections and keys, for a terminal.
void config_help_overview(FILE *out);

// One section ("limits") or one key ("limits.packet_size", "listeners[].url"). ERR_NOT_FOUND with the nearest known name.
CHECK_RESULT enum status config_help_topic(FILE *out, const char *topic, struct error *error);

// docs/configuration.md.
void config_help_markdown(FILE *out);
