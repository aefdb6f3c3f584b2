// All that the files of a configuration say about who comes in and what they may do: a gate for every listener that needs
// one, and the access control list. Read and checked before anything of it holds, and swapped as one. Used by the control
// thread, and by `skerry check`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "broker/config.h"
#include "broker/file_set.h"
#include "core/acl.h"
#include "net/gate.h"

enum { ENTRANCE_SECRET_SIZE = 32 };

struct entrance {
  struct gate **gates;  // one per listener, in the order of the configuration; NULL: it needs none, or (see `failed`) it
                        // could not be made
  bool *failed;  // the same: what its gate needs is wrong; reported
  size_t count;
  struct acl *acl;  // NULL: none is configured, or it is wrong
  bool acl_failed;
  struct file_set files;  // that were read, or tried
  uint64_t fingerprint;   // of how they looked just before
};

// What was read last, to go on with where neither files nor keys have changed: a certificate that has ended since does not
// keep a new password file out.
struct entrance_before {
  const struct config *config;
  const struct entrance *entrance;
  bool unasked;  // files have changed, and nobody has asked for a reload: what was refused stays so
};

// Reads and checks everything. All mistakes are in `diagnostics`, with the place in the configuration (`file` is its name,
// or NULL). ERR_INVALID when there is one: then what could be made is in `out` all the same, with its failed flags.
// entrance_deinit it in either case. `before`: or NULL. ERR_NO_MEMORY: the same, but not all files are in `out`.
CHECK_RESULT enum status entrance_build(const struct config *config, const char *file,
                                        const uint8_t secret[ENTRANCE_SECRET_SIZE], struct wall now,
                                        const struct entrance_before *before, struct entrance *out,
                                        struct diagnostics *diagnostics);
void entrance_deinit(struct entrance *entrance);  // a zeroed struct too

// Whether the configuration needs the security module, and so keeps secrets in memory.
bool entrance_has_secrets(const struct config *config);

// When the first certificate of a listener ends, wall milliseconds; 0: it has none.
int64_t entrance_end_ms(const struct entrance *entrance, size_t listener);

// The same of its CRLs, and when the one that ends first was issued.
int64_t entrance_crl_end_ms(const struct entrance *entrance, size_t listener, int64_t *out_issued_ms);
