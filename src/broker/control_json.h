// The JSON of the control socket: objects of texts, numbers and truth values, a line each, written and read. What is nested
// in an object is skipped over by the reader.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"

// ---- Writing. `failed` is set when memory is short; further calls are harmless then.

struct control_json {
  struct buffer *out;
  bool comma;  // a value stands before
  bool failed;
};

void control_json_open(struct control_json *json, const char *name, char bracket);  // '{' or '['; name NULL: none
void control_json_close(struct control_json *json, char bracket);                   // '}' or ']'
void control_json_text(struct control_json *json, const char *name, const char *value);
void control_json_number(struct control_json *json, const char *name, int64_t value);
void control_json_truth(struct control_json *json, const char *name, bool value);

// ---- Reading

enum control_json_kind {
  CONTROL_JSON_TEXT,
  CONTROL_JSON_NUMBER,
  CONTROL_JSON_TRUTH,
  CONTROL_JSON_NULL,
  CONTROL_JSON_NESTED
};

struct control_json_member {
  struct span name;   // as it is written, without the quotes
  struct span value;  // the same; of a nested value all of it
  enum control_json_kind kind;
};

// Whether the text is one object, at most 16 deep, with white space around it at most. `take` is called for each of its
// members.
bool control_json_read(struct span text, void (*take)(void *context, const struct control_json_member *member),
                       void *context);

// The text of a member of that kind, NUL-terminated, with escapes replaced. False when it does not fit or holds a NUL.
bool control_json_unescape(struct span value, char *out, size_t size);
