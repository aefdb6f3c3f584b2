// Addresses of brokers as URLs: mqtt://[user[:password]@]host[:port][/topic], ws://host[:port][/path], the same as mqtts://
// and wss:// with TLS, unix:///path. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum url_kind { URL_TCP, URL_WEBSOCKET, URL_UNIX, URL_HTTP };

enum { URL_PORT_MQTT = 1883, URL_PORT_MQTTS = 8883, URL_PORT_HTTP = 80, URL_PORT_HTTPS = 443 };

// All texts point into `memory`; those that the URL does not have are NULL.
struct url {
  char *memory;
  enum url_kind kind;
  bool tls;
  const char *user_name;
  const char *password;
  const char *host;   // without the brackets of IPv6
  uint16_t port;      // the scheme's when the URL has none
  const char *topic;  // URL_TCP
  const char *path;   // URL_WEBSOCKET and URL_HTTP: starts with '/'; URL_UNIX: of the socket
};

// Takes a URL apart; percent-escapes of user name, password and topic are resolved. ERR_INVALID with what is wrong.
CHECK_RESULT enum status url_parse(const char *text, struct url *out, struct error *error);
void url_deinit(struct url *url);
