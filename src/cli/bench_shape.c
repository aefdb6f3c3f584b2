#include "cli/bench_shape.h"

#include <stdio.h>

// How many of 0..count-1 leave `rest` when divided by `divisor`.
static uint32_t dealt(uint32_t count, uint32_t divisor, uint32_t rest)
{
  return count / divisor + (count % divisor > rest ? 1 : 0);
}

uint32_t shape_listeners(const struct shape *shape, uint32_t publisher)
{
  return dealt(shape->subscribers, shape->topics, publisher % shape->topics);
}

uint32_t shape_heard(const struct shape *shape)
{
  return dealt(shape->publishers, shape->topics, 0);
}

bool shape_hears(const struct shape *shape, uint32_t subscriber, uint32_t publisher, uint32_t topic)
{
  if (shape->filters == 0) return subscriber % shape->topics == publisher % shape->topics;
  // A subscriber's filters are a run in the circle of all topics, each subscriber's behind the one before.
  uint32_t first = (uint32_t)((uint64_t)subscriber * shape->filters % SHAPE_WILDCARD_TOPICS);
  return (topic + SHAPE_WILDCARD_TOPICS - first) % SHAPE_WILDCARD_TOPICS < shape->filters;
}

size_t shape_topic(const struct shape *shape, uint32_t publisher, uint32_t topic, char *out)
{
  assert(topic < shape_topics_per_publisher(shape));
  int size = shape->filters ? snprintf(out, SHAPE_TEXT_SIZE, "%s/%04u/a%02u/s%02u", shape->prefix, publisher,
                                       topic / SHAPE_LINES, topic % SHAPE_LINES)
                            : snprintf(out, SHAPE_TEXT_SIZE, "%s/%04u", shape->prefix, publisher % shape->topics);
  assert(size > 0);
  assert(size < SHAPE_TEXT_SIZE);
  return (size_t)size;
}

uint32_t shape_filter_count(const struct shape *shape)
{
  return shape->filters ? shape->filters : 1;
}

size_t shape_filter(const struct shape *shape, uint32_t subscriber, uint32_t filter, char *out)
{
  assert(filter < shape_filter_count(shape));
  if (shape->filters == 0) {
    int size = snprintf(out, SHAPE_TEXT_SIZE, "%s/%04u", shape->prefix, subscriber % shape->topics);
    assert(size < SHAPE_TEXT_SIZE);
    return (size_t)size;
  }
  uint32_t topic = (uint32_t)(((uint64_t)subscriber * shape->filters + filter) % SHAPE_WILDCARD_TOPICS);
  // Both forms match the topic: '#' matches its parent level too.
  int size = snprintf(out, SHAPE_TEXT_SIZE, filter % 2 ? "%s/+/a%02u/s%02u/#" : "%s/+/a%02u/s%02u", shape->prefix,
                      topic / SHAPE_LINES, topic % SHAPE_LINES);
  assert(size > 0);
  assert(size < SHAPE_TEXT_SIZE);
  return (size_t)size;
}
