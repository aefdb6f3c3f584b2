#include "packets.h"

#include <stdio.h>

size_t packet_filter(uint8_t *out, const char *filter, uint8_t group)
{
  char share[16] = "";
  if (group) snprintf(share, sizeof share, "$share/g%u/", group);
  int size = snprintf((char *)out + 2, 94, "%s%s", share, filter);
  out[0] = 0;
  out[1] = (uint8_t)size;
  return 2 + (size_t)size;
}

void packet_expiry(struct mqtt_properties *properties, uint32_t expiry_s)
{
  if (expiry_s == 0) return;
  properties->present |= 1ull << MQTT_PROPERTY_MESSAGE_EXPIRY;
  properties->message_expiry_s = expiry_s;
}

struct span packet_text(uint8_t *at, const char *word, unsigned number)
{
  int size = snprintf((char *)at, 64, "%s%u", word, number);
  return span_of(at, (size_t)size);
}
