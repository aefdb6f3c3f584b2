// MQTT 5.0 properties as words of a command line: `-D publish content-type text/plain`, with the names that the standard and
// mosquitto's clients use. Pure.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/span.h"
#include "mqtt/packet.h"

// The packets that a client's user can give properties to. The will's are not a packet's, but are named the same way.
enum property_packet {
  PROPERTY_CONNECT,
  PROPERTY_WILL,
  PROPERTY_PUBLISH,
  PROPERTY_SUBSCRIBE,
  PROPERTY_UNSUBSCRIBE,
  PROPERTY_DISCONNECT,
  PROPERTY_PACKETS,
};

// The properties for one packet, ready to be encoded. A zeroed struct is an empty set. Do not copy: it points into itself.
struct property_set {
  struct mqtt_properties properties;  // spans point at the texts that were given, which must outlive the set
  struct buffer user;                 // user properties in wire form
  uint32_t subscription_id;
};

struct property_sets {
  struct property_set packets[PROPERTY_PACKETS];
};

void property_sets_deinit(struct property_sets *sets);

// How many words follow the packet's name and the property's name: 2 for user-property, 1 for all others.
unsigned property_value_count(const char *name);

// Adds one property. `second` is used by user-property only (name, value). ERR_INVALID with a text that says what would be
// right: unknown packet or property, not allowed in that packet, given twice, value out of range.
CHECK_RESULT enum status property_add(struct property_sets *sets, const char *packet, const char *name, const char *value,
                                      const char *second, struct error *error);
