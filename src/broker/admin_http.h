// The broker's small HTTP server on the control thread: GET /metrics and GET /healthz. libevent's evhttp.
#pragma once

#include "base/error.h"
#include "broker/status_view.h"

struct event_base;
struct admin_http;

// Fills a view; called for each request, on the control thread.
typedef void admin_view(void *context, struct status_view *out);

// Listens on host:port (host NULL: all addresses). The error says which address and why.
CHECK_RESULT enum status admin_http_open(struct event_base *base, const char *host, uint16_t port, admin_view *view,
                                         void *context, struct admin_http **out, struct error *error);
void admin_http_close(struct admin_http *http);  // NULL is harmless
