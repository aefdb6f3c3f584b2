// Takes a sample of this host from /proc and /sys.
#pragma once

#include "cli/sense_report.h"

// Fills what can be read; what cannot is left out. Never fails.
void sense_read(struct sense_sample *out);
