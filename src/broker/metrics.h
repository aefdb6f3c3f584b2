// The broker's metrics in the Prometheus text format (exposition format 0.0.4).
#pragma once

#include "base/buffer.h"
#include "broker/status_view.h"

// Appends all of them. ERR_NO_MEMORY.
CHECK_RESULT enum status metrics_format(const struct status_view *view, struct buffer *out);
