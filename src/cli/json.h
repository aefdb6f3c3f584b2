// Writing JSON by hand into a buffer, and checking that bytes are JSON. The one place where text is escaped for JSON.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"

// A writer puts commas where they belong. Running out of memory makes all further calls harmless; ask `failed` at the end.
struct json {
  struct buffer *out;  // the caller's
  bool comma;          // a value was written in the current object or array
  bool failed;
};

void json_begin(struct json *json, struct buffer *out);

void json_open_object(struct json *json);
void json_close_object(struct json *json);
void json_open_array(struct json *json);
void json_close_array(struct json *json);

// A member's name; exactly one value or object or array must follow.
void json_key(struct json *json, const char *key);

// The bytes must be UTF-8 to give valid JSON; what is not is written as U+FFFD, one for each byte.
void json_text(struct json *json, struct span text);
void json_uint(struct json *json, uint64_t value);
void json_int(struct json *json, int64_t value);
void json_bool(struct json *json, bool value);
// Rounded to that many decimals, trailing zeros dropped; null when it is not finite.
void json_number(struct json *json, double value, unsigned decimals);
// Base64 (RFC 4648 section 4) in quotes.
void json_base64(struct json *json, struct span bytes);
// Bytes that are a JSON value already.
void json_raw(struct json *json, struct span value);

// A name and its value.
void json_member_text(struct json *json, const char *key, struct span text);
void json_member_uint(struct json *json, const char *key, uint64_t value);
void json_member_int(struct json *json, const char *key, int64_t value);
void json_member_bool(struct json *json, const char *key, bool value);
void json_member_number(struct json *json, const char *key, double value, unsigned decimals);

// Whether the bytes are exactly one JSON value (RFC 8259) in UTF-8, nested at most 64 deep. White space around it is
// allowed.
bool json_valid(struct span text);
