// Random histories: what the catalog says is compared with the model, what it counts with a recount, and what replaying
// makes with itself.
#include "catalog_rig.h"

#include "base/prng.h"

struct history {
  struct rig rig;
  struct prng prng;
  struct model_session *alive[512];
  size_t alive_count;
  bool in_checkpoint;
};

static uint64_t below(struct history *history, uint64_t bound)
{
  return prng_below(&history->prng, bound);
}

static struct model_session *any_session(struct history *history)
{
  return history->alive[below(history, history->alive_count)];
}

static void begin_session(struct history *history)
{
  if (history->alive_count < 12 && history->rig.session_count < 500)
    history->alive[history->alive_count++] = rig_session(&history->rig);
}

static void end_session(struct history *history)
{
  if (history->alive_count < 3) return;
  size_t index = below(history, history->alive_count);
  rig_end(&history->rig, history->alive[index]);
  history->alive[index] = history->alive[--history->alive_count];
}

static void publish(struct history *history)
{
  size_t times = below(history, 4) == 0 ? below(history, 400) : 1 + below(history, 20);
  struct model_session *to[4];
  size_t fixed = below(history, 5);
  for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) to[i] = any_session(history);
  for (size_t i = 0; i < times; i++) {
    struct message_options options = {.topic = (unsigned)below(history, 6 * MODEL_TOPICS)};
    if (options.topic < MODEL_TOPICS) {
      options.empty = below(history, 4) == 0;
      if (below(history, 3) == 0) options.expiry_ms = history->rig.time_ms + below(history, 3000);
      // An empty one clears, and does not expire.
      if (options.empty) options.expiry_ms = 0;
    }
    if (below(history, 10) == 0) {
      options.publisher = any_session(history);
      options.packet_id = (uint16_t)(1 + below(history, 31));
    }
    size_t count = fixed < 4 ? fixed : below(history, 5);
    rig_message(&history->rig, to, count, &options);
  }
}

static void finish_some(struct history *history)
{
  struct model_session *session = any_session(history);
  if (session->count == 0) return;
  uint64_t head = model_head(session);
  uint64_t place = head;
  uint32_t count = 1 + (uint32_t)below(history, 40);
  switch (below(history, 8)) {
    case 0:  // out of order
      place = head + below(history, 600);
      break;
    case 1:  // many
      count = (uint32_t)below(history, 2000) + 1;
      break;
    case 2:
      place = head + below(history, 50);
      count = 1;
      break;
    case 3:  // from below the head on
      place = below(history, head + 1);
      break;
    default: break;
  }
  rig_done(&history->rig, session, place, count, (enum record_outcome)below(history, OUTCOMES));
}

static void drain(struct history *history)
{
  struct model_session *session = any_session(history);
  while (model_head(session) + 30 < session->count) {
    uint64_t head = model_head(session), next;
    struct queue_entry entries[64];
    size_t count;
    assert_ok(catalog_entries(&history->rig.catalog, session->number, head, entries, 64, &count, &next));
    rig_done(&history->rig, session, head, 1 + (uint32_t)below(history, 64), OUTCOME_DELIVERED);
    if (below(history, 30) == 0) break;
  }
}

static void send_some(struct history *history)
{
  struct model_session *session = any_session(history);
  uint64_t place = model_head(session) + below(history, 300);
  for (uint64_t i = below(history, 20) + 1; i > 0; i--) rig_sent(&history->rig, session, place++);
}

static void subscribe(struct history *history)
{
  struct rig *rig = &history->rig;
  struct model_session *session = any_session(history);
  unsigned index = (unsigned)below(history, 16);
  char filter[32];
  snprintf(filter, sizeof filter, "site/%u/#", index);
  if (session->subscribed[index] && below(history, 2)) {
    struct record_unsubscribe record = {.session = session->number, .filter = span_text(filter)};
    assert_ok(record_put_unsubscribe(&rig->batch, &record));
    session->subscribed[index] = false;
  } else {
    struct record_subscribe record = {.session = session->number, .filter = span_text(filter)};
    record.id = (uint32_t)below(history, 1000);
    record.qos = (uint8_t)below(history, 3);
    record.no_local = below(history, 2);
    record.retain_as_published = below(history, 2);
    assert_ok(record_put_subscribe(&rig->batch, &record));
    session->subscribed[index] = true;
  }
  rig_write(rig);
  size_t count = 0;
  for (size_t i = 0; i < 16; i++) count += session->subscribed[i];
  assert_int_equal(catalog_find(&rig->catalog, session->number)->subscription_count, count);
}

