// A configuration file, and what follows a line "--set" as overrides. Whatever is refused says why; whatever is accepted
// differs in nothing from itself.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SETTINGS = 8 };

static const char separator[] = "\n--set\n";

static void check(bool condition)
{
  if (!condition) abort();
}

// Cuts `text` into lines in place.
static size_t split_lines(char *text, const char *lines[MAX_SETTINGS])
{
  size_t count = 0;
  char *rest = NULL;
  for (char *line = strtok_r(text, "\n", &rest); line && count < MAX_SETTINGS; line = strtok_r(NULL, "\n", &rest))
    lines[count++] = line;
  return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *lines[MAX_SETTINGS];
  const uint8_t *found = memmem(data, size, separator, sizeof separator - 1);
  size_t file_size = found ? (size_t)(found - data) : size;
  char *settings =
      found ? strndup((const char *)found + sizeof separator - 1, size - file_size - (sizeof separator - 1)) : NULL;
  size_t count = settings ? split_lines(settings, lines) : 0;

  struct config config;
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "fuzz.yaml", .settings = lines, .setting_count = count};
  enum status status = config_load_text(span_of(data, file_size), &source, &config, &diagnostics);
  if (status == OK) {
    struct config_changes changes;
    check(diagnostics.count == 0);
    check(config.listener_count > 0);
    check(config_diff(&config, &config, &changes) == OK);
    check(changes.count == 0);
    config_deinit(&config);
  } else {
    check(diagnostics.count > 0);
  }
  diagnostics_deinit(&diagnostics);
  free(settings);
  return 0;
}
