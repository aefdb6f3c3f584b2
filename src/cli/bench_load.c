// Setting up a load, what arrives, and the loop. See bench_load.h.
#include "cli/bench_load.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  AHEAD_MESSAGES = 1000,
  AHEAD_BYTES = 128 * 1024,
  BATCHES_AHEAD = 4,
  INTACT_EVERY = 64,
  TURN_NS = 50 * BENCH_NS_PER_MS,
  BACKLOG_EXPIRY_S = 3600
};

// ---- What arrives

static void on_ready(void *context, struct engine_connection *connection)
{
  struct load *load = context;
  load->ready++;
  if (!connection->publisher) return;
  struct publisher *publisher = &load->publishers[connection->index];
  publisher->window = (uint32_t)load->options->window;
  if (connection->receive_maximum < publisher->window) publisher->window = connection->receive_maximum;
}

static void on_message(void *context, struct engine_connection *connection, const uint8_t *payload, size_t size)
{
  struct load *load = context;
  if (connection->publisher || size != load->options->payload_bytes) {
    load->counts.unexpected++;
    return;
  }
  struct stamp stamp = stamp_read(payload);
  struct subscriber *subscriber = &load->subscribers[connection->index];
  struct publisher *publisher = stamp.publisher < load->shape.publishers ? &load->publishers[stamp.publisher] : NULL;
  if (!publisher || !packet_payload_intact(&publisher->layout, payload)) {
    load->counts.corrupt++;
    return;
  }
  uint32_t topic = 0;
  uint32_t sequence = stamp.number;
  if (load->topics > 1) {
    topic = stamp.number % load->topics;
    sequence = stamp.number / load->topics;
  }
  if (publisher->group != subscriber->group || stamp.number >= publisher->sent ||
      (load->topics > 1 && !shape_hears(&load->shape, connection->index, stamp.publisher, topic))) {
    load->counts.unexpected++;
    return;
  }
  tracker_receive(&subscriber->trackers[publisher->slot * load->topics + topic], sequence, &load->verdict);
  uint32_t *position = &publisher->positions[subscriber->slot];
  if (stamp.number >= *position) *position = stamp.number + 1;
  if (load->latencies && stamp.time_ns >= load->measure_from_ns)
    histogram_add(load->latencies, load->engine.now_ns > stamp.time_ns ? load->engine.now_ns - stamp.time_ns : 0);
}

static void on_acknowledged(void *context, struct engine_connection *connection, uint16_t packet_id, enum mqtt_reason reason)
{
  struct load *load = context;
  if (connection->publisher)
    publisher_acknowledged(load, &load->publishers[connection->index], packet_id, reason);
  else
    load->counts.unexpected++;
}

static const struct engine_handlers handlers = {on_ready, on_message, on_acknowledged};

// ---- Setting up

static void choose_pace(struct load *load)
{
  const struct bench_options *options = load->options;
  uint64_t ahead = options->ahead;
  if (ahead == 0) {
    // In flight towards one subscriber, whoever sent it, so that no broker has a reason to drop.
    ahead = AHEAD_BYTES / (options->payload_bytes + SHAPE_TEXT_SIZE / 4);
    if (ahead > AHEAD_MESSAGES) ahead = AHEAD_MESSAGES;
    ahead /= shape_heard(&load->shape);
    if (ahead == 0) ahead = 1;
  }
  // A subscriber of wildcards hears only of some topics, so its position may trail by a round of them.
  if (load->topics > 1 && ahead < 2 * load->topics) ahead = 2 * load->topics;
  load->ahead = (uint32_t)ahead;
  load->batch = load->ahead / BATCHES_AHEAD;
  if (load->batch == 0 || options->rate) load->batch = 1;
}

static enum status allocate(struct load *load)
{
  const struct bench_options *options = load->options;
  load->publishers = calloc(options->publishers, sizeof *load->publishers);
  load->subscribers = calloc(options->subscribers ? options->subscribers : 1, sizeof *load->subscribers);
  if (!load->publishers || !load->subscribers) return ERR_NO_MEMORY;
  if (options->rate) {
    load->latencies = calloc(1, sizeof *load->latencies);
    if (!load->latencies) return ERR_NO_MEMORY;
  }
  for (uint32_t i = 0; i < options->publishers; i++) {
    enum status status = publisher_init(load, &load->publishers[i], i);
    if (status) return status;
  }
  size_t trackers = (size_t)shape_heard(&load->shape) * load->topics;
  for (uint32_t i = 0; i < options->subscribers; i++) {
    struct subscriber *subscriber = &load->subscribers[i];
    subscriber->connection.index = i;
    subscriber->group = i % load->shape.topics;
    subscriber->slot = i / load->shape.topics;
    subscriber->trackers = calloc(trackers, sizeof *subscriber->trackers);
    if (!subscriber->trackers) return ERR_NO_MEMORY;
  }
  return OK;
}

enum status load_init(struct load *load, const struct bench_options *options, struct error *error)
{
  *load = (struct load){.options = options, .sent_limit = options->messages ? options->messages : UINT64_MAX};
  load->engine.epoll_fd = -1;
  snprintf(load->prefix, sizeof load->prefix, "%s/%06x", options->prefix, (unsigned)getpid() & 0xffffff);
  load->shape = (struct shape){.prefix = load->prefix,
                               .publishers = (uint32_t)options->publishers,
                               .subscribers = (uint32_t)options->subscribers,
                               .topics = (uint32_t)options->topics,
                               .filters = (uint32_t)options->filters};
  load->topics = shape_topics_per_publisher(&load->shape);
  choose_pace(load);
  if (allocate(load)) return error_set(error, ERR_NO_MEMORY, "out of memory");
  return engine_init(&load->engine, options, &handlers, load, error);
}

