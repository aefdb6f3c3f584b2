// $SYS. Names and formats are those of Mosquitto 2.0, so that dashboards made for it work; what a number means here is in
// the table, from which docs/metrics.md is made.
#include "broker/sys_topics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/watch_tables.h"

enum { TEXT_SIZE = 160, PERIODS = 3 };  // broker.id has at most 128 bytes

#define ROOT "$SYS/broker/"

struct maxima {
  uint64_t connected;
  uint64_t memory_bytes;
};

typedef uint64_t read_value(const struct status_view *view, const struct maxima *maxima);

// ---- Values

static uint64_t sum(const uint64_t *values, size_t count)
{
  uint64_t total = 0;
  for (size_t i = 0; i < count; i++) total += values[i];
  return total;
}

// Connections that have not sent CONNECT yet have no session.
static uint64_t clients_connected(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return view->total.clients;
}

static uint64_t clients_disconnected(const struct status_view *view, const struct maxima *maxima)
{
  return view->total.sessions - clients_connected(view, maxima);
}

static uint64_t clients_maximum(const struct status_view *view, const struct maxima *maxima)
{
  (void)view;
  return maxima->connected;
}

static uint64_t heap_current(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return view->memory_used_bytes > 0 ? (uint64_t)view->memory_used_bytes : 0;
}

static uint64_t heap_maximum(const struct status_view *view, const struct maxima *maxima)
{
  (void)view;
  return maxima->memory_bytes;
}

static uint64_t packets_received(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return sum(view->total.packets_received, 16);
}

static uint64_t packets_sent(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return sum(view->total.packets_sent, 16);
}

static uint64_t messages_stored(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  const struct counters *total = &view->total;
  return total->retained_messages + total->copies_queued + total->copies_in_flight;
}

static uint64_t stored_bytes(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return view->total.retained_bytes + view->total.queued_bytes;
}

static uint64_t messages_dropped(const struct status_view *view, const struct maxima *maxima)
{
  (void)maxima;
  return sum(view->total.dropped, DROP_REASONS);
}

#define FIELD_READER(name, field)                                                                                           \
  static uint64_t name(const struct status_view *view, const struct maxima *maxima)                                         \
  {                                                                                                                         \
    (void)maxima;                                                                                                           \
    return view->field;                                                                                                     \
  }
FIELD_READER(sessions, total.sessions)
FIELD_READER(sessions_expired, total.sessions_expired)
FIELD_READER(in_flight, total.copies_in_flight)
FIELD_READER(subscriptions, total.subscriptions)
FIELD_READER(shared_subscriptions, total.shared_subscriptions)
FIELD_READER(retained_messages, total.retained_messages)
FIELD_READER(publish_received, total.publish_received)
FIELD_READER(publish_sent, total.packets_sent[3])
FIELD_READER(publish_bytes_received, total.publish_received_bytes)
FIELD_READER(publish_bytes_sent, total.delivered_bytes)
FIELD_READER(bytes_received, total.bytes_received)
FIELD_READER(bytes_sent, total.bytes_sent)
FIELD_READER(sockets, net.accepted)
FIELD_READER(connects, total.packets_received[1])

// ---- The tables

struct number {
  struct sys_topic_row row;
  read_value *read;
};

static const struct number numbers[] = {
    {{ROOT "clients/total", "Sessions, connected or not."}, sessions},
    {{ROOT "clients/connected", "Clients that are connected."}, clients_connected},
    {{ROOT "clients/active", "The same, by its older name."}, clients_connected},
    {{ROOT "clients/disconnected", "Sessions whose client is not connected."}, clients_disconnected},
    {{ROOT "clients/inactive", "The same, by its older name."}, clients_disconnected},
    {{ROOT "clients/expired", "Sessions that ended because their expiry interval passed."}, sessions_expired},
    {{ROOT "clients/maximum", "Most clients that were connected when $SYS was published."}, clients_maximum},
    {{ROOT "messages/received", "MQTT packets of all types received."}, packets_received},
    {{ROOT "messages/sent", "MQTT packets of all types sent."}, packets_sent},
    {{ROOT "messages/stored", "Retained messages, and copies that are queued or in flight."}, messages_stored},
    {{ROOT "messages/inflight", "Copies at QoS 1 or 2 that were sent and not yet acknowledged."}, in_flight},
    {{ROOT "store/messages/count", "The same as messages/stored."}, messages_stored},
    {{ROOT "store/messages/bytes", "Bytes of retained and of queued messages."}, stored_bytes},
    {{ROOT "subscriptions/count", "Subscriptions that are not shared."}, subscriptions},
    {{ROOT "shared_subscriptions/count", "Memberships in shared subscriptions."}, shared_subscriptions},
    {{ROOT "retained messages/count", "Retained messages, these included."}, retained_messages},
    {{ROOT "heap/current", "Bytes of messages, buffers and sessions, as broker.memory_limit counts them."}, heap_current},
    {{ROOT "heap/maximum", "The most of them when $SYS was published."}, heap_maximum},
    {{ROOT "publish/messages/received", "PUBLISH packets received."}, publish_received},
    {{ROOT "publish/messages/sent", "PUBLISH packets sent."}, publish_sent},
    {{ROOT "publish/messages/dropped", "Copies that were dropped, for whatever reason; /metrics tells them apart."},
     messages_dropped},
    {{ROOT "publish/bytes/received", "Payload bytes of PUBLISH packets received."}, publish_bytes_received},
    {{ROOT "publish/bytes/sent", "Payload bytes of PUBLISH packets sent."}, publish_bytes_sent},
    {{ROOT "bytes/received", "Bytes of MQTT received."}, bytes_received},
    {{ROOT "bytes/sent", "Bytes of MQTT sent."}, bytes_sent},
};

