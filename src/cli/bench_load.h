// The load of the throughput, latency and backlog modes: publishers that never run further ahead of their slowest
// subscriber than they may, so that every broker is measured under the same lossless load, and subscribers that check each
// message. One thread.
#pragma once

#include "cli/bench.h"
#include "cli/bench_engine.h"
#include "cli/bench_histogram.h"
#include "cli/bench_packets.h"
#include "cli/bench_report.h"
#include "cli/bench_shape.h"
#include "cli/bench_verify.h"

struct publisher {
  struct engine_connection connection;
  uint32_t group;      // publishers and subscribers of one group share a topic
  uint32_t slot;       // its place among the publishers of its group
  uint32_t topic;      // of the next message
  uint32_t sent;       // messages so far; the next one's number
  uint32_t in_flight;  // QoS 1, 2: not yet finished
  uint32_t window;     // the most in flight: the option, or less when the broker's receive maximum is
  uint16_t next_packet_id;
  uint64_t *packet_ids;  // a bit for each identifier in flight; NULL at QoS 0
  uint8_t *templates;    // one packet for each of its topics, behind each other
  struct packet_template layout;
  // For each listener one past the highest number that it has received.
  uint32_t listeners;
  uint32_t *positions;
};

struct subscriber {
  struct engine_connection connection;
  uint32_t group;
  uint32_t slot;             // its place among the subscribers of its group
  struct tracker *trackers;  // [publisher's slot * topics + topic]
};

struct load_counts {
  uint64_t published;
  uint64_t acknowledged;
  uint64_t refused;     // acknowledged with a reason code of failure
  uint64_t unexpected;  // messages for somebody else, acknowledgements of nothing
  uint64_t corrupt;     // not a message of ours any more
};

struct load {
  const struct bench_options *options;
  struct engine engine;
  struct shape shape;
  char prefix[80];
  uint32_t topics;  // per publisher
  uint32_t ahead;
  uint32_t batch;  // a publisher waits until it may send so many
  uint32_t ready;
  uint64_t sent_limit;  // messages in all; UINT64_MAX: until the time is over
  uint64_t rate_start_ns;
  uint64_t measure_from_ns;  // latencies of messages from before are left out
  struct publisher *publishers;
  struct subscriber *subscribers;
  struct load_counts counts;
  struct verdict verdict;
  struct histogram *latencies;  // NULL: not wanted
  struct bench_progress progress;
  uint64_t seen;     // sum of all counters when something last moved
  uint64_t seen_ns;  // when that was
  bool sending;
  bool persistent;  // the subscribers' sessions outlive their connections
  bool stalled;     // nothing moved for options->timeout_ms
};

// `options` must outlive the load, which must not move. Whatever it returns, load_deinit ends it.
CHECK_RESULT enum status load_init(struct load *load, const struct bench_options *options, struct error *error);
void load_deinit(struct load *load);

// An engine_prepare for publishers and subscribers; the context is the load.
CHECK_RESULT enum status load_prepare(void *context, struct engine_connection *connection, struct error *error);

// Runs until all three counts are reached, or the time is, or nothing moves any more (`stalled`).
struct load_goal {
  const char *phase;  // for the progress line
  uint64_t until_ns;
  uint64_t published;
  uint64_t acknowledged;
  uint64_t received;
};
CHECK_RESULT enum status load_run(struct load *load, const struct load_goal *goal, struct error *error);

// What has not arrived of what was sent, and whether all was as its QoS demands.
uint64_t load_lost(const struct load *load);
bool load_passed(const struct load *load);
void load_report_verdict(struct bench_report *report, const struct load *load);

// Lets each publisher send what it may at `now_ns`. Returns the time at which the next message is due, UINT64_MAX when none
// is.
uint64_t load_publish(struct load *load, uint64_t now_ns);

// Takes the acknowledgement of one message.
void publisher_acknowledged(struct load *load, struct publisher *publisher, uint16_t packet_id, enum mqtt_reason reason);

CHECK_RESULT enum status publisher_init(struct load *load, struct publisher *publisher, uint32_t index);
void publisher_deinit(struct publisher *publisher);

// Messages that the subscribers must have received once everything sent has arrived.
uint64_t load_expected(const struct load *load);
