// Where the broker keeps what has to survive a restart: its directory, and the store in it. Used by the control thread.
#pragma once

#include "broker/config.h"
#include "broker/log_output.h"
#include "store/store.h"

struct storage {
  struct disk *disk;
  struct store *store;  // NULL: everything is kept in memory
  struct log_origin origin;
  struct log log;  // the store's, on whatever thread it is
};

// Opens the journal if there is to be one. The errors name the directory, and say what to do.
CHECK_RESULT enum status storage_open(const struct config *config, struct log_output *output, struct storage *out,
                                      struct error *error);
void storage_close(struct storage *storage);  // one that is not open, too

// The events "storage" and, behind store_restore, "journal_opened".
void storage_log(const struct config *config, const struct storage *storage, struct log *log);
void storage_log_opened(const struct storage *storage, struct log *log, uint64_t took_ms);
