// What OpenSSL has to say, in words.
#pragma once

#include <stddef.h>

// The reason of the oldest error in this thread's queue, static: "no start line". Empties the queue. `otherwise` when there
// is none.
const char *openssl_reason(const char *otherwise);