void load_deinit(struct load *load)
{
  for (uint32_t i = 0; load->publishers && i < load->options->publishers; i++) {
    engine_close(&load->engine, &load->publishers[i].connection);
    publisher_deinit(&load->publishers[i]);
  }
  for (uint32_t i = 0; load->subscribers && i < load->options->subscribers; i++) {
    engine_close(&load->engine, &load->subscribers[i].connection);
    free(load->subscribers[i].trackers);
  }
  free(load->publishers);
  free(load->subscribers);
  free(load->latencies);
  engine_deinit(&load->engine);
}

// The forwarder's announcement: role, group, size of a packet.
static enum status prepare_raw(struct load *load, struct engine_connection *connection)
{
  uint32_t group = connection->index % load->shape.topics;
  size_t size = load->publishers[0].layout.size;
  assert(group <= UINT8_MAX);
  uint8_t hello[] = {connection->publisher ? 'P' : 'S', (uint8_t)group, (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                     (uint8_t)size};
  return buffer_append(&connection->hello, hello, sizeof hello);
}

enum status load_prepare(void *context, struct engine_connection *connection, struct error *error)
{
  struct load *load = context;
  const struct bench_options *options = load->options;
  enum status status;
  if (options->raw) {
    status = prepare_raw(load, connection);
  } else {
    char client_id[32];
    snprintf(client_id, sizeof client_id, "b%06x-%c%u", (unsigned)getpid() & 0xffffff, connection->publisher ? 'p' : 's',
             connection->index);
    struct packet_login login = {.version = options->version,
                                 .client_id = client_id,
                                 .user_name = options->user_name,
                                 .password = options->password,
                                 .clean_start = true};
    if (load->persistent && !connection->publisher) {
      login.clean_start = false;
      login.session_expiry_s = BACKLOG_EXPIRY_S;
    }
    status = packet_write_connect(&login, &connection->hello);
    if (!status && !connection->publisher)
      status = packet_write_subscribe(options->version, &load->shape, connection->index, NULL, (uint8_t)options->qos,
                                      &connection->subscribe);
  }
  return status ? error_set(error, status, "cannot build the packets to connect with") : OK;
}

// ---- The loop

static bool moving(struct load *load, uint64_t now_ns)
{
  uint64_t seen = load->counts.published + load->counts.acknowledged + load->verdict.received;
  if (seen != load->seen) {
    load->seen = seen;
    load->seen_ns = now_ns;
  }
  load->stalled = now_ns - load->seen_ns > load->options->timeout_ms * BENCH_NS_PER_MS;
  return !load->stalled;
}

static enum status turn(struct load *load, uint64_t now_ns, uint64_t until_ns, struct error *error)
{
  uint64_t due_ns = load_publish(load, now_ns);
  uint64_t wait_ns = TURN_NS;
  if (until_ns - now_ns < wait_ns) wait_ns = until_ns - now_ns;
  if (due_ns != UINT64_MAX) {
    // Publishing took time, and a fixed rate must not drift.
    uint64_t after_ns = bench_now_ns();
    uint64_t due_in_ns = due_ns > after_ns ? due_ns - after_ns : 0;
    if (due_in_ns < wait_ns) wait_ns = due_in_ns;
  }
  return engine_poll(&load->engine, wait_ns, error);
}

enum status load_run(struct load *load, const struct load_goal *goal, struct error *error)
{
  const struct load_counts *counts = &load->counts;
  uint64_t now_ns = bench_now_ns();
  load->seen_ns = now_ns;
  while (now_ns < goal->until_ns) {
    if (counts->published >= goal->published && counts->acknowledged >= goal->acknowledged &&
        load->verdict.received >= goal->received)
      break;
    enum status status = turn(load, now_ns, goal->until_ns, error);
    if (status) return status;
    now_ns = bench_now_ns();
    bench_progress(&load->progress, load->options, now_ns, "%s: %.2f M sent, %.2f M received", goal->phase,
                   (double)counts->published / 1e6, (double)load->verdict.received / 1e6);
    if (!moving(load, now_ns)) break;
  }
  return OK;
}

// ---- The verdict

uint64_t load_lost(const struct load *load)
{
  uint64_t expected = load_expected(load);
  return expected > load->verdict.received ? expected - load->verdict.received : 0;
}

bool load_passed(const struct load *load)
{
  const struct verdict *verdict = &load->verdict;
  const struct load_counts *counts = &load->counts;
  if (load_lost(load) || verdict->disordered || counts->unexpected || counts->corrupt || counts->refused) return false;
  // At least once may be more than once. [MQTT 5.0 section 4.3.2]
  if (verdict->duplicates && load->options->qos != 1) return false;
  return load->options->qos == 0 || counts->acknowledged == counts->published;
}

void load_report_verdict(struct bench_report *report, const struct load *load)
{
  bench_report_uint(report, "published", load->counts.published);
  bench_report_uint(report, "delivered", load->verdict.received);
  bench_report_uint(report, "lost", load_lost(load));
  bench_report_uint(report, "duplicates", load->verdict.duplicates);
  bench_report_uint(report, "disordered", load->verdict.disordered);
  bench_report_uint(report, "unexpected", load->counts.unexpected);
  bench_report_uint(report, "corrupt", load->counts.corrupt);
  bench_report_uint(report, "refused", load->counts.refused);
  bench_report_bool(report, "stalled", load->stalled);
}
