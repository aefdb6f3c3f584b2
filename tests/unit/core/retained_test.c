// The retained store and its cursors against a plain list.
#include "test.h"

#include "core/retained.h"
#include "mqtt/topic.h"

static enum status set(struct retained *retained, struct message *message, uint64_t stamp)
{
  uint64_t before = retained->changes;
  bool taken = false;
  enum status status = retained_set(retained, message, stamp, &taken);
  if (status == OK) assert_int_equal(taken, retained->changes != before);
  return status;
}

enum { MODEL_TOPICS = 800 };

// ---- A dumb store

struct entry {
  char topic[32];
  unsigned value;  // 0: none
  uint64_t stamp;
  bool touched;  // since the cursor of the test was made
};

struct world {
  struct counted_pool memory;
  struct retained retained;
  struct prng prng;
  struct entry entries[MODEL_TOPICS];
  size_t count;
  unsigned last_value;
  bool swept;  // deletions may be forgotten: a late value would come back
};

static struct world *world_create(uint64_t seed)
{
  struct world *world = calloc(1, sizeof *world);
  assert_non_null(world);
  counted_pool_init(&world->memory);
  assert_ok(retained_init(&world->retained, &world->memory.pool, 17));
  prng_seed(&world->prng, seed);
  return world;
}

static void world_destroy(struct world *world)
{
  retained_deinit(&world->retained);
  counted_pool_deinit(&world->memory);
  free(world);
}

static struct message *make(struct world *world, const char *topic, const char *payload, uint64_t expiry_ms, uint64_t origin)
{
  struct message_parts parts = {
      .topic = span_text(topic), .payload = span_text(payload), .retain = true, .expiry_ms = expiry_ms, .origin = origin};
  struct message *message = message_create(&world->memory.pool, &parts);
  assert_non_null(message);
  return message;
}

static void store(struct world *world, const char *topic, const char *payload, uint64_t stamp)
{
  struct message *message = make(world, topic, payload, 0, 0);
  assert_ok(set(&world->retained, message, stamp));
  message_unref(&world->memory.pool, message);
}

static void random_name(struct prng *prng, bool filter, char out[32])
{
  static const char *const levels[] = {"", "a", "b", "$x", "c"};
  struct mqtt_filter parsed;
  do {
    out[0] = 0;
    uint64_t depth = 1 + prng_below(prng, 4);
    for (uint64_t i = 0; i < depth; i++) {
      if (i > 0) strcat(out, "/");
      if (filter && prng_below(prng, 3) == 0)
        strcat(out, i + 1 == depth && prng_below(prng, 2) ? "#" : "+");
      else
        strcat(out, levels[prng_below(prng, 5)]);
    }
  } while (!mqtt_filter_parse(span_text(out), &parsed));
}

static struct entry *model_entry(struct world *world, const char *topic)
{
  for (size_t i = 0; i < world->count; i++)
    if (strcmp(world->entries[i].topic, topic) == 0) return &world->entries[i];
  assert_true(world->count < MODEL_TOPICS);
  struct entry *entry = &world->entries[world->count++];
  *entry = (struct entry){0};
  strcpy(entry->topic, topic);
  return entry;
}

// One change in both: mostly new, sometimes one that is late.
static void change(struct world *world)
{
  char topic[32], payload[16];
  random_name(&world->prng, false, topic);
  struct entry *entry = model_entry(world, topic);
  bool clear = prng_below(&world->prng, 3) == 0;
  uint64_t stamp = retained_stamp(&world->retained, (uint8_t)prng_below(&world->prng, 4), (struct mono){1});
  bool may_be_late = entry->value || (entry->stamp && !world->swept);
  if (may_be_late && prng_below(&world->prng, 5) == 0) stamp = entry->stamp - prng_below(&world->prng, 2);
  unsigned value = ++world->last_value;
  snprintf(payload, sizeof payload, "%u", value);
  store(world, topic, clear ? "" : payload, stamp);
  if (stamp <= entry->stamp) return;
  *entry = (struct entry){.value = clear ? 0 : value, .stamp = stamp, .touched = true};
  strcpy(entry->topic, topic);
}

