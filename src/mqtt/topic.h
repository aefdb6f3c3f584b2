// Topic names and topic filters (5.0 section 4.7, shared subscriptions 4.8.2). Pure.
#pragma once

#include <stdbool.h>

#include "base/span.h"

// Whether the bytes are well-formed UTF-8 that MQTT allows in a string: no surrogates, no overlong forms, no U+0000
// [MQTT-1.5.4-1, -2]. Control characters and non-characters are allowed, as the standard's MAY leaves it to us.
bool mqtt_utf8_valid(struct span text);

// A topic name to publish to: at least one byte, no wildcard [MQTT-4.7.0-1, 4.7.3-1]. UTF-8 is not checked here.
bool mqtt_topic_valid(struct span topic);

// What a SUBSCRIBE or UNSUBSCRIBE names, taken apart.
struct mqtt_filter {
  struct span share;   // the share name; empty when it is not a shared subscription
  struct span filter;  // the topic filter itself, without "$share/name/"
  bool wildcard;
};

// False when the filter is not valid: '#' not last or not alone in its level, '+' not alone in its level, an empty filter,
// "$share/" with an empty share name, a share name with '+' or '#', or no filter behind it [MQTT-4.7.1-1..2, 4.8.2-1..2].
bool mqtt_filter_parse(struct span text, struct mqtt_filter *out);

// Walks levels: "a//b" has "a", "", "b". Start with *cursor = 0, false at the end.
bool mqtt_next_level(struct span topic, size_t *cursor, struct span *out_level);

// Whether a topic name matches a valid filter (without $share); the definition that faster structures are tested against.
// Filters that start with a wildcard do not match topics that start with '$' [MQTT-4.7.2-1].
bool mqtt_filter_matches(struct span filter, struct span topic);
