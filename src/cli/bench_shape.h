// Who publishes where and who hears it: topics, filters and the sixteen bytes that make each message recognisable.
// Pure: no clock, no socket. One thread.
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
  SHAPE_AREAS = 10,  // of the wildcard shape: publisher/area/line
  SHAPE_LINES = 20,
  SHAPE_WILDCARD_TOPICS = SHAPE_AREAS * SHAPE_LINES,
  SHAPE_TEXT_SIZE = 128,  // fits every topic and filter, with its NUL
  SHAPE_STAMP_SIZE = 16,
};

// Two shapes. Without filters, publishers and subscribers are dealt out over `topics` topics in turn: 1 topic is a plain
// fan-in or fan-out, as many topics as publishers are pairs. With filters, each publisher goes through SHAPE_WILDCARD_TOPICS
// topics and each subscriber has `filters` wildcard filters of which at most one matches a topic.
struct shape {
  const char *prefix;  // first levels of every topic, no longer than 64 bytes
  uint32_t publishers;
  uint32_t subscribers;
  uint32_t topics;
  uint32_t filters;  // 0: no wildcards; else topics is 1
};

static inline uint32_t shape_topics_per_publisher(const struct shape *shape)
{
  return shape->filters ? SHAPE_WILDCARD_TOPICS : 1;
}

// How many subscribers hear this publisher (on some of its topics), and how many publishers a subscriber hears at most.
uint32_t shape_listeners(const struct shape *shape, uint32_t publisher);
uint32_t shape_heard(const struct shape *shape);

// Whether a subscriber gets what the publisher sends to its topic number `topic`.
bool shape_hears(const struct shape *shape, uint32_t subscriber, uint32_t publisher, uint32_t topic);

// Write NUL-terminated text into `out` of SHAPE_TEXT_SIZE bytes and return its length. A publisher's topics all have one
// length.
size_t shape_topic(const struct shape *shape, uint32_t publisher, uint32_t topic, char *out);
size_t shape_filter(const struct shape *shape, uint32_t subscriber, uint32_t filter, char *out);
uint32_t shape_filter_count(const struct shape *shape);

// The front of every payload, in host order: a bench talks to itself.
struct stamp {
  uint32_t publisher;
  uint32_t number;   // of this publisher's messages, from 0; its topic is number % topics per publisher
  uint64_t time_ns;  // monotonic: when the message was to be sent
};
static_assert(sizeof(struct stamp) == SHAPE_STAMP_SIZE, "a stamp is copied as it is");

static inline void stamp_write(uint8_t *payload, struct stamp stamp)
{
  memcpy(payload, &stamp, sizeof stamp);
}

// `payload` has SHAPE_STAMP_SIZE bytes or more.
static inline struct stamp stamp_read(const uint8_t *payload)
{
  struct stamp stamp;
  memcpy(&stamp, payload, sizeof stamp);
  return stamp;
}
