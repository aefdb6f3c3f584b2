// The broker's configuration: read from YAML, checked, compared for reload. Every key is a row of the table in
// config_schema.c, from which parsing, checks, help and docs/configuration.md come. Nothing here starts, opens or changes
// anything.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/span.h"
#include "broker/listen_address.h"
#include "core/limits.h"
#include "net/gate.h"

enum {
  CONFIG_MAX_FILE = 1 << 20,
  CONFIG_MAX_LISTENERS = 64,
  CONFIG_MAX_DIAGNOSTICS = 100,
  CONFIG_MAX_KEYS = 128,
  CONFIG_MAX_CERTIFICATES = 32,  // of one listener
};

// When what was acknowledged is safe: before it is acknowledged, soon afterwards, or as long as the process runs.
enum durability { DURABILITY_COMMIT, DURABILITY_INTERVAL, DURABILITY_MEMORY };

struct config_mark {
  uint32_t line;  // from 1; 0: not from a file
  uint32_t column;
};

// Which keys were written, and where; by row of the table.
struct config_origin {
  uint64_t given[CONFIG_MAX_KEYS / 64];
  struct config_mark marks[CONFIG_MAX_KEYS];
};

// What happens to a PUBLISH that a 3.1 or 3.1.1 client may not send: it is acknowledged and dropped, or its connection
// closed.
enum acl_denied { ACL_DENIED_ACKNOWLEDGE, ACL_DENIED_DISCONNECT };

enum tls_min_version { TLS_MIN_1_2, TLS_MIN_1_3 };

// A certificate with its key, for the clients that name its host (SNI).
struct config_certificate {
  char *cert, *key;
  char *ocsp;  // NULL: nothing is stapled
};

struct config_certificates {
  struct config_certificate *items;
  size_t count;
};

// Words of a list, by their place among the key's choices.
struct config_words {
  uint8_t items[AUTH_METHODS];
  uint8_t count;
};

// Access control: the path of a list, or the list itself.
struct config_acl {
  char *path;   // NULL: the list itself, or none
  char *rules;  // the configuration's text with all but the list blanked out, so that lines and columns stay; NULL: none
};

struct listener_config {
  struct listen_address address;
  char *name;  // NULL: its URL
  bool anonymous;
  bool proxy_protocol;
  bool ipv6_only;
  uint32_t mode;             // permissions of a Unix socket
  uint32_t max_connections;  // 0: only limits.connections counts
  // Those of the broker where the listener does not have its own, after config_load.
  struct limits limits;
  uint32_t connection_rate;
  uint32_t connections_per_address;
  bool has_tls;  // after config_load
  struct {
    struct config_certificate main;           // of clients that name no host; NULLs: there is none
    struct config_certificates certificates;  // further ones
    char *client_ca;
    char *crl;
    char *psk;  // NULL: auth.psk
    enum tls_client_cert client_cert;
    enum tls_min_version min_version;
    enum tls_profile profile;
  } tls;
  struct config_words auth;  // enum auth_method
  char *identity;
  char *passwords;  // NULL: auth.passwords
  struct config_origin origin;
  struct config_mark mark;  // where it was written
};

// All texts are on the heap and belong to the struct. NULL texts mean "not set". Paths of what a broker only reads, and of
// the control socket, are absolute or relative to the working directory after config_load; in the file they are relative to
// the file's directory.
struct config {
  struct {
    char *id;
    char *data;
    char *user;       // to become after binding; NULL: stay who started it
    uint32_t shards;  // 0: by the number of cores, see config_shards
    uint64_t memory_limit_bytes;
  } broker;
  struct listener_config *listeners;  // at least one after config_load
  size_t listener_count;
  struct limits limits;              // of one shard's sessions
  uint32_t connections;              // limits.connections
  uint32_t connection_rate;          // limits.connection_rate: new ones per second and listener; 0: no limit
  uint32_t connections_per_address;  // the same of open ones, for each listener
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
  struct {
    char *passwords;
    char *psk;
    struct {
      char *jwks;
      char *issuer;    // NULL: any
      char *audience;  // NULL: any
      char *username;  // claim
      char *groups;    // claim
      uint32_t leeway_s;
    } jwt;
  } auth;
  struct config_acl acl;
  char *acl_shadow;  // path of a list on trial; NULL: none
  enum acl_denied acl_denied;
  struct {
    char *socket;  // path; NULL: no control socket
    uint32_t mode;
  } control;
  struct config_origin origin;  // not of the listeners' keys
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

// Reads, checks and completes a configuration. OK: `out` is filled; config_deinit it. ERR_INVALID (or the reason why the
// file cannot be read): all mistakes that were found are in `diagnostics`, which may hold some from earlier calls.
CHECK_RESULT enum status config_load(const struct config_source *source, struct config *out,
                                     struct diagnostics *diagnostics);

// The same for text in memory; source->file is its name in messages.
CHECK_RESULT enum status config_load_text(struct span text, const struct config_source *source, struct config *out,
                                          struct diagnostics *diagnostics);

// What is allowed and probably not meant in a configuration that was loaded, such as passwords that travel in clear; as in
// `diagnostics` above, with "warning: " behind the key.
void config_warn(const struct config *config, const char *file, struct diagnostics *out);

// A zeroed struct, and one whose loading failed, may be deinitialised too.
void config_deinit(struct config *config);

// How many shards to run on a machine with this many cores: as configured, or 1 up to two cores (a hop between threads costs
// more than it gains), then one less than there are cores, at most 4.
uint32_t config_shards(const struct config *config, uint32_t cores);

// Whether the listener lets clients in by this method.
bool config_has_method(const struct listener_config *listener, enum auth_method method);

// Its name for rules and logs.
const char *config_listener_name(const struct listener_config *listener);

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
