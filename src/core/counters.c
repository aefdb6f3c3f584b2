#include "core/counters.h"

#include <assert.h>
#include <stdbool.h>

const char *drop_reason_name(enum drop_reason reason)
{
  static const char *const names[DROP_REASONS] = {
      [DROP_QUEUE_FULL] = "queue_full",
      [DROP_SLOW_CONSUMER] = "slow_consumer",
      [DROP_OFFLINE_QOS_0] = "offline_qos_0",
      [DROP_PACKET_TOO_LARGE] = "packet_too_large",
      [DROP_SESSION_ENDED] = "session_ended",
      [DROP_MEMORY] = "memory",
      [DROP_REFUSED] = "refused",
      [DROP_QUEUE_AGE] = "queue_age",
      [DROP_DAMAGED] = "damaged",
      [DROP_NOT_AUTHORIZED] = "not_authorized",
  };
  return names[reason];
}

const char *refuse_reason_name(enum refuse_reason reason)
{
  static const char *const names[REFUSE_REASONS] = {
      [REFUSE_MEMORY] = "memory",         [REFUSE_RETAINED_LIMIT] = "retained_limit", [REFUSE_TOPIC_LEVELS] = "topic_levels",
      [REFUSE_DUPLICATE] = "duplicate",   [REFUSE_NOT_AUTHORIZED] = "not_authorized", [REFUSE_JOURNAL] = "journal",
      [REFUSE_QUEUE_FULL] = "queue_full",
  };
  return names[reason];
}

const char *limit_name(enum limit limit)
{
  static const char *const names[LIMITS] = {
      [LIMIT_PACKET_SIZE] = "packet_size",
      [LIMIT_IN_FLIGHT] = "in_flight",
      [LIMIT_TOPIC_LEVELS] = "topic_levels",
      [LIMIT_SUBSCRIPTIONS] = "subscriptions",
      [LIMIT_SESSION_EXPIRY] = "session_expiry_max",
      [LIMIT_MESSAGE_RATE] = "message_rate",
      [LIMIT_BYTE_RATE] = "byte_rate",
  };
  return names[limit];
}

static_assert(sizeof(struct counters) % sizeof(uint64_t) == 0, "nothing but 64-bit counts");

void counters_add(struct counters *into, const struct counters *from)
{
  uint64_t *to = (uint64_t *)into;
  const uint64_t *add = (const uint64_t *)from;
  for (size_t i = 0; i < sizeof *into / sizeof *to; i++) to[i] += add[i];
}
