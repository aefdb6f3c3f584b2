// What people read about /metrics and $SYS, made from their tables.
#pragma once

#include <stdio.h>

// docs/metrics.md.
void metrics_help_markdown(FILE *out);
