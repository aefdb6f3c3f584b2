#include "core/limits.h"

struct limits limits_default(void)
{
  return (struct limits){.packet_size = 1 << 20,
                         .in_flight = 32,
                         .topic_alias = 32,
                         .topic_levels = 1024,
                         .subscriptions = 10000,
                         .queue_messages = 100000,
                         .queue_bytes = 64 << 20,
                         .queue_age_s = 7 * 24 * 3600,
                         .queue_drop = QUEUE_DROP_OLDEST,
                         .output_bytes = 1 << 20,
                         .retained_messages = 100000,
                         .retained_bytes = 256 << 20,
                         .keep_alive_max_s = 3600,
                         .session_expiry_max_s = 7 * 24 * 3600,
                         .connect_timeout_ms = 10000,
                         .rate_burst_ms = 1000,
                         .share_strategy = SHARE_ROUND_ROBIN};
}
