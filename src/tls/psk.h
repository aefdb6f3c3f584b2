// Keys that devices and the broker share: a file of lines "identity:key in hex". Immutable.
#pragma once

#include "base/error.h"
#include "base/span.h"

struct psk_list;

enum { PSK_KEY_MIN = 16, PSK_KEY_MAX = 64, PSK_IDENTITY_MAX = 128 };  // bytes

// "#" begins a comment line. ERR_INVALID: the error says file, line, and what would be right. Names no key.
CHECK_RESULT enum status psk_load(const char *path, struct psk_list **out, struct error *error);
CHECK_RESULT enum status psk_parse(struct span text, const char *name, struct psk_list **out, struct error *error);
void psk_free(struct psk_list *list);  // wipes; NULL is harmless

// The key of an identity; size 0: there is none. The list's.
struct span psk_find(const struct psk_list *list, struct span identity);

// The identity of a list that has no other; size 0: it has several. The list's.
struct span psk_only(const struct psk_list *list);
