// Pieces of packets, as clients write them.
#pragma once

#include "mqtt/packet.h"

// A filter as SUBSCRIBE and UNSUBSCRIBE have it; of the shared group "g<group>", 0: not shared. Returns its size, at most 96.
size_t packet_filter(uint8_t *out, const char *filter, uint8_t group);

// 0: none.
void packet_expiry(struct mqtt_properties *properties, uint32_t expiry_s);

// "<word><number>", written to `at`, at most 64 bytes.
struct span packet_text(uint8_t *at, const char *word, unsigned number);
