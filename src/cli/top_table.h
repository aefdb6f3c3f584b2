// What `skerry top` knows: the topics that were seen, and what the broker says of itself in $SYS. Pure: time comes in.
// Bounded: beyond the limit of topics new ones are counted but not kept.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/span.h"
#include "mqtt/packet.h"

enum { TOP_VALUE_SIZE = 200, TOP_VERSION_SIZE = 64 };

struct top_topic {
  uint64_t hash;
  uint64_t count;
  uint64_t bytes;    // of payloads
  uint64_t last_ms;  // when the latest message came
  double rate;       // messages a second, smoothed
  uint32_t fresh;    // since the last tick
  uint8_t qos;       // of the latest message
  bool retain;
  uint32_t value_size;  // bytes in `value`; the payload may be longer
  uint32_t payload_size;
  uint8_t value[TOP_VALUE_SIZE];
  size_t topic_size;
  uint8_t topic[];
};

enum top_sort { TOP_BY_RATE, TOP_BY_COUNT, TOP_BY_BYTES, TOP_BY_AGE, TOP_BY_TOPIC, TOP_SORTS };

struct top_table {
  struct map map;
  struct top_topic **items;  // in the order of the last top_table_sort
  size_t count;
  size_t capacity;
  size_t limit;
  uint64_t unkept;    // messages of topics beyond the limit
  uint64_t messages;  // all, since the start
  uint64_t bytes;
  uint32_t fresh;
  uint64_t fresh_bytes;
  double rate;  // of all topics
  double byte_rate;
};

void top_table_init(struct top_table *table, size_t limit);
void top_table_deinit(struct top_table *table);

// Takes a message. `counts` is false for what the broker had retained: it shows a value and is no traffic. ERR_NO_MEMORY.
CHECK_RESULT enum status top_table_add(struct top_table *table, const struct mqtt_publish *publish, bool counts,
                                       uint64_t now_ms);

// Once per interval: turns what came since the last tick into rates.
void top_table_tick(struct top_table *table, double elapsed_s);

void top_table_sort(struct top_table *table, enum top_sort by, bool reverse);

const char *top_sort_name(enum top_sort by);

// ---- The broker's own figures, under the names that Mosquitto made customary

struct top_counter {
  bool known;
  uint64_t value;
  uint64_t at_ms;
  double rate;  // a second, from the last two different times
};

// Takes what was said at that time; a second value of the same time is ignored. A value that sinks has no rate.
void top_counter_update(struct top_counter *counter, uint64_t value, uint64_t now_ms);

struct top_broker {
  char version[TOP_VERSION_SIZE];
  struct top_counter uptime_s;
  struct top_counter clients_connected;
  struct top_counter clients_total;
  struct top_counter subscriptions;
  struct top_counter retained;
  struct top_counter memory_bytes;
  struct top_counter messages_in;  // PUBLISH packets
  struct top_counter messages_out;
  struct top_counter dropped;
  struct top_counter bytes_in;
  struct top_counter bytes_out;
};

// Takes a message of $SYS/#; topics that it does not know are ignored.
void top_broker_update(struct top_broker *broker, struct span topic, struct span payload, uint64_t now_ms);
