// Memory is short at every allocation: what could not be applied has changed nothing, and goes well later.
#include "catalog_rig.h"

// Allocations until one fails, -1: none does.
static long countdown = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool fails(void)
{
  return countdown >= 0 && countdown-- == 0;
}

void *__wrap_malloc(size_t size)
{
  return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
  return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
  return fails() ? NULL : __real_realloc(old, size);
}

static void fail_allocation(long n)
{
  countdown = n;
}

// One of the store's own records is put with each allocation failing, what a failed try has appended is dropped.
static void put(struct rig *rig, enum status (*what)(struct rig *rig))
{
  enum status status = ERR_NO_MEMORY;
  for (long n = 0; status == ERR_NO_MEMORY; n++) {
    buffer_deinit(&rig->batch);
    fail_allocation(n);
    status = what(rig);
    fail_allocation(-1);
    check_live(&rig->catalog);
  }
  assert_ok(status);
  rig_write(rig);
}

static enum status references(struct rig *rig)
{
  bool more;
  return catalog_put_references(&rig->catalog, &rig->batch, SIZE_MAX, &more);
}

static enum status checkpoint(struct rig *rig)
{
  enum status status = catalog_checkpoint_begin(&rig->catalog, &rig->batch, rig->time_ms);
  bool done = false;
  while (status == OK && !done) status = catalog_checkpoint_slice(&rig->catalog, &rig->batch, 1, &done);
  return status;
}

static enum status copies(struct rig *rig)
{
  enum status status = OK;
  for (size_t i = 0; i < rig->count && status == OK; i++) {
    struct rig_record record = rig->records[i];
    if (position_segment(record.position) != 1) continue;
    struct record_header header = {.mark = (uint64_t)record.type << RECORD_SEQUENCE_BITS};
    status = catalog_put_copy(&rig->catalog, &header, record.body, record.position, &rig->batch);
  }
  return status;
}

static enum status moved(struct rig *rig)
{
  return catalog_put_moved(&rig->catalog, &rig->batch);
}

static enum status holes(struct rig *rig)
{
  return catalog_put_holes(&rig->catalog, 2, &rig->batch, NULL, NULL);
}

static void everything_goes_well_later(void **state)
{
  struct rig *rig = rig_make(state, 1 << 20);
  rig->fail_allocation = fail_allocation;
  struct model_session *a = rig_session(rig), *b = rig_session(rig), *c = rig_session(rig);
  struct model_session *all[] = {a, b, c, a};
  for (unsigned i = 0; i < 400; i++)
    rig_message(rig, all, 1 + i % 4,
                &(struct message_options){.topic = i % 40, .publisher = b, .packet_id = (uint16_t)(1 + i % 31)});
  for (unsigned i = 0; i < 40; i++) {
    char filter[16];
    snprintf(filter, sizeof filter, "%u/#", i);
    struct record_subscribe record = {.session = a->number, .filter = span_text(filter)};
    assert_ok(record_put_subscribe(&rig->batch, &record));
    rig_write(rig);
  }
  rig_will(rig, c, true);
  rig_own(rig, c, "ann");
  rig_away(rig, a);
  rig_away(rig, b);
  put(rig, references);
  assert_int_equal(catalog_find(&rig->catalog, a->number)->block_count, 1);
  rig_done(rig, a, 3, 2, OUTCOME_DELIVERED);
  rig_done(rig, a, 30, 2, OUTCOME_DELIVERED);
  rig_done(rig, b, 30, 200, OUTCOME_DELIVERED);
  rig_sent(rig, a, 6);
  rig_sent(rig, c, 6);
  check_model(rig);
  put(rig, checkpoint);
  rig_begin_segment(rig);
  rig_messages(rig, a, 300);
  put(rig, references);
  put(rig, copies);
  put(rig, moved);
  assert_null(catalog_live(&rig->catalog, 1));
  check_model(rig);
  rig_crash(rig);
  put(rig, checkpoint);
  rig_crash(rig);
  check_model(rig);

  // Nothing is read well while memory is short, and nothing is taken for lost because of it.
  struct queue_entry entry;
  size_t count;
  uint64_t next;
  catalog_deinit(&rig->catalog);
  rig->fail_allocation = NULL;
  catalog_init(&rig->catalog, rig->catalog.read, rig);
  for (size_t i = rig->replay_from; i < rig->count; i++)
    assert_ok(catalog_apply(&rig->catalog, rig->records[i].type, rig->records[i].body, rig->records[i].position));
  fail_allocation(0);
  assert_int_equal(catalog_entries(&rig->catalog, a->number, 0, &entry, 1, &count, &next), ERR_NO_MEMORY);
  fail_allocation(-1);
  put(rig, holes);
  assert_null(catalog_live(&rig->catalog, 2));
  check_live(&rig->catalog);
}

int main(void)
{
  static const struct CMUnitTest tests[] = {WITH_RIG(everything_goes_well_later)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
