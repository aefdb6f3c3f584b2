// "Did you mean ...?": the known name that is nearest to a mistyped one.
#pragma once

#include <stddef.h>

// Edits (insert, remove, replace, swap of neighbours) between two words, ASCII case ignored; words are compared up to 63
// bytes.
unsigned edit_distance(const char *a, const char *b);

// The candidate that is nearest to `word`, or NULL when none is near enough to be meant: at most two edits, and at most a
// third of the word's length rounded up. NULL candidates are skipped. The result is one of the candidates.
const char *nearest_name(const char *word, const char *const *candidates, size_t count);