// How much a counter grows in a minute, averaged: the weight of the past falls to 1/e in the period.
struct load {
  struct sys_topic_row row;
  const char *topics[PERIODS];
  read_value *read;
};

// clang-format off
#define LOAD(name, what)                                                                                                    \
  {ROOT "load/" name "/{1min,5min,15min}", what " a minute, averaged over 1, 5 and 15 minutes."},                           \
  {ROOT "load/" name "/1min", ROOT "load/" name "/5min", ROOT "load/" name "/15min"}
// clang-format on

static const struct load loads[] = {
    {LOAD("messages/received", "MQTT packets received"), packets_received},
    {LOAD("messages/sent", "MQTT packets sent"), packets_sent},
    {LOAD("publish/received", "PUBLISH packets received"), publish_received},
    {LOAD("publish/sent", "PUBLISH packets sent"), publish_sent},
    {LOAD("publish/dropped", "Copies dropped"), messages_dropped},
    {LOAD("bytes/received", "Bytes of MQTT received"), bytes_received},
    {LOAD("bytes/sent", "Bytes of MQTT sent"), bytes_sent},
    {LOAD("sockets", "Connections accepted"), sockets},
    {LOAD("connections", "CONNECT packets received"), connects},
};

// e^(-1/60), e^(-1/300), e^(-1/900): what is left of the past after one second.
static const double decay_per_second[PERIODS] = {0.98347145382161748, 0.99667221605452332, 0.99888950594427062};

enum {
  NUMBERS = sizeof numbers / sizeof numbers[0],
  LOADS = sizeof loads / sizeof loads[0],
  TEXTS = 3,  // version, id, uptime
  VALUES = TEXTS + NUMBERS + LOADS * PERIODS,
};

static const struct sys_topic_row texts[TEXTS] = {
    {ROOT "version", "\"skerry version\" and its number."},
    {ROOT "id", "The broker's name, broker.id."},
    {ROOT "uptime", "Time since the start: a number and \"seconds\"."},
};

const struct sys_topic_row *sys_topics_row(size_t index)
{
  if (index < TEXTS) return &texts[index];
  if (index < TEXTS + NUMBERS) return &numbers[index - TEXTS].row;
  return index < TEXTS + NUMBERS + LOADS ? &loads[index - TEXTS - NUMBERS].row : NULL;
}

// ---- Updating

struct sys_topics {
  struct maxima maxima;
  uint64_t counted[LOADS];  // at the last update of the averages
  double averages[LOADS][PERIODS];
  bool started;
  char texts[VALUES][TEXT_SIZE];  // as they were published last
  size_t changed;
  struct net_value values[VALUES];  // the first `changed` of them: those to publish
};

struct sys_topics *sys_topics_create(void)
{
  return calloc(1, sizeof(struct sys_topics));
}

void sys_topics_destroy(struct sys_topics *sys)
{
  free(sys);
}

// `base` to the power of `seconds`; the period is whole seconds, which saves libm.
static double decay(double base, uint32_t seconds)
{
  double result = 1;
  for (; seconds > 0; seconds >>= 1) {
    if (seconds & 1) result *= base;
    base *= base;
  }
  return result;
}

static void update_averages(struct sys_topics *sys, const struct status_view *view, uint32_t interval_s)
{
  for (size_t i = 0; i < LOADS; i++) {
    uint64_t now = loads[i].read(view, &sys->maxima);
    uint64_t grown = now > sys->counted[i] ? now - sys->counted[i] : 0;
    sys->counted[i] = now;
    if (interval_s == 0) continue;
    double per_minute = (double)grown * 60 / interval_s;
    for (size_t p = 0; p < PERIODS; p++) {
      double *average = &sys->averages[i][p];
      *average = per_minute + decay(decay_per_second[p], interval_s) * (*average - per_minute);
    }
  }
}

static void update_maxima(struct maxima *maxima, const struct status_view *view)
{
  uint64_t connected = clients_connected(view, maxima);
  uint64_t memory_bytes = heap_current(view, maxima);
  if (connected > maxima->connected) maxima->connected = connected;
  if (memory_bytes > maxima->memory_bytes) maxima->memory_bytes = memory_bytes;
}

static void set(struct sys_topics *sys, size_t index, const char *topic, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void set(struct sys_topics *sys, size_t index, const char *topic, const char *format, ...)
{
  assert(index < VALUES);
  char text[TEXT_SIZE];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  assert(size >= 0);
  if (strcmp(text, sys->texts[index]) == 0) return;
  strcpy(sys->texts[index], text);
  sys->values[sys->changed++] = (struct net_value){.topic = span_text(topic), .payload = span_text(sys->texts[index])};
}

const struct net_value *sys_topics_update(struct sys_topics *sys, const struct status_view *view, uint32_t interval_s,
                                          size_t *out_count)
{
  sys->changed = 0;
  update_maxima(&sys->maxima, view);
  if (interval_s > 0 || !sys->started) update_averages(sys, view, interval_s);
  sys->started = true;
  set(sys, 0, texts[0].topic, "skerry version %s", view->version);
  set(sys, 1, texts[1].topic, "%s", view->broker_id);
  set(sys, 2, texts[2].topic, "%" PRIu64 " seconds", view->uptime_s);
  for (size_t i = 0; i < NUMBERS; i++)
    set(sys, TEXTS + i, numbers[i].row.topic, "%" PRIu64, numbers[i].read(view, &sys->maxima));
  for (size_t i = 0; i < LOADS; i++)
    for (size_t p = 0; p < PERIODS; p++)
      set(sys, TEXTS + NUMBERS + i * PERIODS + p, loads[i].topics[p], "%.2f", sys->averages[i][p]);
  *out_count = sys->changed;
  return sys->values;
}
