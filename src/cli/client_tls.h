// The options of TLS, shared by the commands that connect to a broker, under the names that users know from mosquitto's
// clients, and what they become: a struct tls_client. Only for this is the security module loaded.
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "cli/options.h"
#include "tls/client.h"

// Zero it before parsing. All text lives as long as argv.
struct client_tls_options {
  bool wanted;  // --tls
  const char *cafile;
  const char *capath;
  const char *cert;
  const char *key;
  bool insecure;
  const char *psk_file;
  const char *psk_identity;
  const char *protocol;  // --tls-alpn
  enum tls_versions versions;
  bool versions_given;
};

struct option_section client_tls_section(struct client_tls_options *options);

// Whether any of them was given: then the connection is never a plain one.
bool client_tls_given(const struct client_tls_options *options);

// Whether they go together. ERR_INVALID.
CHECK_RESULT enum status client_tls_check(const struct client_tls_options *options, struct error *error);

// Reads the files. `protocol`: offered unless the user names another.
CHECK_RESULT enum status client_tls_load(const struct client_tls_options *options, const char *protocol,
                                         struct tls_client **out, struct error *error);

// To standard error, whatever else is to be quiet, when the broker's certificate is not checked.
void client_tls_warn(const struct client_tls_options *options, const char *command);
