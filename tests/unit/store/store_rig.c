#include "store_rig.h"

static void note_event(void *context, enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
  (void)level;
  (void)fields;
  (void)count;
  struct rig *rig = context;
  rig->log_lines++;
  size_t used = strlen(rig->events), size = strlen(event);
  if (used + size + 2 < sizeof rig->events) {
    memcpy(rig->events + used, event, size);
    rig->events[used + size] = ' ';
  }
}

bool rig_logged(const struct rig *rig, const char *event)
{
  char word[80];
  snprintf(word, sizeof word, "%s ", event);
  return strstr(rig->events, word) != NULL;
}

void rig_init(struct rig *rig, uint64_t seed)
{
  memset(rig, 0, sizeof *rig);
  prng_seed(&rig->prng, seed);
  struct sim_disk_settings disk = {0};
  prng_seed(&disk.prng, seed + 1);
  rig->disk = sim_disk_create(&disk);
  log_init(&rig->log, note_event, rig, LOG_INFO);
  rig->settings = (struct store_settings){
      .disk = rig->disk,
      .log = &rig->log,
      .segment_bytes = 4096,
      .limit_bytes = 64 << 20,
      .reserve_bytes = 4096,
      .replay_bytes = 16384,
      .identity = {1, 2, 3, (uint8_t)seed},
  };
  rig->mix = (struct model_mix){.sessions = 4, .payload_most = 200, .message_share = 45, .done_share = 35, .fan_out = 3};
  rig->now.ms = 5000;
  rig->wall.ms = INT64_C(1767225600000);  // 2026
  model_init(&rig->model);
}

void rig_close(struct rig *rig)
{
  store_close(rig->store);
  rig->store = NULL;
}

void rig_deinit(struct rig *rig)
{
  rig_close(rig);
  disk_destroy(rig->disk);
  model_deinit(&rig->model);
  buffer_deinit(&rig->records);
  free(rig->history);
}

int make_rig(void **state)
{
  struct rig *rig = malloc(sizeof *rig);
  assert_non_null(rig);
  rig_init(rig, 1);
  *state = rig;
  return 0;
}

struct rig *rig_of_seed(void **state, uint64_t seed)
{
  rig_deinit(*state);
  rig_init(*state, seed);
  return *state;
}

int free_rig(void **state)
{
  rig_deinit(*state);
  free(*state);
  return 0;
}

enum status rig_try_open(struct rig *rig, struct error *error)
{
  rig->batches = 0;
  rig->events[0] = 0;
  memset(rig->events, 0, sizeof rig->events);
  return store_open(&rig->settings, rig->now, rig->wall, &rig->store, error);
}

void rig_open(struct rig *rig)
{
  struct error error = {0};
  enum status status = rig_try_open(rig, &error);
  if (status) fail_msg("store_open: %s", error.text);
}

static void note_record(struct rig *rig, size_t offset, size_t size)
{
  if (rig->count == rig->capacity) {
    rig->capacity = rig->capacity ? 2 * rig->capacity : 256;
    rig->history = realloc(rig->history, rig->capacity * sizeof *rig->history);
    assert_non_null(rig->history);
  }
  rig->history[rig->count++] = (struct rig_record){.offset = offset, .size = size};
}

void rig_submit_records(struct rig *rig, struct buffer *records)
{
  struct journal_batch *batch = calloc(1, sizeof *batch);
  assert_non_null(batch);
  struct span bytes = buffer_peek(records);
  for (size_t at = 0; at < bytes.size;) {
    struct record_header header;
    memcpy(&header, bytes.at + at, sizeof header);
    size_t length = (size_t)record_length(header.size);
    note_record(rig, buffer_size(&rig->records), length);
    assert_ok(buffer_append(&rig->records, bytes.at + at, length));
    at += length;
  }
  assert_ok(buffer_append(&batch->records, bytes.at, bytes.size));
  buffer_consume(records, bytes.size);
  batch->number = ++rig->batches;
  rig->batch_end[batch->number % 4096] = rig->count;
  store_submit(rig->store, batch);
}

void rig_submit(struct rig *rig, unsigned count)
{
  struct buffer records = {0};
  for (unsigned i = 0; i < count; i++) model_next(&rig->model, &rig->prng, &rig->mix, &records);
  rig_submit_records(rig, &records);
  buffer_deinit(&records);
}

static void submit_and_settle(struct rig *rig, struct buffer *records)
{
  rig_submit_records(rig, records);
  rig_rounds(rig, 1);
  buffer_deinit(records);
}

void rig_put_session(struct rig *rig)
{
  struct buffer records = {0};
  model_put_session(&rig->model, &records);
  submit_and_settle(rig, &records);
}

