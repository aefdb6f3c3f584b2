#include "broker/listen_address.h"

#include <stdlib.h>
#include <string.h>

#include "base/span.h"
#include "wire/ip_text.h"

void listen_address_deinit(struct listen_address *address)
{
  free(address->text);
  free(address->host);
  free(address->path);
  *address = (struct listen_address){0};
}

static char *copy_span(struct span text)
{
  return strndup((const char *)text.at, text.size);
}

static bool host_character(uint8_t c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

// Digits and dots only: meant as an IPv4 address, not as a name.
static bool looks_like_ipv4(struct span host)
{
  for (size_t i = 0; i < host.size; i++)
    if (host.at[i] != '.' && (host.at[i] < '0' || host.at[i] > '9')) return false;
  return true;
}

static enum status check_host(struct span host, bool in_brackets, struct error *error)
{
  uint8_t address[IPV6_SIZE];
  int size = host.size < 64 ? (int)host.size : 64;
  if (in_brackets) {
    const uint8_t *zone = memchr(host.at, '%', host.size);
    struct span digits = zone ? span_of(host.at, (size_t)(zone - host.at)) : host;
    if (ipv6_parse(digits, address) && (!zone || digits.size + 1 < host.size)) return OK;
    return error_set(error, ERR_INVALID, "\"%.*s\" is not an IPv6 address; write one such as [::1]", size,
                     (const char *)host.at);
  }
  if (looks_like_ipv4(host) && !ipv4_parse(host, address))
    return error_set(error, ERR_INVALID, "\"%.*s\" is not an IPv4 address; write one such as 127.0.0.1", size,
                     (const char *)host.at);
  if (memchr(host.at, ':', host.size))
    return error_set(error, ERR_INVALID,
                     "\"%.*s\" has too many colons; write IPv6 addresses in brackets, such as [::1]:1883", size,
                     (const char *)host.at);
  for (size_t i = 0; i < host.size; i++)
    if (!host_character(host.at[i]))
      return error_set(error, ERR_INVALID, "\"%.*s\" is not a host; write an address or a name", size,
                       (const char *)host.at);
  return OK;
}

static enum status parse_port(struct span text, uint16_t *out, struct error *error)
{
  unsigned value = 0;
  bool valid = text.size > 0 && text.size <= 5;
  for (size_t i = 0; valid && i < text.size; i++) {
    valid = text.at[i] >= '0' && text.at[i] <= '9';
    value = value * 10 + (text.at[i] - '0');
  }
  if (!valid || value > UINT16_MAX)
    return error_set(error, ERR_INVALID, "\"%.*s\" is not a port; write a number from 1 to 65535, or 0 for any free one",
                     text.size < 64 ? (int)text.size : 64, (const char *)text.at);
  *out = (uint16_t)value;
  return OK;
}

// "host", "host:port", "[v6]:port", "*:port", ":port". `default_port` < 0: the port must be there.
static enum status parse_authority(struct span text, int default_port, struct listen_address *out, struct error *error)
{
  struct span host = text;
  struct span port = {0};
  bool has_port = false;
  bool in_brackets = text.size && text.at[0] == '[';
  if (in_brackets) {
    const uint8_t *end = memchr(text.at, ']', text.size);
    if (!end) return error_set(error, ERR_INVALID, "the bracket of the IPv6 address is not closed; write [::1]:1883");
    host = span_of(text.at + 1, (size_t)(end - text.at) - 1);
    port = span_from(text, host.size + 2);
    has_port = port.size > 0;
    if (has_port && port.at[0] != ':') return error_set(error, ERR_INVALID, "a port goes behind a colon; write [::1]:1883");
  } else {
    const uint8_t *colon = text.at ? memrchr(text.at, ':', text.size) : NULL;
    has_port = colon != NULL;
    if (colon) {
      host.size = (size_t)(colon - text.at);
      port = span_from(text, host.size);
    }
  }
  if (!has_port && default_port < 0)
    return error_set(error, ERR_INVALID, "the port is missing; write host:port, such as 127.0.0.1:9100");
  out->port = (uint16_t)default_port;
  if (has_port && parse_port(span_from(port, 1), &out->port, error)) return error->status;
  bool any = !in_brackets && (host.size == 0 || span_equal(host, span_text("*")));
  if (any) return OK;
  if (check_host(host, in_brackets, error)) return error->status;
  out->host = copy_span(host);
  return out->host ? OK : error_set(error, ERR_NO_MEMORY, "out of memory");
}

static enum status parse_path(struct span path, struct listen_address *out, struct error *error)
{
  for (size_t i = 0; i < path.size; i++)
    if (path.at[i] <= ' ' || path.at[i] > '~' || path.at[i] == '?' || path.at[i] == '#')
      return error_set(error, ERR_INVALID, "the path holds a character that a URL's path cannot have");
  out->path = copy_span(path);
  return out->path ? OK : error_set(error, ERR_NO_MEMORY, "out of memory");
}

static enum status parse_network_url(struct span rest, struct listen_address *out, struct error *error)
{
  const uint8_t *slash = rest.size ? memchr(rest.at, '/', rest.size) : NULL;
  struct span authority = slash ? span_of(rest.at, (size_t)(slash - rest.at)) : rest;
  struct span path = span_from(rest, authority.size);
  if (authority.size && memchr(authority.at, '@', authority.size))
    return error_set(error, ERR_INVALID, "a listener's URL holds no user name; write mqtt://host:port");
  bool websocket = out->kind == LISTEN_WEBSOCKET;
  if (!websocket && path.size > 0 && !span_equal(path, span_text("/")))
    return error_set(error, ERR_INVALID, "an mqtt URL has no path; write mqtt://host:port, or ws://host:port/path");
  if (websocket && path.size && parse_path(path, out, error)) return error->status;
  int plain = websocket ? LISTEN_PORT_WEBSOCKET : LISTEN_PORT_MQTT;
  int secure = websocket ? LISTEN_PORT_WEBSOCKETS : LISTEN_PORT_MQTTS;
  return parse_authority(authority, out->tls ? secure : plain, out, error);
}

static enum status parse_local_url(struct span rest, struct listen_address *out, struct error *error)
{
  if (out->kind == LISTEN_SYSTEMD) {
    for (size_t i = 0; i < rest.size; i++)
      if (rest.at[i] <= ' ' || rest.at[i] > '~' || rest.at[i] == ':' || rest.at[i] == '/')
        return error_set(error, ERR_INVALID, "the name of a passed socket has no spaces, colons or slashes");
    if (rest.size == 0)
      return error_set(error, ERR_INVALID,
                       "the name of the passed socket is missing; write systemd://name as in FileDescriptorName=name");
  } else if (rest.size == 0 || rest.at[rest.size - 1] == '/') {
    return error_set(error, ERR_INVALID, "the path of the socket is missing; write unix:///run/skerry/broker.sock");
  } else if (rest.size > LISTEN_UNIX_PATH_MAX) {
    return error_set(error, ERR_INVALID, "the path of the socket has %zu bytes; the system takes at most %d", rest.size,
                     LISTEN_UNIX_PATH_MAX);
  }
  out->path = copy_span(rest);
  return out->path ? OK : error_set(error, ERR_NO_MEMORY, "out of memory");
}

static bool has_scheme(struct span *text, const char *scheme)
{
  struct span wanted = span_text(scheme);
  if (text->size < wanted.size || memcmp(text->at, wanted.at, wanted.size) != 0) return false;
  *text = span_from(*text, wanted.size);
  return true;
}

static enum status parse_into(const char *text, struct listen_address *out, struct error *error)
{
  struct span rest = span_text(text);
  out->tls = strncmp(text, "mqtts:", 6) == 0 || strncmp(text, "wss:", 4) == 0;
  if (has_scheme(&rest, "mqtt://") || has_scheme(&rest, "mqtts://"))
    out->kind = LISTEN_TCP;
  else if (has_scheme(&rest, "ws://") || has_scheme(&rest, "wss://"))
    out->kind = LISTEN_WEBSOCKET;
  else if (has_scheme(&rest, "unix://"))
    out->kind = LISTEN_UNIX;
  else if (has_scheme(&rest, "systemd://"))
    out->kind = LISTEN_SYSTEMD;
  else if (has_scheme(&rest, "tcp://"))
    return error_set(error, ERR_INVALID, "\"tcp\" is not a known scheme; write mqtt://host:port");
  else
    return error_set(error, ERR_INVALID,
                     "\"%.64s\" is not a URL; write mqtt://host:port, ws://host:port/path, unix:///path or "
                     "systemd://name",
                     text);
  if (out->kind == LISTEN_TCP || out->kind == LISTEN_WEBSOCKET) return parse_network_url(rest, out, error);
  return parse_local_url(rest, out, error);
}

// Completes or undoes what a parser has built.
static enum status finish(enum status status, const char *text, struct listen_address *built, struct listen_address *out,
                          struct error *error)
{
  if (status == OK && !(built->text = strdup(text))) status = error_set(error, ERR_NO_MEMORY, "out of memory");
  if (status == OK)
    *out = *built;
  else
    listen_address_deinit(built);
  return status;
}

enum status listen_url_parse(const char *text, struct listen_address *out, struct error *error)
{
  struct listen_address built = {0};
  return finish(parse_into(text, &built, error), text, &built, out, error);
}

enum status listen_host_port_parse(const char *text, struct listen_address *out, struct error *error)
{
  struct listen_address built = {.kind = LISTEN_TCP};
  enum status status;
  if (strstr(text, "://") || strchr(text, '/'))
    status = error_set(error, ERR_INVALID,
                       "\"%.64s\" is not host:port; write it without scheme and path, such as 127.0.0.1:9100", text);
  else
    status = parse_authority(span_text(text), -1, &built, error);
  return finish(status, text, &built, out, error);
}

// ---- Questions about addresses

enum { FAMILY_V4 = 1, FAMILY_V6 = 2 };

// An address in a form that can be compared: IPv4 is mapped into IPv6, names stay names.
struct resolved {
  unsigned families;  // that it takes connections of
  bool any;           // every address of these families
  bool literal;
  uint8_t bytes[IPV6_SIZE];
};

static struct resolved resolve(const struct listen_address *address, bool ipv6_only)
{
  struct resolved resolved = {.families = ipv6_only ? FAMILY_V6 : FAMILY_V4 | FAMILY_V6};
  if (!address->host) {
    resolved.any = true;
    return resolved;
  }
  static const uint8_t none[IPV6_SIZE] = {0};
  uint8_t v4[IPV4_SIZE];
  if (ipv4_parse(span_text(address->host), v4)) {
    resolved.literal = true;
    resolved.families = FAMILY_V4;
    resolved.any = memcmp(v4, none, sizeof v4) == 0;
    resolved.bytes[10] = resolved.bytes[11] = 0xff;
    memcpy(resolved.bytes + 12, v4, sizeof v4);
    return resolved;
  }
  struct span text = span_text(address->host);
  const uint8_t *zone = memchr(text.at, '%', text.size);
  if (zone) text.size = (size_t)(zone - text.at);
  resolved.literal = ipv6_parse(text, resolved.bytes);
  resolved.any = resolved.literal && memcmp(resolved.bytes, none, sizeof none) == 0;
  if (resolved.literal && !resolved.any) resolved.families = FAMILY_V6;
  return resolved;
}

bool listen_address_local(const struct listen_address *address)
{
  if (address->kind == LISTEN_UNIX) return true;
  if (address->kind == LISTEN_SYSTEMD || !address->host) return false;
  if (strcasecmp(address->host, "localhost") == 0) return true;
  static const uint8_t loopback[IPV6_SIZE] = {[15] = 1};
  struct resolved resolved = resolve(address, false);
  if (!resolved.literal) return false;
  if (resolved.families == FAMILY_V4) return resolved.bytes[12] == 127;
  return memcmp(resolved.bytes, loopback, sizeof loopback) == 0;
}

bool listen_address_clashes(const struct listen_address *a, bool a_ipv6_only, const struct listen_address *b,
                            bool b_ipv6_only)
{
  bool a_local = a->kind == LISTEN_UNIX || a->kind == LISTEN_SYSTEMD;
  bool b_local = b->kind == LISTEN_UNIX || b->kind == LISTEN_SYSTEMD;
  if (a_local || b_local) return a->kind == b->kind && strcmp(a->path, b->path) == 0;
  if (a->port != b->port || a->port == 0) return false;
  struct resolved one = resolve(a, a_ipv6_only);
  struct resolved two = resolve(b, b_ipv6_only);
  if ((one.families & two.families) == 0) return false;
  if (one.any || two.any) return true;
  if (one.literal && two.literal && strcmp(a->host, b->host) != 0 && (strchr(a->host, '%') || strchr(b->host, '%')))
    return false;  // the same link-local address on two links
  if (one.literal && two.literal) return memcmp(one.bytes, two.bytes, sizeof one.bytes) == 0;
  return strcasecmp(a->host, b->host) == 0;
}
