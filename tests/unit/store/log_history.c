#include "log_history.h"

#include "store/store_batch.h"

void history_init_on(struct history *history, uint64_t seed, struct disk *disk)
{
  *history = (struct history){
      .disk = disk,
      .settings = {.disk = disk, .segment_bytes = 4096, .limit_bytes = 1 << 30, .identity = "an identity 123"},
      .next = 1,
      .safe_sequence = 1,
      .largest = 200,
      .seed = seed,
  };
  prng_seed(&history->prng, seed);
}

void history_init(struct history *history, uint64_t seed, const struct sim_disk_settings *disk)
{
  struct sim_disk_settings settings = disk ? *disk : (struct sim_disk_settings){0};
  prng_seed(&settings.prng, seed);
  history_init_on(history, seed, sim_disk_create(&settings));
}

void history_deinit(struct history *history)
{
  history_close(history);
  disk_destroy(history->disk);
}

struct history history_copy(const struct history *history)
{
  struct history copy = *history;
  copy.disk = copy.settings.disk = sim_disk_clone(history->disk);
  copy.log = NULL;
  return copy;
}

int make_history(void **state)
{
  struct history *history = malloc(sizeof *history);
  assert_non_null(history);
  history_init(history, 1, NULL);
  *state = history;
  return 0;
}

int free_history(void **state)
{
  history_deinit(*state);
  free(*state);
  return 0;
}

void segment_name(char out[32], unsigned number)
{
  snprintf(out, 32, "%010u.segment", number);
}

uint32_t history_body_size(const struct history *history, uint64_t number)
{
  return 8 + (uint32_t)((number * 2654435761u) % (history->largest - 8));
}

static void fill(uint8_t *out, uint64_t number, uint32_t size)
{
  record_write_u64(out, number);
  for (uint32_t i = 8; i < size; i++) out[i] = (uint8_t)(1 + (number * 31 + i * 7) % 255);  // no zeros: all of it matters
}

static bool see_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct seen *seen = context;
  if (position == 0 || position % RECORD_ALIGN != 0 || record_sequence(header) <= seen->last_sequence) seen->wrong = true;
  seen->last_sequence = record_sequence(header);
  if (record_type(header) == RECORD_BATCH) {
    seen->batches++;
    return true;
  }
  struct record_reader reader = {.rest = body};
  uint64_t number = record_read_u64(&reader);
  uint8_t *expected = malloc(body.size);
  assert_non_null(expected);
  fill(expected, number, (uint32_t)body.size);
  if (body.size < 8 || memcmp(expected, body.at, body.size) != 0 || number <= seen->last) seen->wrong = true;
  free(expected);
  if (seen->count > 0) seen->gaps += number - seen->last - 1;
  if (seen->count++ == 0) seen->first = number;
  seen->last = number;
  return true;
}

static void see_damage(void *context, const struct log_damage *damage)
{
  struct seen *seen = context;
  if (damage->torn)
    seen->torn++;
  else
    seen->damages++;
  seen->sequences_lost += damage->sequences_lost;
}

enum status history_scan(struct history *history, uint64_t from)
{
  history->seen = (struct seen){0};
  const struct log_reader reader = {.context = &history->seen, .record = see_record, .damage = see_damage};
  return journal_log_scan(history->log, from, &reader);
}

enum status history_try_open(struct history *history)
{
  struct error error;
  enum status status = journal_log_open(&history->settings, &history->log, &error);
  if (status) return status;
  status = history_scan(history, 0);
  if (status == OK && !history->settings.read_only) status = journal_log_start(history->log, &error);
  if (status) {
    journal_log_close(history->log);
    history->log = NULL;
    return status;
  }
  history->next = history->seen.last + 1;
  if (!history->settings.read_only) history->safe_sequence = journal_log_sequence(history->log);
  return OK;
}

void history_open(struct history *history)
{
  assert_ok(history_try_open(history));
  assert_false(history->seen.wrong);
}

void history_close(struct history *history)
{
  journal_log_close(history->log);
  history->log = NULL;
}

void history_reopen(struct history *history)
{
  history_close(history);
  history_open(history);
}

void history_crash(struct history *history, enum sim_crash how)
{
  history_close(history);
  sim_disk_crash(history->disk, how, &history->prng);
  history_open(history);
}

static void put_record(struct buffer *buffer, enum record_type type, const uint8_t *body, uint32_t size)
{
  size_t length = (size_t)record_length(size);
  uint8_t *at = buffer_reserve(buffer, length);
  assert_non_null(at);
  memset(at, 0, length);
  record_write_u32(at + 4, size);
  record_write_u64(at + 8, (uint64_t)type << RECORD_SEQUENCE_BITS);
  memcpy(at + 16, body, size);
  buffer_commit(buffer, length);
}

static void put_round(struct history *history, struct buffer *buffer, unsigned count)
{
  uint8_t batch[STORE_BATCH_SIZE] = {0};
  record_write_u64(batch + 16, history->safe_sequence);
  put_record(buffer, RECORD_BATCH, batch, sizeof batch);
  for (unsigned i = 0; i < count; i++) {
    uint64_t number = history->next + i;
    uint32_t size = history_body_size(history, number);
    uint8_t *body = malloc(size);
    assert_non_null(body);
    fill(body, number, size);
    put_record(buffer, RECORD_MESSAGE, body, size);
    free(body);
  }
}

static void note_positions(struct history *history, const struct buffer *buffer, size_t size, uint64_t position)
{
  const uint8_t *at = buffer->data + buffer->start;
  for (size_t done = 0; history->positions && done < size;) {
    uint32_t body_size;
    memcpy(&body_size, at + done + 4, sizeof body_size);
    uint64_t number;
    memcpy(&number, at + done + 16, sizeof number);
    if (at[done + 15] == RECORD_MESSAGE) history->positions[number] = position + done;
    done += record_length(body_size);
  }
}

enum status history_round(struct history *history, unsigned count)
{
  struct buffer buffer = {0};
  put_round(history, &buffer, count);
  enum status status = OK;
  uint64_t sequence = journal_log_sequence(history->log);
  while (buffer_size(&buffer) > 0 && status == OK) {
    size_t size = 0;
    uint64_t position = 0;
    status = journal_log_append(history->log, buffer.data + buffer.start, buffer_size(&buffer), &size, &position);
    if (status) break;
    note_positions(history, &buffer, size, position);
    buffer_consume(&buffer, size);
  }
  if (status == OK) status = journal_log_sync(history->log);
  buffer_deinit(&buffer);
  if (status) {
    assert_int_equal(journal_log_sequence(history->log), sequence);
    return status;
  }
  assert_int_equal(journal_log_sequence(history->log), sequence + count + 1);
  history->next += count;
  history->committed = history->next - 1;
  history->safe_sequence = journal_log_sequence(history->log);
  return OK;
}

void history_rounds(struct history *history, unsigned rounds, unsigned count)
{
  for (unsigned i = 0; i < rounds; i++) assert_ok(history_round(history, count));
}
