// Queues and windows against dumb models.
#include "test.h"

#include "core/queue.h"

// Any pointer that tells copies apart; it is never followed.
static struct message *mark(uintptr_t number)
{
  return (struct message *)(number * 16);
}

// ---- Queue

static void queue_keeps_order(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  struct prng prng;
  prng_seed(&prng, 1);
  struct queue queue = {0};
  uintptr_t appended = 0, dropped = 0;
  for (unsigned step = 0; step < 20000; step++) {
    // Phases of growing and of shrinking, so that it is often empty and often many blocks long.
    bool grow = prng_below(&prng, 100) < (step / 500 % 2 ? 35u : 65u);
    if (grow) {
      appended++;
      struct copy copy = {.message = mark(appended), .qos = (uint8_t)(appended % 3)};
      assert_ok(queue_append(&queue, &memory.pool, &copy));
    } else if (queue.count > 0) {
      queue_drop(&queue, &memory.pool);
      dropped++;
    }
    assert_int_equal(queue.count, appended - dropped);
    const struct copy *front = queue_peek(&queue);
    if (queue.count == 0) {
      assert_null(front);
      assert_int_equal(counted_pool_used(&memory), 0);
    } else {
      assert_ptr_equal(front->message, mark(dropped + 1));
      assert_int_equal(front->qos, (dropped + 1) % 3);
    }
  }
  while (queue.count > 0) {
    assert_ptr_equal(queue_peek(&queue)->message, mark(++dropped));
    queue_drop(&queue, &memory.pool);
  }
  assert_int_equal(dropped, appended);
  counted_pool_deinit(&memory);
}

// As a session does when its client goes: take all from the front, put back some, in order.
static void queue_can_be_rotated(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  for (uintptr_t size = 0; size <= 3 * QUEUE_BLOCK_COPIES + 1; size++) {
    struct queue queue = {0};
    for (uintptr_t i = 0; i < size; i++)
      assert_ok(queue_append(&queue, &memory.pool, &(struct copy){.message = mark(i + 1)}));
    for (uintptr_t i = 0; i < size; i++) {
      struct copy copy = *queue_peek(&queue);
      queue_drop(&queue, &memory.pool);
      if (i % 2) assert_ok(queue_append(&queue, &memory.pool, &copy));
    }
    assert_int_equal(queue.count, size / 2);
    for (uintptr_t i = 1; i < size; i += 2) {
      assert_ptr_equal(queue_peek(&queue)->message, mark(i + 1));
      queue_drop(&queue, &memory.pool);
    }
    assert_null(queue_peek(&queue));
  }
  counted_pool_deinit(&memory);
}

// ---- Window

struct model_entry {
  uint16_t id;
  uintptr_t number;
  bool done;
};

// What is in flight, in order of sending, holes included.
struct model {
  struct model_entry *entries;
  size_t first, end, capacity;
  uint32_t last_id;
  uintptr_t numbers;
};

static void model_trim(struct model *model)
{
  while (model->first < model->end && model->entries[model->first].done) model->first++;
}

static size_t model_span(const struct model *model)
{
  return model->end - model->first;
}

static void append(struct window *window, struct pool *pool, struct model *model)
{
  assert_true(model->end < model->capacity);
  model->last_id = model->last_id == 65535 ? 1 : model->last_id + 1;
  struct model_entry entry = {.id = (uint16_t)model->last_id, .number = ++model->numbers};
  struct copy copy = {.message = mark(entry.number), .qos = 1};
  assert_ok(window_append(window, pool, &copy, 0));
  assert_int_equal(copy.packet_id, entry.id);
  assert_int_equal(copy.state, COPY_SENT);
  model->entries[model->end++] = entry;
}

static void complete(struct window *window, struct model *model, size_t place)
{
  struct model_entry *entry = &model->entries[model->first + place];
  struct copy *copy = window_find(window, entry->id);
  if (entry->done) {
    assert_null(copy);
    return;
  }
  assert_non_null(copy);
  assert_ptr_equal(copy->message, mark(entry->number));
  assert_int_equal(window_place(window, copy), place);
  assert_ptr_equal(window_at(window, (uint32_t)place), copy);
  uint32_t resent = window->resent;
  window_done(window, copy);
  entry->done = true;
  size_t before = model->first;
  model_trim(model);
  size_t trimmed = model->first - before;
  assert_int_equal(window->resent, resent > trimmed ? resent - trimmed : 0);
}