static void check_all(struct world *world)
{
  uint64_t messages = 0;
  for (size_t i = 0; i < world->count; i++) {
    const struct entry *entry = &world->entries[i];
    const struct message *message = retained_find(&world->retained, span_text(entry->topic));
    assert_int_equal(message != NULL, entry->value != 0);
    if (!message) continue;
    char payload[16];
    snprintf(payload, sizeof payload, "%u", entry->value);
    assert_span_text(message_payload(message), payload);
    messages++;
  }
  assert_int_equal(world->retained.messages, messages);
}

static struct entry *by_message(struct world *world, const struct message *message)
{
  for (size_t i = 0; i < world->count; i++)
    if (span_equal(span_text(world->entries[i].topic), message_topic(message))) return &world->entries[i];
  fail_msg("a topic that was never stored");
  return NULL;
}

// Every value that matches and was not changed since the cursor was made comes exactly once; no other comes.
static void walk(struct world *world, const char *filter, unsigned changes_between)
{
  static bool seen[MODEL_TOPICS];
  memset(seen, 0, sizeof seen);
  for (size_t i = 0; i < world->count; i++) world->entries[i].touched = false;
  struct retained_cursor *cursor = retained_cursor_create(&world->retained, span_text(filter));
  assert_non_null(cursor);
  for (unsigned turns = 0;; turns++) {
    assert_true(turns < 100000);
    struct message *message;
    enum cursor_result result =
        retained_cursor_next(&world->retained, cursor, 1 + (unsigned)prng_below(&world->prng, 5), &message);
    if (result == CURSOR_END) break;
    if (result == CURSOR_MESSAGE) {
      struct entry *entry = by_message(world, message);
      assert_false(entry->touched);
      assert_true(mqtt_filter_matches(span_text(filter), span_text(entry->topic)));
      assert_false(seen[entry - world->entries]);
      seen[entry - world->entries] = true;
    }
    for (unsigned i = 0; i < changes_between; i++)
      if (prng_below(&world->prng, 4) == 0) change(world);
    if (changes_between && prng_below(&world->prng, 8) == 0) retained_sweep(&world->retained, (struct mono){1}, 50);
  }
  struct message *message;
  assert_int_equal(retained_cursor_next(&world->retained, cursor, 5, &message), CURSOR_END);
  retained_cursor_destroy(&world->retained, cursor);
  for (size_t i = 0; i < world->count; i++) {
    const struct entry *entry = &world->entries[i];
    bool expected = entry->value && !entry->touched && mqtt_filter_matches(span_text(filter), span_text(entry->topic));
    if (expected && !seen[i]) fail_msg("%s is missing for %s", entry->topic, filter);
  }
}

static void store_follows_the_list(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 6; seed++) {
    struct world *world = world_create(seed);
    for (unsigned step = 0; step < 1500; step++) {
      change(world);
      if (step % 16 == 0) check_all(world);
    }
    world_destroy(world);
  }
}

static void cursors_follow_the_list(void **state)
{
  (void)state;
  static const char *const fixed[] = {"#", "+", "+/#", "/#", "$x/#", "a/#", "+/+", "/+", "$x/+/#"};
  for (uint64_t seed = 10; seed <= 14; seed++) {
    struct world *world = world_create(seed);
    world->swept = true;
    for (unsigned i = 0; i < 150; i++) change(world);
    for (unsigned step = 0; step < 300; step++) {
      char filter[32];
      random_name(&world->prng, true, filter);
      walk(world, step < 9 ? fixed[step] : filter, step % 3 == 0 ? 0 : step % 3 * 2);
      if (step % 16 == 0) check_all(world);
    }
    world_destroy(world);
  }
}

