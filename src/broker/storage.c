#include "broker/storage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "broker/now.h"

static enum status open_store(const struct config *config, const char *path, struct storage *storage, struct error *error)
{
  enum status status = disk_posix_open(path, true, true, &storage->disk, error);
  if (status != OK) return status;
  struct store_settings settings = {.disk = storage->disk,
                                    .log = &storage->log,
                                    .broker_id = config->broker.id,
                                    .segment_bytes = config->journal.segment_bytes,
                                    .limit_bytes = config->journal.limit_bytes,
                                    .reserve_bytes = config->journal.reserve_bytes,
                                    .replay_bytes = config->journal.replay_bytes};
  if (getrandom(settings.identity, sizeof settings.identity, 0) != sizeof settings.identity)
    return error_set(error, ERR_IO, "no random numbers: %s", strerror(errno));
  return store_open(&settings, broker_now(), broker_wall(), &storage->store, error);
}

enum status storage_open(const struct config *config, struct log_output *output, struct storage *out, struct error *error)
{
  *out = (struct storage){.origin = {.output = output, .shard = -1}};
  log_init(&out->log, log_output_write, &out->origin, config->log.level);
  if (!config_has_journal(config)) return OK;
  char *path = NULL;
  if (asprintf(&path, "%s/journal", config->broker.data) < 0) return error_set(error, ERR_NO_MEMORY, "out of memory");
  enum status status = open_store(config, path, out, error);
  free(path);
  if (status == OK) return OK;
  storage_close(out);
  return error_prefix(error, "broker.data %s", config->broker.data);
}

void storage_close(struct storage *storage)
{
  if (storage->store) store_close(storage->store);
  disk_destroy(storage->disk);
  storage->store = NULL;
  storage->disk = NULL;
}

void storage_log(const struct config *config, const struct storage *storage, struct log *log)
{
  const char *data = config->broker.data ? config->broker.data : "";
  if (storage->store) {
    bool commit = config->journal.durability == DURABILITY_COMMIT;
    LOG(log, broker_now(), LOG_INFO, "storage", FIELD_TEXT("kind", "journal"), FIELD_TEXT("data", data),
        FIELD_TEXT("durability", commit ? "commit" : "interval"));
    return;
  }
  LOG(log, broker_now(), LOG_INFO, "storage", FIELD_TEXT("kind", "memory"), FIELD_TEXT("data", data),
      FIELD_TEXT("detail", config->broker.data
                               ? "journal.durability is memory: a stop forgets sessions and retained messages"
                               : "no broker.data is set: a stop forgets sessions and retained messages"));
}

void storage_log_opened(const struct storage *storage, struct log *log, uint64_t took_ms)
{
  if (!storage->store) return;
  struct store_counters counters = {0};
  store_counters(storage->store, broker_now(), &counters);
  LOG(log, broker_now(), LOG_INFO, "journal_opened", FIELD_UINT("segments", counters.segments),
      FIELD_UINT("bytes", counters.bytes), FIELD_UINT("replayed_bytes", counters.replayed_bytes),
      FIELD_UINT("sessions", counters.queues), FIELD_UINT("queued", counters.queued),
      FIELD_UINT("retained", counters.retained), FIELD_UINT("torn_bytes", counters.torn_bytes),
      FIELD_UINT("damaged_records", counters.damaged_records), FIELD_UINT("ms", took_ms));
}
