// Addresses of brokers as URLs. See url.h.
#include "cli/url.h"

#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

static const struct {
  const char *scheme;
  enum url_kind kind;
  bool tls;
  uint16_t port;
} schemes[] = {
    {"mqtt", URL_TCP, false, URL_PORT_MQTT},      {"tcp", URL_TCP, false, URL_PORT_MQTT},
    {"mqtts", URL_TCP, true, URL_PORT_MQTTS},     {"ws", URL_WEBSOCKET, false, URL_PORT_HTTP},
    {"wss", URL_WEBSOCKET, true, URL_PORT_HTTPS}, {"unix", URL_UNIX, false, 0},
    {"http", URL_HTTP, false, URL_PORT_HTTP},
};

void url_deinit(struct url *url)
{
  free(url->memory);
  *url = (struct url){0};
}

static int hex_digit(char c)
{
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Resolves %41 in place. False for a broken escape, and for %00, which no C string can hold.
static bool unescape(char *text)
{
  char *out = text;
  for (char *at = text; *at; at++) {
    if (*at != '%') {
      *out++ = *at;
      continue;
    }
    int high = hex_digit(at[1]);
    int low = high < 0 ? -1 : hex_digit(at[2]);
    if (low < 0 || (high == 0 && low == 0)) return false;
    *out++ = (char)(high * 16 + low);
    at += 2;
  }
  *out = '\0';
  return true;
}

static enum status split_user(char *text, struct url *url, struct error *error)
{
  char *colon = strchr(text, ':');
  if (colon) *colon = '\0';
  if (!unescape(text) || (colon && !unescape(colon + 1)))
    return error_set(error, ERR_INVALID, "a percent sign that is not followed by two hexadecimal digits");
  url->user_name = text;
  if (colon) url->password = colon + 1;
  return OK;
}

// host, host:port, [v6], [v6]:port
static enum status split_host(char *text, struct url *url, struct error *error)
{
  char *host = text;
  char *port = NULL;
  if (text[0] == '[') {
    char *end = strchr(text, ']');
    if (!end) return error_set(error, ERR_INVALID, "\"[\" of an IPv6 address without \"]\"");
    *end = '\0';
    host = text + 1;
    if (end[1] == ':')
      port = end + 2;
    else if (end[1] != '\0')
      return error_set(error, ERR_INVALID, "\"%s\" behind the IPv6 address", end + 1);
  } else {
    port = strchr(text, ':');
    if (port) *port++ = '\0';
    if (port && strchr(port, ':')) return error_set(error, ERR_INVALID, "write an IPv6 address in brackets: [::1]:1883");
  }
  if (host[0] == '\0') return error_set(error, ERR_INVALID, "the host is missing");
  url->host = host;
  if (!port) return OK;
  uint64_t number = 0;
  enum status status = option_parse_uint(port, 1, UINT16_MAX, &number, error);
  if (status != OK) return error_prefix(error, "port");
  url->port = (uint16_t)number;
  return OK;
}

static enum status split_authority(char *text, struct url *url, struct error *error)
{
  char *at = strrchr(text, '@');
  if (at) {
    *at = '\0';
    enum status status = split_user(text, url, error);
    if (status != OK) return status;
    text = at + 1;
  }
  return split_host(text, url, error);
}

static enum status split_rest(char *text, struct url *url, struct error *error)
{
  if (url->kind == URL_UNIX) {
    if (text[0] != '/') return error_set(error, ERR_INVALID, "a socket's path is absolute: unix:///run/skerry/broker.sock");
    url->path = text;
    return OK;
  }
  char *slash = strchr(text, '/');
  char *path = slash;
  if (slash) {
    // The path keeps its slash: the authority is moved one byte to the front, over a slash of "://".
    size_t size = (size_t)(slash - text);
    memmove(text - 1, text, size);
    text--;
    text[size] = '\0';
  }
  enum status status = split_authority(text, url, error);
  if (status != OK) return status;
  if (url->kind != URL_TCP) {
    url->path = path;
    return OK;
  }
  if (path && path[1] != '\0') {
    if (!unescape(path + 1))
      return error_set(error, ERR_INVALID, "a percent sign that is not followed by two hexadecimal digits");
    url->topic = path + 1;
  }
  return OK;
}

static enum status parse(char *text, struct url *url, struct error *error)
{
  char *colon = strstr(text, "://");
  if (!colon)
    return error_set(error, ERR_INVALID,
                     "no scheme; write mqtts://host, mqtt://host, wss://host/path, ws://host/path or unix:///path");
  *colon = '\0';
  for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
    if (strcmp(text, schemes[i].scheme) != 0) continue;
    url->kind = schemes[i].kind;
    url->tls = schemes[i].tls;
    url->port = schemes[i].port;
    return split_rest(colon + 3, url, error);
  }
  return error_set(error, ERR_INVALID, "unknown scheme \"%s\"; known are mqtts, mqtt, wss, ws and unix", text);
}

enum status url_parse(const char *text, struct url *out, struct error *error)
{
  struct url url = {.memory = strdup(text)};
  if (!url.memory) return error_set(error, ERR_NO_MEMORY, "out of memory");
  enum status status = parse(url.memory, &url, error);
  if (status != OK) {
    url_deinit(&url);
    return error_prefix(error, "\"%s\"", text);
  }
  *out = url;
  return OK;
}
