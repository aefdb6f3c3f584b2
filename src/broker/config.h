// The broker's configuration: read from YAML, checked, compared for reload. Every key is a row of the table in config_schema.c,
// from which parsing, checks, help and docs/configuration.md come. Nothing here starts, opens or changes anything.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/span.h"
#include "broker/listen_address.h"
#include "core/limits.h"

enum { CONFIG_MAX_FILE = 1 << 20, CONFIG_MAX_LISTENERS = 64, CONFIG_MAX_DIAGNOSTICS = 100, CONFIG_MAX_KEYS = 64 };

// When what was acknowledged is safe: before it is acknowledged, soon afterwards, or as long as the process runs.
enum durability { DURABILITY_COMMIT, DURABILITY_INTERVAL, DURABILITY_MEMORY };

struct config_mark {
  uint32_t line;  // from 1; 0: not from a file
  uint32_t column;
};

struct listener_config {
  struct listen_address address;
  bool anonymous;
  bool proxy_protocol;
  bool ipv6_only;
  uint32_t mode;             // permissions of a Unix socket
  uint32_t max_connections;  // 0: only limits.connections counts
  uint64_t given;            // bit per row of the table: the key was written
  struct config_mark mark;   // where it was written
};

// All texts are on the heap and belong to the struct. NULL texts mean "not set".
struct config {
  struct {
    char *id;
    char *data;
    uint32_t shards;  // 0: by the number of cores, see config_shards
    uint64_t memory_limit_bytes;
  } broker;
  struct listener_config *listeners;  // at least one after config_load
  size_t listener_count;
  struct limits limits;      // of one shard's sessions
  uint32_t connections;      // limits.connections
  uint32_t connection_rate;  // limits.connection_rate: new ones per second and listener; 0: no limit
  struct {
    enum durability durability;  // as written; see config_has_journal
    uint32_t interval_ms;        // between two syncs, with DURABILITY_INTERVAL
    uint64_t segment_bytes;
    uint64_t limit_bytes;    // of all files of the journal
    uint64_t reserve_bytes;  // of these, preallocated and kept free
    uint64_t replay_bytes;
  } journal;
  struct {
    struct listen_address listen;  // text NULL: no metrics
  } metrics;
  struct {
    uint32_t interval_s;  // 0: no $SYS
  } sys;
  struct {
    enum log_level level;
    enum log_format format;
  } log;
  uint64_t given;                             // bit per row of the table: the key was written (not those of listeners)
  struct config_mark marks[CONFIG_MAX_KEYS];  // by row: where it was written in the file
};

// ---- Messages

// What is wrong, one line each: "broker.yaml:7:3: limits.conections: unknown key; did you mean "connections"?".
// A zeroed struct is empty. At most CONFIG_MAX_DIAGNOSTICS; then `more` is set.
struct diagnostics {
  char **texts;
  size_t count;
  bool more;
};

void diagnostics_deinit(struct diagnostics *diagnostics);

// ---- Loading

// Where a configuration comes from; later ones override earlier ones. All may be NULL or 0. Borrowed.
struct config_source {
  const char *file;             // NULL: the defaults, a loopback listener on 1883
  const char *const *settings;  // "limits.connections=100", "listeners[0].anonymous=false"; as --set takes them
  size_t setting_count;
  const char *const *listen;  // URLs that replace the file's listeners; as --listen takes them
  size_t listen_count;
};

// Reads, checks and completes a configuration. OK: `out` is filled; config_deinit it. ERR_INVALID (or the reason why the file
// cannot be read): all mistakes that were found are in `diagnostics`, which may hold some from earlier calls.
CHECK_RESULT enum status config_load(const struct config_source *source, struct config *out,
                                     struct diagnostics *diagnostics);

// The same for text in memory; source->file is its name in messages.
CHECK_RESULT enum status config_load_text(struct span text, const struct config_source *source, struct config *out,
                                          struct diagnostics *diagnostics);

// A zeroed struct, and one whose loading failed, may be deinitialised too.
void config_deinit(struct config *config);

// How many shards to run on a machine with this many cores: as configured, or 1 up to two cores (a hop between threads costs
// more than it gains), then one less than there are cores, at most 4.
uint32_t config_shards(const struct config *config, uint32_t cores);

// Whether the broker keeps a journal: there is a directory for it, and durability is not `memory`.
bool config_has_journal(const struct config *config);

// ---- Reload

struct config_change {
  char *path;    // "limits.connections", "listeners[mqtt://127.0.0.1:1883].anonymous", "listeners[unix:///run/x.sock]"
  char *before;  // NULL: was not there (a new listener)
  char *after;   // NULL: is gone
  bool reloadable;
};

struct config_changes {
  struct config_change *items;
  size_t count;
  size_t needs_restart;  // how many of them are not reloadable; a reload is all or nothing
};

// What differs. Listeners are the same when their address is. ERR_NO_MEMORY leaves `out` untouched.
CHECK_RESULT enum status config_diff(const struct config *before, const struct config *after, struct config_changes *out);
void config_changes_deinit(struct config_changes *changes);