void rig_put_messages(struct rig *rig, uint32_t session, unsigned count, unsigned size)
{
  struct buffer records = {0};
  for (unsigned i = 0; i < count; i++) model_put_message(&rig->model, session, size, &records);
  submit_and_settle(rig, &records);
}

void rig_put_done(struct rig *rig, uint32_t session, uint64_t place, uint32_t count)
{
  struct buffer records = {0};
  model_put_done(&rig->model, session, place, count, &records);
  submit_and_settle(rig, &records);
}

static void note_committed(struct rig *rig)
{
  uint64_t committed = store_committed(rig->store);
  if (committed > 0) rig->committed = rig->batch_end[committed % 4096];
}

void rig_rounds(struct rig *rig, uint64_t ms)
{
  rig->now.ms += ms;
  rig->wall.ms += (int64_t)ms;
  unsigned rounds = 0;
  while (store_round(rig->store, rig->now, rig->wall)) {
    note_committed(rig);
    if (++rounds > 100000) fail_msg("the store never comes to rest");
  }
  note_committed(rig);
}

static void settle_queues(struct store *store)
{
  struct catalog *catalog = (struct catalog *)(uintptr_t)store_catalog(store);
  size_t cursor = 0;
  struct catalog_session *session;
  while ((session = map_next(&catalog->sessions, &cursor))) assert_ok(catalog_settle(catalog, session));
}

static bool same_text(const struct buffer *a, const struct buffer *b)
{
  return span_equal(buffer_peek(a), buffer_peek(b));
}

// From two lines before the first difference on.
static void print_rest(const char *name, const struct buffer *text, size_t same)
{
  struct span bytes = buffer_peek(text);
  size_t start = same;
  for (unsigned lines = 0; start > 0 && lines < 3; start--)
    if (bytes.at[start - 1] == '\n') lines++;
  size_t size = bytes.size - start < 400 ? bytes.size - start : 400;
  printf("---- %s\n%.*s\n", name, (int)size, (const char *)bytes.at + start);
}

static void print_both(const struct buffer *model, const struct buffer *store)
{
  size_t same = 0;
  struct span a = buffer_peek(model), b = buffer_peek(store);
  while (same < a.size && same < b.size && a.at[same] == b.at[same]) same++;
  print_rest("model", model, same);
  print_rest("store", store, same);
}

void rig_check(struct rig *rig)
{
  struct buffer model = {0}, store = {0};
  settle_queues(rig->store);
  model_describe(&rig->model, &model);
  store_describe(rig->store, &store);
  if (!same_text(&model, &store)) {
    print_both(&model, &store);
    fail_msg("the store does not know what the model knows");
  }
  buffer_deinit(&model);
  buffer_deinit(&store);
}

static void apply_record(struct rig *rig, struct model *model, size_t index)
{
  const struct rig_record *record = &rig->history[index];
  model_apply(model, span_of(buffer_peek(&rig->records).at + record->offset, record->size));
}

void rig_check_prefix(struct rig *rig)
{
  struct buffer model_text = {0}, store_text = {0};
  settle_queues(rig->store);
  store_describe(rig->store, &store_text);
  struct model model;
  model_init(&model);
  for (size_t i = 0; i < rig->committed; i++) apply_record(rig, &model, i);
  size_t at = rig->committed;
  for (;; at++) {
    model_describe(&model, &model_text);
    if (same_text(&model_text, &store_text)) break;
    if (at == rig->count) {
      print_both(&model_text, &store_text);
      fail_msg("what was recovered is no state of the history: %zu records, %zu committed", rig->count, rig->committed);
    }
    apply_record(rig, &model, at);
  }
  model_deinit(&rig->model);
  rig->model = model;
  rig->count = at;
  rig->committed = at;
  rig->records.end = rig->records.start + (at ? rig->history[at - 1].offset + rig->history[at - 1].size : 0);
  buffer_deinit(&model_text);
  buffer_deinit(&store_text);
}

void rig_crash_blind(struct rig *rig, enum sim_crash how)
{
  rig_close(rig);
  sim_disk_crash(rig->disk, how, &rig->prng);
  rig_open(rig);
}

void rig_crash(struct rig *rig, enum sim_crash how)
{
  rig_crash_blind(rig, how);
  rig_check_prefix(rig);
}

void rig_survives(struct rig *rig, enum sim_crash how)
{
  rig_check(rig);
  rig_crash(rig, how);
  rig_check(rig);
}

struct store_counters rig_counters(struct rig *rig)
{
  struct store_counters counters;
  store_counters(rig->store, rig->now, &counters);
  return counters;
}