static void set_will(struct history *history)
{
  struct model_session *session = any_session(history);
  rig_will(&history->rig, session, below(history, 2));
}

static void own(struct history *history)
{
  struct model_session *session = any_session(history);
  char user[16];
  snprintf(user, sizeof user, "%.*s", (int)(1 + below(history, 14)), "annemargarethe");
  if (!session->user[0]) rig_own(&history->rig, session, user);
}

static void release_packet_id(struct history *history)
{
  struct model_session *session = any_session(history);
  struct record_packet_id record = {.session = session->number, .packet_id = (uint16_t)(1 + below(history, 31))};
  enum record_type type = below(history, 3) ? RECORD_RELEASED : RECORD_RECEIVED;
  assert_ok(record_put_packet_id(&history->rig.batch, type, &record));
  rig_write(&history->rig);
  session->received[record.packet_id] = type == RECORD_RECEIVED;
  const struct catalog_session *found = catalog_find(&history->rig.catalog, session->number);
  size_t count = 0;
  for (uint16_t id = 0; id < 32; id++) {
    if (!session->received[id]) continue;
    assert_true(count < found->received_count);
    assert_int_equal(found->received[count++], id);
  }
  assert_int_equal(found->received_count, count);
}

static void come_or_go(struct history *history)
{
  struct model_session *session = any_session(history);
  if (session->connected)
    rig_away(&history->rig, session);
  else
    rig_back(&history->rig, session);
}

static void put_references(struct history *history)
{
  bool more;
  assert_ok(catalog_put_references(&history->rig.catalog, &history->rig.batch, below(history, 6000) + 1, &more));
  rig_write(&history->rig);
}

// What has expired when a slice is written is dropped with it.
static void forget_expired(struct history *history)
{
  struct rig *rig = &history->rig;
  for (unsigned i = 0; i < MODEL_TOPICS; i++) {
    char topic[32];
    snprintf(topic, sizeof topic, "plant/%u/temperature", i);
    if (rig->retained[i] == 0 || rig->retained_expiry_ms[i] == 0) continue;
    size_t cursor = 0;
    bool found = false;
    for (const struct catalog_retained *retained; (retained = map_next(&rig->catalog.retained, &cursor));)
      if (retained->topic_size == strlen(topic) && memcmp(retained->topic, topic, strlen(topic)) == 0) found = true;
    if (found) continue;
    assert_true(rig->retained_expiry_ms[i] <= rig->time_ms);
    rig->retained[i] = 0;
  }
}

static void checkpoint(struct history *history)
{
  struct rig *rig = &history->rig;
  if (!history->in_checkpoint) {
    assert_ok(catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms));
    history->in_checkpoint = true;
  }
  bool done;
  assert_ok(catalog_checkpoint_slice(&rig->catalog, &rig->batch, below(history, 3000) + 1, &done));
  rig_write(rig);
  forget_expired(history);
  if (done) history->in_checkpoint = false;
  if (!done && below(history, 40) == 0) {
    catalog_checkpoint_cancel(&rig->catalog);
    history->in_checkpoint = false;
  }
}

// As the store does it: not while a checkpoint is being written.
static void copy_segment(struct history *history)
{
  struct rig *rig = &history->rig;
  if (history->in_checkpoint || rig_segment(rig) < 3) return;
  uint32_t segment = rig->catalog.live_count > 0 && below(history, 3)
                         ? rig->catalog.live[below(history, rig->catalog.live_count)].segment
                         : 1 + (uint32_t)below(history, rig_segment(rig) - 1);
  if (segment == rig_segment(rig)) return;
  rig_copy_segment(rig, segment);
  assert_null(catalog_live(&rig->catalog, segment));
}