// Cursors that are given up anywhere leave nothing behind.
static void cursors_may_be_given_up(void **state)
{
  (void)state;
  struct world *world = world_create(20);
  for (unsigned i = 0; i < 100; i++) change(world);
  for (unsigned steps = 0; steps < 120; steps++) {
    struct retained_cursor *cursor = retained_cursor_create(&world->retained, span_text("#"));
    assert_non_null(cursor);
    struct message *message;
    for (unsigned i = 0; i < steps; i++)
      if (retained_cursor_next(&world->retained, cursor, 1, &message) == CURSOR_MESSAGE && i + 1 == steps) {
        message_ref(message, 1);
        cursor->held = message;
      }
    retained_cursor_destroy(&world->retained, cursor);
  }
  retained_cursor_destroy(&world->retained, NULL);
  for (size_t i = 0; i < world->count; i++)
    store(world, world->entries[i].topic, "", retained_stamp(&world->retained, 0, (struct mono){1}));
  assert_int_equal(world->retained.messages, 0);
  for (unsigned i = 0; i <= SWEEPS_REMEMBERED + 1; i++) retained_sweep(&world->retained, (struct mono){1}, 100000);
  assert_int_equal(world->retained.children.count, 0);
  assert_int_equal(world->retained.bytes, 0);
  assert_int_equal(world->retained.mortal, 0);
  world_destroy(world);
}

static void own_messages_can_be_left_out(void **state)
{
  (void)state;
  struct world *world = world_create(21);
  for (uint64_t i = 0; i < 10; i++) {
    char topic[8];
    snprintf(topic, sizeof topic, "t/%u", (unsigned)i);
    struct message *message = make(world, topic, "x", 0, i % 2 + 1);
    assert_ok(set(&world->retained, message, retained_stamp(&world->retained, 0, (struct mono){1})));
    message_unref(&world->memory.pool, message);
  }
  struct retained_cursor *cursor = retained_cursor_create(&world->retained, span_text("t/+"));
  assert_non_null(cursor);
  cursor->origin_excluded = 1;
  struct message *message;
  unsigned found = 0;
  while (retained_cursor_next(&world->retained, cursor, 100, &message) == CURSOR_MESSAGE) {
    assert_int_equal(message->origin, 2);
    found++;
  }
  assert_int_equal(found, 5);
  retained_cursor_destroy(&world->retained, cursor);
  world_destroy(world);
}

// ---- Stamps

// Two values of one topic that race on two shards: the same one wins on both, whatever the order of arrival.
static void the_later_stamp_wins(void **state)
{
  (void)state;
  for (unsigned order = 0; order < 2; order++) {
    struct world *world = world_create(1);
    store(world, "t", order ? "first" : "second", order ? 0x101 : 0x102);
    store(world, "t", order ? "second" : "first", order ? 0x102 : 0x101);
    assert_span_text(message_payload(retained_find(&world->retained, span_text("t"))), "second");
    // A stamp given here is later than all that was seen.
    uint64_t stamp = retained_stamp(&world->retained, 0, (struct mono){1});
    assert_true(stamp > 0x102);
    assert_int_equal(stamp & 0xff, 0);
    assert_true(retained_stamp(&world->retained, 3, (struct mono){1}) > stamp);
    world_destroy(world);
  }
}

static void deletions_are_remembered(void **state)
{
  (void)state;
  struct world *world = world_create(1);
  store(world, "a/b", "old", 0x200);
  store(world, "a/b", "", 0x300);
  assert_null(retained_find(&world->retained, span_text("a/b")));
  store(world, "a/b", "late", 0x2ff);
  assert_null(retained_find(&world->retained, span_text("a/b")));
  assert_int_equal(world->retained.mortal, 1);
  for (unsigned round = 0; round < SWEEPS_REMEMBERED; round++) retained_sweep(&world->retained, (struct mono){1}, 1000);
  store(world, "a/b", "later still", 0x2ff);
  assert_null(retained_find(&world->retained, span_text("a/b")));
  assert_int_equal(world->retained.mortal, 1);
  retained_sweep(&world->retained, (struct mono){1}, 1000);
  assert_int_equal(world->retained.mortal, 0);
  assert_int_equal(world->retained.children.count, 0);
  // A deletion of what nobody has ever stored is remembered too: the value may come behind it.
  store(world, "c", "", 0x400);
  store(world, "c", "late", 0x3ff);
  assert_null(retained_find(&world->retained, span_text("c")));
  world_destroy(world);
}

