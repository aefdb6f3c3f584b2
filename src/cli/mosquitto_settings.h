// What a mosquitto.conf says: its directives, each at its place. Every directive that Mosquitto knows is a row of the
// table in mosquitto_directives.c, which also says what becomes of it. Pure.
#pragma once

#include "cli/mosquitto_conf.h"

enum { MOSQUITTO_MAX_LISTENERS = 64 };

// A directive that was given. Zeroed: it was not.
struct mosquitto_setting {
  const struct mosquitto_line *line;  // NULL: not given
  long long number;                   // of a number, or a bool
};

// Texts are the line's value.
static inline const char *mosquitto_text(struct mosquitto_setting setting)
{
  return setting.line ? setting.line->value : NULL;
}

static inline bool mosquitto_true(struct mosquitto_setting setting)
{
  return setting.line && setting.number != 0;
}

// Who may come in, and do what: of all listeners, or with per_listener_settings of one.
struct mosquitto_security {
  struct mosquitto_setting allow_anonymous, password_file, acl_file, psk_file;
};

struct mosquitto_listener {
  const struct mosquitto_line *line;  // NULL: the default listener
  bool opened;                        // the default listener: something asks for it
  bool local_only;                    // there is nothing but this default listener, for this machine alone
  uint16_t port;
  char *host;  // heap; of a Unix socket the path; NULL: every address
  bool unix_socket;
  struct mosquitto_setting bind_address, port_given, protocol, socket_domain, max_connections, max_topic_alias;
  struct mosquitto_setting cafile, capath, certfile, keyfile, crlfile, require_certificate, use_identity, tls_version;
  struct mosquitto_setting ciphers, ciphers_13, psk_hint;
  struct mosquitto_security security;  // with per_listener_settings
};

struct mosquitto_settings {
  struct mosquitto_setting per_listener;
  struct mosquitto_security security;  // without per_listener_settings
  struct mosquitto_setting persistence, persistence_location, expiration, in_flight, queued_messages, queued_bytes;
  struct mosquitto_setting message_size, packet_size, keep_alive, memory_limit, connections, sys_interval, user;
  struct mosquitto_setting check_retain_source;
  unsigned log_types;  // enum mosquitto_log, or-ed; 0: not given
  // The default listener first. Those that are there: mosquitto_listener_used.
  struct mosquitto_listener listeners[MOSQUITTO_MAX_LISTENERS + 1];
  size_t listener_count;
};

enum mosquitto_log { MOSQUITTO_LOG_ERROR = 1, MOSQUITTO_LOG_WARNING = 2, MOSQUITTO_LOG_INFO = 4, MOSQUITTO_LOG_DEBUG = 8 };

// Sorts the lines of `conf` into settings, and adds a finding for each that is wrong or cannot be carried over. Settings
// point into `conf`.
void mosquitto_settings_read(struct mosquitto_conf *conf, struct mosquitto_settings *out);
void mosquitto_settings_deinit(struct mosquitto_settings *settings);

static inline bool mosquitto_listener_used(const struct mosquitto_listener *listener)
{
  return listener->line || listener->opened || listener->local_only;
}

// ---- The table of directives

enum mosquitto_fate {
  DIRECTIVE_TAKEN,    // carried over: it has a place in the settings
  DIRECTIVE_IDLE,     // meaningless here
  DIRECTIVE_LOST,     // cannot be carried over
  DIRECTIVE_REFUSED,  // cannot be carried over, and the broker would be less safe without it
  DIRECTIVE_BRIDGE,   // of a bridge
};

// Where its place is, counted from the start of that struct.
// SCOPE_FIRST: of the default listener, wherever it stands.
enum mosquitto_scope { SCOPE_GLOBAL, SCOPE_LISTENER, SCOPE_FIRST, SCOPE_SECURITY };

enum mosquitto_kind { KIND_TEXT, KIND_BOOL, KIND_NUMBER, KIND_OWN };

struct mosquitto_directive {
  const char *name;  // a '*' at its end stands for any end
  enum mosquitto_fate fate;
  enum mosquitto_kind kind;
  enum mosquitto_scope scope;
  size_t offset;
  long long minimum, maximum;  // of a number; maximum 0: that of 32 bits
  const char *opens;           // before any listener, a value other than this opens the default listener; NULL: none does
  const char *harmless;        // LOST and REFUSED: with this value there is nothing to lose
  const char *why;             // all but TAKEN
};

extern const struct mosquitto_directive mosquitto_directives[];
extern const size_t mosquitto_directive_count;
