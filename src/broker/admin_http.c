// The admin HTTP server: evhttp with a socket of our own, so that TCP_NODELAY is on and errors say what failed. One callback
// answers everything. No TLS and no authentication: for this host, and for networks that may see what it says.
#include "broker/admin_http.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "broker/metrics.h"
#include "net/tcp_listen.h"

enum {
  BACKLOG = 64,
  HOST_SHOWN = 255,
  MAX_HEADER_BYTES = 8192,
  MAX_BODY_BYTES = 1024,  // nobody needs one
  TIMEOUT_S = 30,         // without a byte read or written
  ACCEPT_PAUSE_MS = 100,  // after an error such as EMFILE
  DAY_S = 24 * 3600,
};

struct admin_http {
  struct evhttp *server;
  struct evconnlistener *listener;  // the server's
  struct event *again;              // accepting has failed: goes on with it
  admin_view *view;
  void *context;
};

// ---- Listening

static enum status open_socket(const char *host, uint16_t port, int *out_fd, struct error *error)
{
  char name[HOST_SHOWN + 16];
  bool brackets = host && strchr(host, ':');
  snprintf(name, sizeof name, "%s%.*s%s:%u", brackets ? "[" : "", HOST_SHOWN, host ? host : "*", brackets ? "]" : "", port);
  return tcp_listen(&(struct tcp_listen){.name = name, .host = host, .port = port, .backlog = BACKLOG}, out_fd, error);
}

// ---- Without descriptors

// Always armed, for this is how accept_failed finds it: what libevent tells there is its own.
static void arm_again(struct admin_http *http, struct timeval in)
{
  event_add(http->again, &in);
}

static void accept_again(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  struct admin_http *http = context;
  evconnlistener_enable(http->listener);
  arm_again(http, (struct timeval){.tv_sec = DAY_S});
}

struct search {
  const struct evconnlistener *listener;
  struct admin_http *found;
};

static int is_of(const struct event_base *base, const struct event *event, void *context)
{
  (void)base;
  struct search *search = context;
  if (event_get_callback(event) != accept_again) return 0;
  struct admin_http *http = event_get_callback_arg(event);
  if (http->listener == search->listener) search->found = http;
  return search->found != NULL;
}

// Who waits to be accepted must not wake this thread, and be told of in the log, all the time.
static void accept_failed(struct evconnlistener *listener, void *server)
{
  (void)server;
  struct search search = {.listener = listener};
  (void)event_base_foreach_event(evconnlistener_get_base(listener), is_of, &search);
  if (!search.found) return;
  evconnlistener_disable(listener);
  arm_again(search.found, (struct timeval){.tv_usec = ACCEPT_PAUSE_MS * 1000});
}

// ---- Answering

static void set_header(struct evhttp_request *request, const char *name, const char *value)
{
  // A header that does not fit into memory is left out: the answer is still right.
  (void)evhttp_add_header(evhttp_request_get_output_headers(request), name, value);
}

// The answer to HEAD tells the length of the body and leaves the body out; evhttp does neither by itself.
static void answer(struct evhttp_request *request, int code, const char *reason, const char *type, struct span body)
{
  bool head = evhttp_request_get_command(request) == EVHTTP_REQ_HEAD;
  struct evbuffer *bytes = evbuffer_new();
  if (!bytes || (!head && evbuffer_add(bytes, body.at, body.size) < 0)) {
    if (bytes) evbuffer_free(bytes);
    evhttp_send_error(request, HTTP_SERVUNAVAIL, NULL);
    return;
  }
  char length[24];
  snprintf(length, sizeof length, "%zu", body.size);
  set_header(request, "Content-Length", length);
  set_header(request, "Content-Type", type);
  set_header(request, "Cache-Control", "no-store");
  set_header(request, "X-Content-Type-Options", "nosniff");
  evhttp_send_reply(request, code, reason, bytes);
  evbuffer_free(bytes);
}

