// Names and passwords as SCRAM compares them. Source: RFC 4013 (SASLprep), RFC 3454.
//
// ASCII is prepared exactly: it stays as it is, control characters are refused. Beyond ASCII, other spaces become U+0020,
// what RFC 3454 B.1 maps to nothing is left out, and what C.1.2 to C.9 prohibit is refused. The normalisation (NFKC) and the
// check of right-to-left text are left to whoever types: text is expected to be normalised already, as keyboards and editors
// make it; where two ends prepare differently the proof does not fit and the client is refused.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

// Writes at most text.size bytes to `out`. False: not UTF-8, or a character that is prohibited.
bool saslprep(struct span text, uint8_t *out, size_t *out_size);
