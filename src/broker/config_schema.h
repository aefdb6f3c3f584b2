// The table of all keys, and what its rows can do. Internal to the configuration.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "broker/config.h"

enum config_type {
  CONFIG_STRING,        // char *
  CONFIG_BOOL,          // bool
  CONFIG_INTEGER,       // unsigned, any width
  CONFIG_SIZE,          // unsigned bytes, any width: 512, 64KiB, 1MiB, 2GiB
  CONFIG_DURATION,      // unsigned, any width, in units of `unit_ms`: 500ms, 10s, 5m, 1h, 7d, 1h30m
  CONFIG_CHOICE,        // an enum: one word of `choices`
  CONFIG_MODE,          // unsigned: octal permissions
  CONFIG_URL,           // struct listen_address, a listener's URL
  CONFIG_HOST_PORT,     // struct listen_address
  CONFIG_PATH,          // char *, of a file; relative ones belong to the directory of the configuration's file
  CONFIG_WORDS,         // struct config_words: a list of words of `choices`, each once
  CONFIG_CERTIFICATES,  // struct config_certificates
  CONFIG_ACL,           // struct config_acl: a path, or a list of rules
};

struct config_key {
  const char
      *section;  // "limits"; "listeners" for the keys of each of its items; "" for those that stand at the top themselves
  const char *name;  // "packet_size"; with dots for what stands in mappings: "tls.cert" is {tls: {cert: ...}}
  enum config_type type;
  bool reloadable;
  uint8_t width;     // bytes of the field
  uint32_t unit_ms;  // durations
  size_t offset;     // in struct config, or in struct listener_config
  uint64_t minimum;  // in the field's unit; for texts in bytes
  uint64_t maximum;
  const char *special_word;  // a word that stands for `special_value`, which need not be in the range
  uint64_t special_value;
  const char *const *choices;  // NULL-terminated, in the order of the enum
  const char *forbidden;       // strings: characters that must not occur
  const char *default_text;    // as it would be written; NULL: not set, or `default_note` says how it is found
  const char *default_note;
  const char *example;  // for messages; NULL: the default
  const char *help;
};

enum { CONFIG_NAME_SIZE = 64, CONFIG_NUMBER_SIZE = 32 };

struct config_section {
  const char *name;
  bool list;
  const char *help;
};

extern const struct config_section config_sections[];
extern const size_t config_section_count;
extern const struct config_key config_keys[];
extern const size_t config_key_count;  // at most CONFIG_MAX_KEYS

// The front of a path, "limits" of "limits.connections", cut when it is longer than any section's name. Returns its length
// in the path.
size_t config_section_of(const char *path, char out[CONFIG_NAME_SIZE]);

const struct config_section *config_find_section(const char *name);
const struct config_key *config_find_key(const char *section, const char *name);

// The first key whose name begins with this one and a dot.
const struct config_key *config_find_group(const char *section, const char *name);

static inline bool config_given(const struct config_origin *origin, const struct config_key *key)
{
  size_t row = (size_t)(key - config_keys);
  return origin->given[row / 64] >> row % 64 & 1;
}

static inline void config_set_given(struct config_origin *origin, const struct config_key *key, struct config_mark mark)
{
  size_t row = (size_t)(key - config_keys);
  origin->given[row / 64] |= UINT64_C(1) << row % 64;
  origin->marks[row] = mark;
}

// Whether it is a limit that a listener has instead of the broker's when it is given.
bool config_is_listener_limit(const struct config_key *key);

// "limits.packet_size", "listeners[].tls.cert", "acl"; for people.
void config_key_path(const struct config_key *key, char *out, size_t size);

// `object` is the struct that holds the field: a config or a listener_config.

// Parses `text` and stores it. On failure the field keeps its value and the error says what is wrong and what would be
// right.
CHECK_RESULT enum status config_value_parse(const struct config_key *key, const char *text, void *object,
                                            struct error *error);

// The value as it would be written, cut to `size`; "" when it is not set.
void config_value_format(const struct config_key *key, const void *object, char *out, size_t size);

// "64KiB": in the largest unit of which it is a whole number.
void config_format_size(uint64_t bytes, char *out, size_t size);
bool config_value_equal(const struct config_key *key, const void *a, const void *b);
void config_value_deinit(const struct config_key *key, void *object);

// "a size from 256 to 256MiB", for messages and help.
void config_value_expected(const struct config_key *key, char *out, size_t size);

// Sets all fields of a section's keys to their defaults, where they have one. ERR_NO_MEMORY.
CHECK_RESULT enum status config_set_defaults(bool listener, void *object);

// ---- Messages (config_diagnostics.c)

// Adds a message, its place before it when `mark` is from a file. False when it is one too many, or memory is short.
bool diagnostics_add(struct diagnostics *diagnostics, const char *file, struct config_mark mark, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// A configuration that is looked over.
struct checker {
  const char *file;
  struct diagnostics *diagnostics;
  bool failed;
};

// Complains about a listener's key, at its place or else at the listener's.
void config_complain(struct checker *checker, const struct listener_config *listener, size_t index, const char *key,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));

// ---- The struct (config.c)

// The configuration with defaults and no listener. config_deinit it, also after a failure.
CHECK_RESULT enum status config_init(struct config *config);

// Appends a listener with its defaults; NULL when there are CONFIG_MAX_LISTENERS or memory is short.
struct listener_config *config_add_listener(struct config *config);
void config_clear_listeners(struct config *config);

// Sets one key by its path, as --set does. An index equal to the number of listeners appends one.
CHECK_RESULT enum status config_set(struct config *config, const char *path, const char *value, struct error *error);

// ---- Checks of several keys together

// Fills in what depends on other keys, and checks what needs more than one key (config_check.c). False when something is
// wrong.
bool config_complete(struct config *config, const char *file, struct diagnostics *diagnostics);

// Checks what makes a listener safe or open: TLS, authentication, anonymous clients (config_security.c).
void config_check_security(struct checker *checker, struct config *config);

// Makes the paths relative to where the configuration is, not to where the broker runs (config_security.c). ERR_NO_MEMORY.
CHECK_RESULT enum status config_resolve_paths(struct config *config, const char *file);

// Adds an item to the list. ERR_NO_MEMORY, or ERR_INVALID when there are CONFIG_MAX_CERTIFICATES.
CHECK_RESULT enum status config_add_certificate(struct config_certificates *certificates,
                                                const struct config_certificate *item, struct error *error);

// ---- The tree of a YAML document (config_tree.c)

struct yaml_document_s;

// Fills the configuration from a document's root, and complains about all that is wrong in it. False when something is.
bool config_load_tree(struct config *config, const char *file, struct span text, struct yaml_document_s *document,
                      struct diagnostics *diagnostics);

enum { CONFIG_UNKNOWN_KEY_SIZE = 480 };  // holds the names of the largest section

// The message for a name that no key or section of `section` (NULL: the top) has. In a mapping the name has its path before
// it.
void config_unknown_key(const char *section, const char *name, char *out, size_t size);