static void check(const struct window *window, const struct model *model)
{
  uint32_t count = 0;
  for (size_t i = model->first; i < model->end; i++) count += !model->entries[i].done;
  assert_int_equal(window->span, model_span(model));
  assert_int_equal(window->count, count);
  assert_null(window_find(window, 0));
}

static void window_follows_its_model(void **state)
{
  (void)state;
  enum { STEPS = 500000 };  // identifiers wrap several times
  struct counted_pool memory;
  counted_pool_init(&memory);
  struct prng prng;
  prng_seed(&prng, 2);
  struct window window = {0};
  struct model model = {.entries = calloc(STEPS, sizeof *model.entries), .capacity = STEPS};
  assert_non_null(model.entries);
  for (unsigned step = 0; step < STEPS; step++) {
    size_t span = model_span(&model);
    bool grow = span == 0 || (span < 300 && prng_below(&prng, 2));
    if (grow) {
      append(&window, &memory.pool, &model);
    } else {
      size_t place = prng_below(&prng, 3) ? prng_below(&prng, span < 4 ? span : 4) : prng_below(&prng, span);
      if (prng_below(&prng, 100) == 0) window.resent = (uint32_t)prng_below(&prng, span + 1);
      complete(&window, &model, place);
    }
    if (step % 64 == 0) {
      check(&window, &model);
      // An identifier just outside of what is in flight.
      uint32_t after = model.last_id == 65535 ? 1 : model.last_id + 1;
      assert_null(window_find(&window, (uint16_t)after));
    }
  }
  assert_true(model.numbers > 2 * 65535);
  while (model_span(&model) > 0) complete(&window, &model, 0);
  check(&window, &model);
  uint16_t next = window.next_id;
  window_deinit(&window, &memory.pool);
  assert_int_equal(window.next_id, next);  // identifiers go on where they were
  free(model.entries);
  counted_pool_deinit(&memory);
}

static void window_is_full_before_identifiers_repeat(void **state)
{
  (void)state;
  struct counted_pool memory;
  counted_pool_init(&memory);
  struct window window = {.next_id = 40000};
  for (unsigned i = 0; i < 65535; i++) {
    assert_true(window_open(&window));
    struct copy copy = {.qos = 2};
    assert_ok(window_append(&window, &memory.pool, &copy, 0));
    assert_int_not_equal(copy.packet_id, 0);
  }
  assert_false(window_open(&window));
  // All but the first complete: the span, not the count, is what decides.
  for (unsigned id = 1; id <= 65535; id++) {
    struct copy *copy = window_find(&window, (uint16_t)id);
    assert_non_null(copy);
    if (id != 40001) window_done(&window, copy);
  }
  assert_int_equal(window.count, 1);
  assert_false(window_open(&window));
  window_done(&window, window_find(&window, 40001));
  assert_true(window_open(&window));
  assert_int_equal(window.span, 0);
  window_deinit(&window, &memory.pool);
  counted_pool_deinit(&memory);
}

// ---- Identifiers received

static void packet_ids_are_a_set(void **state)
{
  (void)state;
  struct packet_ids set = {0};
  bool *model = calloc(65536, sizeof *model);
  assert_non_null(model);
  struct prng prng;
  prng_seed(&prng, 3);
  for (unsigned step = 0; step < 5000; step++) {
    uint16_t id = (uint16_t)(prng_below(&prng, 200) * 321 + 1);
    assert_int_equal(packet_ids_have(&set, id), model[id]);
    if (prng_below(&prng, 2)) {
      if (!model[id]) assert_ok(packet_ids_add(&set, id));
      model[id] = true;
    } else {
      assert_int_equal(packet_ids_remove(&set, id), model[id]);
      model[id] = false;
    }
    uint32_t count = 0;
    for (unsigned i = 0; i < 200; i++) count += model[i * 321 + 1];
    assert_int_equal(set.count, count);
  }
  packet_ids_deinit(&set);
  assert_int_equal(set.count, 0);
  assert_false(packet_ids_have(&set, 1));
  free(model);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(queue_keeps_order),        cmocka_unit_test(queue_can_be_rotated),
      cmocka_unit_test(window_follows_its_model), cmocka_unit_test(window_is_full_before_identifiers_repeat),
      cmocka_unit_test(packet_ids_are_a_set),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