// ---- Expiry

static void expired_ones_are_swept(void **state)
{
  (void)state;
  struct world *world = world_create(1);
  char topic[16];
  for (unsigned i = 0; i < 100; i++) {
    snprintf(topic, sizeof topic, "t/%u", i);
    struct message *message = make(world, topic, "x", i % 2 ? 5000 : 0, 0);
    assert_ok(set(&world->retained, message, retained_stamp(&world->retained, 0, (struct mono){1})));
    message_unref(&world->memory.pool, message);
  }
  assert_int_equal(world->retained.mortal, 50);
  // In small portions, whatever their size: every node comes by.
  for (unsigned i = 0; i < 200; i++) retained_sweep(&world->retained, (struct mono){4999}, 3);
  assert_int_equal(world->retained.messages, 100);
  for (unsigned i = 0; i < 70; i++) retained_sweep(&world->retained, (struct mono){5000}, 3);
  assert_int_equal(world->retained.messages, 50);
  for (unsigned i = 0; i < 40; i++) retained_sweep(&world->retained, (struct mono){5000}, 1000);
  assert_int_equal(world->retained.mortal, 0);
  assert_int_equal(world->retained.children.count, 51);
  world_destroy(world);
}

// The topic on which the sweep stands is cleared and forgotten meanwhile.
static void sweeping_while_all_changes(void **state)
{
  (void)state;
  struct world *world = world_create(30);
  world->swept = true;
  for (unsigned step = 0; step < 20000; step++) {
    change(world);
    retained_sweep(&world->retained, (struct mono){1}, (unsigned)prng_below(&world->prng, 4));
    if (step % 500 == 0) check_all(world);
  }
  world_destroy(world);
}

// ---- Size

static void bytes_come_back(void **state)
{
  (void)state;
  struct world *world = world_create(1);
  struct message *message = make(world, "a/b/c", "payload", 0, 0);
  size_t size = message_size(message);
  assert_ok(set(&world->retained, message, 0x100));
  uint64_t with_nodes = world->retained.bytes;
  assert_int_equal(with_nodes, size + 3 * sizeof(struct retained_node) + 3);
  assert_ok(set(&world->retained, message, 0x200));  // the same again
  assert_int_equal(world->retained.bytes, with_nodes);
  message_unref(&world->memory.pool, message);
  store(world, "a/b/c", "", 0x300);
  assert_int_equal(world->retained.bytes, with_nodes - size);
  world_destroy(world);
}

static void deepest_topic(void **state)
{
  (void)state;
  struct world *world = world_create(1);
  enum { LEVELS = 2000 };
  char *topic = malloc(LEVELS + 1);
  assert_non_null(topic);
  memset(topic, '/', LEVELS);
  topic[LEVELS] = 0;
  store(world, topic, "deep", 0x100);
  assert_non_null(retained_find(&world->retained, span_text(topic)));
  struct retained_cursor *cursor = retained_cursor_create(&world->retained, span_text("#"));
  struct message *message = NULL;
  assert_int_equal(retained_cursor_next(&world->retained, cursor, LEVELS, &message), CURSOR_MORE);
  assert_int_equal(retained_cursor_next(&world->retained, cursor, LEVELS, &message), CURSOR_MESSAGE);
  assert_int_equal(retained_cursor_next(&world->retained, cursor, LEVELS, &message), CURSOR_END);
  retained_cursor_destroy(&world->retained, cursor);
  free(topic);
  world_destroy(world);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(store_follows_the_list),  cmocka_unit_test(cursors_follow_the_list),
      cmocka_unit_test(cursors_may_be_given_up), cmocka_unit_test(own_messages_can_be_left_out),
      cmocka_unit_test(the_later_stamp_wins),    cmocka_unit_test(deletions_are_remembered),
      cmocka_unit_test(expired_ones_are_swept),  cmocka_unit_test(sweeping_while_all_changes),
      cmocka_unit_test(bytes_come_back),         cmocka_unit_test(deepest_topic),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
