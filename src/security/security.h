// The part of Skerry that needs OpenSSL, libsodium and jansson (src/tls, and of src/auth passwords, enhanced and jwt) is a
// shared module, skerry-security.so: a broker without any security configured pays neither memory nor start-up time for
// these libraries. Everyone calls the ordinary functions of tls/*.h and auth/*.h; in the `skerry` executable
// security/forward.c hands the calls on.
#pragma once

#include "base/error.h"

// Loads the module, once; further calls do nothing. The functions that read files (tls_credentials_load, passwords_load,
// jwt_keys_load ...) do it by themselves; call this before rights or the root directory are given up. Any thread.
// ERR_NOT_FOUND: it is missing or cannot be loaded; ERR_INVALID: it is of another version of Skerry. The error says which
// file, and what to install.
CHECK_RESULT enum status security_load(struct error *error);
