// The options that all commands share which connect to a broker, under the names that users know from mosquitto's clients,
// and how they become settings of a client.
#pragma once

#include "base/error.h"
#include "cli/client.h"
#include "cli/client_tls.h"
#include "cli/options.h"
#include "cli/properties.h"
#include "cli/url.h"

// Zero it but for the command before parsing. It must outlive the client that is made from it.
struct client_options {
  const char *command;  // "sub": names generated client identifiers
  const char *host;
  uint64_t port;  // 0: not given
  const char *unix_path;
  struct url url;  // of -L; memory is NULL when not given
  const char *client_id;
  const char *id_prefix;
  const char *user_name;
  const char *password;
  const char *password_file;
  char *password_read;  // heap: from the file
  struct client_tls_options tls;
  struct tls_client *tls_client;  // NULL: none, or not loaded
  enum mqtt_version version;      // 0: not given
  uint64_t keep_alive_s;
  bool keep_alive_given;
  bool keep_session;  // -c
  bool session_expiry_given;
  uint32_t session_expiry_s;
  uint64_t in_flight;
  bool debug;
  bool quiet;
  const char *will_topic;
  const char *will_payload;
  uint64_t will_qos;
  bool will_retain;
  bool will_delay_given;
  uint32_t will_delay_s;
  bool property_given;
  struct property_sets properties;
  char id[128];  // the identifier that is used when it is made here
};

struct option_section client_connection_section(struct client_options *options);
struct option_section client_session_section(struct client_options *options);
struct option_section client_will_section(struct client_options *options);

// Checks that the options go together and fills the settings. reconnect, retry_first and discard_session are left to the
// caller. ERR_INVALID with a text.
CHECK_RESULT enum status client_options_settings(struct client_options *options, struct client_settings *out_settings,
                                                 struct error *error);

// Reads the files that the options name, of TLS and of the password, into the settings. Loads the security module when the
// broker is to be reached with TLS.
CHECK_RESULT enum status client_options_read(struct client_options *options, struct client_settings *settings,
                                             struct error *error);

void client_options_deinit(struct client_options *options);

// What -L and -V name, for commands with options of their own too. ERR_INVALID leaves all as it was; else what *url held is
// let go of first.
CHECK_RESULT enum status client_read_url(const char *text, struct url *url, struct error *error);
CHECK_RESULT enum status client_read_version(const char *text, enum mqtt_version *out, struct error *error);

// The first line of a file. *out: heap.
CHECK_RESULT enum status client_read_password(const char *path, char **out, struct error *error);

// "127.0.0.1:1883", "mqtts://gateway:8883", "/run/broker.sock": for people. Writes at most `size` bytes with the NUL.
void client_options_describe(const struct client_settings *settings, char *out, size_t size);