static void answer_text(struct evhttp_request *request, int code, const char *reason, const char *text)
{
  answer(request, code, reason, "text/plain; charset=utf-8", span_text(text));
}

static void answer_metrics(struct evhttp_request *request, const struct status_view *view)
{
  struct buffer text;
  buffer_init(&text);
  if (metrics_format(view, &text) == OK)
    answer(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", buffer_peek(&text));
  else
    answer_text(request, HTTP_SERVUNAVAIL, "Service Unavailable", "out of memory\n");
  buffer_deinit(&text);
}

// A broker whose journal is full or failing goes on serving, and no restart would help it: that is not an error status.
static void answer_health(struct evhttp_request *request, const struct status_view *view)
{
  char text[64];
  if (!view->ready) {
    answer_text(request, HTTP_SERVUNAVAIL, "Service Unavailable", "starting\n");
  } else if (view->has_journal && view->journal_state != JOURNAL_OK) {
    snprintf(text, sizeof text, "degraded: journal %s\n", journal_state_name(view->journal_state));
    answer_text(request, HTTP_OK, "OK", text);
  } else {
    answer_text(request, HTTP_OK, "OK", "ok\n");
  }
}

static void handle(struct evhttp_request *request, void *argument)
{
  struct admin_http *http = argument;
  enum evhttp_cmd_type method = evhttp_request_get_command(request);
  if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
    set_header(request, "Allow", "GET, HEAD");
    answer_text(request, HTTP_BADMETHOD, "Method Not Allowed", "only GET and HEAD\n");
    return;
  }
  const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
  const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
  if (!path || path[0] == '\0') path = "/";
  if (strcmp(path, "/") == 0) {
    answer_text(request, HTTP_OK, "OK", "/metrics  for Prometheus\n/healthz  whether every listener accepts connections\n");
    return;
  }
  bool metrics = strcmp(path, "/metrics") == 0;
  if (!metrics && strcmp(path, "/healthz") != 0) {
    answer_text(request, HTTP_NOTFOUND, "Not Found", "there is /metrics and /healthz\n");
    return;
  }
  struct status_view view = {.version = "", .broker_id = ""};
  http->view(http->context, &view);
  if (metrics)
    answer_metrics(request, &view);
  else
    answer_health(request, &view);
}

// ---- Opening and closing

enum status admin_http_open(struct event_base *base, const char *host, uint16_t port, admin_view *view, void *context,
                            struct admin_http **out, struct error *error)
{
  assert(view);
  int fd = -1;
  enum status status = open_socket(host, port, &fd, error);
  if (status != OK) return status;
  struct admin_http *http = calloc(1, sizeof *http);
  struct evhttp *server = http ? evhttp_new(base) : NULL;
  struct evhttp_bound_socket *bound = server ? evhttp_accept_socket_with_handle(server, fd) : NULL;
  struct event *again = bound ? event_new(base, -1, 0, accept_again, http) : NULL;
  if (!again) {
    if (server) evhttp_free(server);
    free(http);
    if (!bound) close(fd);
    return error_set(error, ERR_NO_MEMORY, "%s:%u: out of memory", host ? host : "*", port);
  }
  *http = (struct admin_http){.server = server,
                              .listener = evhttp_bound_socket_get_listener(bound),
                              .again = again,
                              .view = view,
                              .context = context};
  arm_again(http, (struct timeval){.tv_sec = DAY_S});
  evconnlistener_set_error_cb(http->listener, accept_failed);
  evhttp_set_max_headers_size(server, MAX_HEADER_BYTES);
  evhttp_set_max_body_size(server, MAX_BODY_BYTES);
  evhttp_set_timeout(server, TIMEOUT_S);
  // All of them, because evhttp would answer 501 to the others, and 405 is what they deserve.
  evhttp_set_allowed_methods(server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                         EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_PATCH);
  evhttp_set_gencb(server, handle, http);
  *out = http;
  return OK;
}

void admin_http_close(struct admin_http *http)
{
  if (!http) return;
  event_free(http->again);
  evhttp_free(http->server);
  free(http);
}
