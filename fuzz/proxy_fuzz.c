// A PROXY protocol header. A cut one is never taken for a whole or a wrong one, and what it says can be written.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ip_text.h"
#include "wire/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

static void check_source(const struct proxy_source *source)
{
  char text[PROXY_MAX_TEXT];
  size_t size = proxy_format_source(source, text);
  check(size == strlen(text));
  uint8_t address[IPV6_SIZE];
  if (source->family == PROXY_IPV6) {
    const char *end = strrchr(text, ']');
    check(end != NULL);
    check(ipv6_parse(span_of(text + 1, (size_t)(end - text) - 1), address));
    check(memcmp(address, source->address, IPV6_SIZE) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct proxy_source source;
  size_t header = 0;
  enum proxy_result result = proxy_parse(span_of(data, size), &header, &source);
  if (result == PROXY_INCOMPLETE) check(size < PROXY_MAX_V2);
  if (result != PROXY_OK) return 0;
  check(header > 0);
  check(header <= size);
  check_source(&source);
  for (size_t cut = 0; cut < header; cut++) {
    uint8_t *bytes = malloc(cut ? cut : 1);
    check(bytes != NULL);
    if (cut) memcpy(bytes, data, cut);
    struct proxy_source early;
    size_t unused;
    check(proxy_parse(span_of(bytes, cut), &unused, &early) == PROXY_INCOMPLETE);
    free(bytes);
  }
  return 0;
}