// Everything in a segment is lost: what the catalog refers to is what is lost of the model.
static void lose_segment(struct history *history)
{
  struct rig *rig = &history->rig;
  if (rig_segment(rig) < 4 || history->in_checkpoint) return;
  uint32_t segment = 1 + (uint32_t)below(history, position_segment(rig->records[rig->replay_from].position));
  if (segment >= position_segment(rig->records[rig->replay_from].position)) return;
  for (size_t i = 0; i < history->alive_count; i++) {
    struct model_session *session = history->alive[i];
    struct queue_entry entry;
    size_t count = 1;
    for (uint64_t place = 0; count > 0;) {
      assert_ok(catalog_entries(&rig->catalog, session->number, place, &entry, 1, &count, &place));
      if (count > 0 && position_segment(entry.position) == segment) session->entries[entry.place].lost = true;
    }
    const struct catalog_session *found = catalog_find(&rig->catalog, session->number);
    if (position_segment(found->will_position) == segment) session->has_will = false;
  }
  size_t cursor = 0;
  for (const struct catalog_retained *retained; (retained = map_next(&rig->catalog.retained, &cursor));)
    if (position_segment(retained->position) == segment) rig->retained[strtoul(retained->topic + 6, NULL, 10)] = 0;
  assert_ok(catalog_put_holes(&rig->catalog, segment, &rig->batch, NULL, NULL));
  // Blocks whose records were in it were still to be read, so that only the messages in it are lost.
  rig_write(rig);
  assert_null(catalog_live(&rig->catalog, segment));
  rig_damage_segment(rig, segment);
}

static void step(struct history *history)
{
  static void (*const often[])(struct history *) = {publish, publish,   publish,    finish_some,   finish_some,
                                                    drain,   send_some, checkpoint, put_references};
  static void (*const seldom[])(struct history *) = {begin_session, subscribe,    release_packet_id, come_or_go,
                                                     come_or_go,    copy_segment, checkpoint,        own};
  switch (below(history, 16)) {
    case 0:
    case 1:
    case 2: seldom[below(history, sizeof seldom / sizeof seldom[0])](history); break;
    case 3: set_will(history); break;
    case 4:
      if (below(history, 8) == 0) end_session(history);
      if (below(history, 20) == 0) lose_segment(history);
      if (below(history, 4) == 0) rig_remove_dead(&history->rig);
      break;
    default: often[below(history, sizeof often / sizeof often[0])](history); break;
  }
}

static void run(uint64_t seed, unsigned steps)
{
  struct history *history = calloc(1, sizeof *history);
  assert_non_null(history);
  prng_seed(&history->prng, seed);
  static const uint64_t segments[] = {2000, 20000, 200000};
  rig_init(&history->rig, segments[seed % 3]);
  for (int i = 0; i < 3; i++) begin_session(history);
  for (unsigned i = 0; i < steps; i++) {
    step(history);
    check_live(&history->rig.catalog);
    if (below(history, 40) == 0) check_model(&history->rig);
    if (below(history, 60) == 0) check_replay(&history->rig);
    if (below(history, 200) == 0) {
      rig_crash(&history->rig);
      history->in_checkpoint = false;
    }
  }
  check_model(&history->rig);
  check_replay(&history->rig);
  while (history->alive_count > 0) rig_end(&history->rig, history->alive[--history->alive_count]);
  check_model(&history->rig);
  rig_deinit(&history->rig);
  free(history);
}

static void histories(void **state)
{
  (void)state;
  const char *seed = getenv("SEED");
  if (seed) {
    run(strtoull(seed, NULL, 10), 1500);
    return;
  }
  for (uint64_t i = 1; i <= 24; i++) {
    fprintf(stderr, "SEED=%llu\n", (unsigned long long)i);  // what failed, and how to run it again
    run(i, 600);
  }
}

int main(void)
{
  static const struct CMUnitTest tests[] = {cmocka_unit_test(histories)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
